"""Hints in messages: what they recommend exists, and following them leads to a working state."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import skops.io
from scipy.sparse import csr_array
from sklearn.calibration import CalibratedClassifierCV
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier
from torch import nn
from torchjd import aggregation as torchjd

import sktransfer
from sktransfer import (
    DANN,
    Backbone,
    DomainAdaptationClassifier,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneTagger,
    ImageFeaturizer,
    LearningRateDisplay,
    MultiTaskFineTuner,
    PretrainedClassifier,
    TextFeaturizer,
    TokenFeaturizer,
    WordEmbedder,
    as_module,
    clear_cache,
    convert_scheme,
    export_onnx,
    featurize,
    find_invalid_tags,
    find_spans,
    load,
    load_backbone,
    load_conll,
    make_transfer_pipeline,
    merge_tasks,
    rank_backbones,
    save,
    save_conll,
)
from sktransfer.backbones import ImageStage
from sktransfer.pixels.masks import check_masks, check_sizes
from sktransfer.samples.images import check_images
from sktransfer.sentences.checks import check_sentences
from sktransfer.targets.table import read_tasks
from sktransfer.testing.samples import make_samples
from sktransfer.words.vectors import WordVectors

ROOT = Path(__file__).parents[2]
X, Y = make_samples("image", 12)
TEXTS, LABELS = make_samples("text", 12)
SENTENCES, PADDED = [["good", "film"], ["bad"]], np.array([["ADJ", "NOUN"], ["ADJ", ""]])
VECTORS = WordVectors(["a", "b"], np.eye(2, dtype=np.float32))
WORDS = sorted({word for text in TEXTS for word in re.findall(r"\w+", text.lower())})
EMBEDDER = WordEmbedder(WordVectors(WORDS, np.eye(len(WORDS), dtype=np.float32))).fit(TEXTS)
MASK = np.array([[0, 1, 1], [np.nan, 0, 1]])
PADDED_SPANS = np.array([["O", "<pad>"]])


def tag_file(folder):
    """Write a file of tagged words in another encoding than UTF-8."""
    path = folder / "a.conll"
    save_conll(path, [["caf\u00e9"]], [["O"]], encoding="latin-1")
    return path


def frame_of_texts():
    return pd.DataFrame({"text": TEXTS, "label": LABELS})


def texts_file(folder):
    """Write texts as a column of a file."""
    pd.DataFrame({"text": TEXTS}).to_csv(folder / "texts.csv", index=False)
    return folder / "texts.csv"


def several_tasks(**options):
    """Fit two tasks."""
    tuner = MultiTaskFineTuner("tiny/cnn", layer=-1, max_epochs=1, random_state=0, **options)
    return tuner.fit(X, {"kind": Y, "size": np.arange(12) / 7})


MISSING = [None] * 4


def two_domains(labels=MISSING, fit_params=None, **options):
    """Fit a source of eight samples and a target of four."""
    options = {"alignment": "coral", "max_epochs": 1, "random_state": 0, **options}
    y = [int(label == Y[0]) for label in Y[:8]]
    return DomainAdaptationClassifier("tiny/cnn", **options).fit(X, [*y, *labels], **(fit_params or {}))


def messages():
    """Yield the file and the text of all strings of errors and warnings, without their variable parts."""
    for path in [*(ROOT / "sktransfer").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield path, node.value


def test_messages_name_what_exists():
    n_names = 0
    for path, text in messages():
        for name in re.findall(r"\bsktransfer((?:\.[A-Za-z]\w*)+)(?=[ ,;:(`']|\.? |$)", text):
            parts = name.split(".")[1:]
            if parts[-1] in ("py", "md", "toml"):
                continue
            found = sktransfer
            for i, part in enumerate(parts, 1):
                if not hasattr(found, part):
                    importlib.import_module("sktransfer." + ".".join(parts[:i]))
                found = getattr(found, part)
            n_names += 1
        for option in re.findall(r"set_config\((\w+)=", text):
            assert option in sktransfer.get_config(), f"{path}: set_config has no {option}"
            n_names += 1
    assert n_names > 10


def own_backbone():
    rest = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Backbone.from_modules([("conv", nn.Conv2d(3, 4, 3)), ("rest", rest)])


def fitted(**parameters):
    return FineTuneClassifier(max_epochs=0, **parameters).fit(X, Y)


def piped(step):
    return make_pipeline(ImageFeaturizer(own_backbone()), step).fit(X, Y)


def text_network(stage):
    preprocess = load_backbone("tiny/bert").preprocess
    return Backbone.from_modules([("embedding", stage)], modality="text", preprocess=preprocess)


def pooling_network():
    preprocess = load_backbone("tiny/bert").preprocess
    embeddings = nn.Embedding(4096, 4)
    stages = [("embeddings", Stage(embeddings)), ("mean", Stage(lambda values: values.mean(1)))]
    return Backbone(name="mine/mean", modality="text", stages=stages, preprocess=preprocess, pooling="mean")


class Stage(nn.Module):
    """A function of values as a stage."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, values, mask):
        return self.function(values)


def save_tree(path, trusted=()):
    save(make_pipeline(ImageFeaturizer(), DecisionTreeClassifier()).fit(X, Y), path)
    return load(path, trusted=trusted).predict(X)


def transform_sizes(preprocess):
    return ImageFeaturizer(own_backbone(), batch_size=2, preprocess=preprocess).fit_transform(SIZES)


def doubled(features):
    return features * 2


SIZES = [np.zeros((8, 8, 3), np.uint8), np.zeros((9, 9, 3), np.uint8)]
DATES = pd.Series(pd.to_datetime(["2020-01-01", None, "2020-01-03"]))
MIXED = {"a": (TEXTS[:2], [1, 2]), "b": (TEXTS[2:4], ["1", "2"])}
# Message, the call that gives it, and the call that its hint recommends. Both take a folder for files.
HINTS = {
    "sizes": (
        r"Set preprocess=\{'resize': \(height, width\)\}",
        lambda folder: ImageFeaturizer(own_backbone(), batch_size=2).fit_transform(SIZES),
        lambda folder: ImageFeaturizer(own_backbone(), batch_size=2, preprocess={"resize": (8, 8)}).fit_transform(
            SIZES
        ),
    ),
    "stage of texts": (
        r"may be wrapped: sktransfer\.backbones\.ImageStage\(module\)",
        lambda folder: text_network(nn.Embedding(9, 4)),
        lambda folder: text_network(ImageStage(nn.Embedding(9, 4))),
    ),
    "cache": (
        r"For a folder of that name give '\./disk'",
        lambda folder: ImageFeaturizer(cache="disk").fit_transform(X),
        lambda folder: ImageFeaturizer(cache=f"{folder}/./disk").fit_transform(X),
    ),
    "clear_cache": (
        "Give 'memory', a folder or a URL",
        lambda folder: clear_cache(None),
        lambda folder: clear_cache("memory"),
    ),
    "path of a url": (
        "A Path is no URL, so give the string 'memory://hint'",
        lambda folder: ImageFeaturizer(cache=Path("memory://hint")).fit_transform(X),
        lambda folder: ImageFeaturizer(cache="memory://hint").fit_transform(X),
    ),
    "unknown scheme": (
        "'file:///mnt/folder/run'",
        lambda folder: ImageFeaturizer(cache=f"nosuch://{folder}/run").fit_transform(X),
        lambda folder: ImageFeaturizer(cache=f"file://{folder}/run").fit_transform(X),
    ),
    "no head": (
        "train one on your labels with FineTuneClassifier",
        lambda folder: PretrainedClassifier(own_backbone()).fit(X, Y),
        lambda folder: FineTuneClassifier(own_backbone(), max_epochs=0).fit(X, Y),
    ),
    "learning rates": (
        "fit it with lr='find' and an epoch or more",
        lambda folder: LearningRateDisplay.from_finder(fitted()),
        lambda folder: FineTuneClassifier(max_epochs=1, lr="find").fit(X, Y).lr_curve_,
    ),
    "subwords": (
        'or oov="auto"',
        lambda folder: WordEmbedder(VECTORS, oov="subword").fit(TEXTS),
        lambda folder: WordEmbedder(VECTORS, oov="auto").fit(TEXTS),
    ),
    "unknown word": (
        "oov='zero' or oov='skip'",
        lambda folder: WordEmbedder(VECTORS, oov="error").fit_transform(["a c"]),
        lambda folder: [WordEmbedder(VECTORS, oov=oov).fit_transform(["a c"]) for oov in ("zero", "skip")],
    ),
    "own modules": (
        "Or use joblib.dump",
        lambda folder: save(FineTuneClassifier(own_backbone(), max_epochs=0).fit(X, Y), folder / "a.skt"),
        lambda folder: joblib.dump(FineTuneClassifier(own_backbone(), max_epochs=0).fit(X, Y), folder / "a.joblib"),
    ),
    "lambda": (
        r"use joblib\.dump.*A function must have a name in a module \(no lambda\)",
        lambda folder: save(make_pipeline(ImageFeaturizer(), FunctionTransformer(lambda x: x)), folder / "a.skt"),
        lambda folder: joblib.dump(make_pipeline(ImageFeaturizer(), FunctionTransformer(doubled)), folder / "a.joblib"),
    ),
    "trusted": (
        r"load\(path, trusted=\['sklearn\.tree\._tree\.Tree'\]\)",
        lambda folder: save_tree(folder / "a.skt"),
        lambda folder: save_tree(folder / "a.skt", trusted=["sklearn.tree._tree.Tree"]),
    ),
    "folder as path": (
        r"such as '.*model\.skt'",
        lambda folder: save(ImageFeaturizer(), folder),
        lambda folder: save(ImageFeaturizer(), folder / "model.skt"),
    ),
    "partial_fit with early stopping": (
        "set early_stopping=False, or call fit",
        lambda folder: FineTuneClassifier(early_stopping=True).partial_fit(X, Y, classes=np.unique(Y)),
        lambda folder: FineTuneClassifier(early_stopping=False).partial_fit(X, Y, classes=np.unique(Y)),
    ),
    "partial_fit without classes": (
        "needs classes: all labels that will come",
        lambda folder: FineTuneClassifier().partial_fit(X, Y),
        lambda folder: FineTuneClassifier().partial_fit(X, Y, classes=np.unique(Y)),
    ),
    "head": (
        "or the head_ of a fitted estimator",
        lambda folder: fitted(head="mlp"),
        lambda folder: fitted(head=fitted().head_),
    ),
    "mixed layers": (
        "layer='all' concatenates them",
        lambda folder: FineTuneClassifier(layer="mix", max_epochs=1).fit(X, Y),
        lambda folder: fitted(layer="all"),
    ),
    "class means of numbers": (
        "use 'probe'",
        lambda folder: FineTuneRegressor(head_init="class_means").fit(X, np.arange(12.0)),
        lambda folder: FineTuneRegressor(head_init="probe", max_epochs=0).fit(X, np.arange(12.0)),
    ),
    "candidates": (
        r"a dict \{name: backbone\} tells them apart",
        lambda folder: rank_backbones([own_backbone(), own_backbone()], X, Y),
        lambda folder: rank_backbones({"a": own_backbone(), "b": own_backbone()}, X, Y),
    ),
    "indicators": (
        r"give \(np\.asarray\(y\) > 0\)\.astype\(int\)",
        lambda folder: fitted().fit(X, [[0, 2], [2, 0]] * 6),
        lambda folder: fitted().fit(X, (np.asarray([[0, 2], [2, 0]] * 6) > 0).astype(int)),
    ),
    "names of tasks": (
        r"y\.add_prefix\('y'\)",
        lambda folder: read_tasks(pd.DataFrame(np.eye(2))),
        lambda folder: read_tasks(pd.DataFrame(np.eye(2)).add_prefix("y")),
    ),
    "dates": (
        r"\(pd\.to_datetime\(dates, utc=True\) - pd\.Timestamp\(0, tz='UTC'\)\) / pd\.Timedelta\(days=1\)",
        lambda folder: read_tasks({"day": DATES}),
        lambda folder: read_tasks(
            {"day": (pd.to_datetime(DATES, utc=True) - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)}
        ),
    ),
    "several numbers": (
        "give the kind 'continuous' for numbers",
        lambda folder: read_tasks({"place": [[120, 44], [3, 5]]}),
        lambda folder: read_tasks({"place": [[120, 44], [3, 5]]}, {"place": "continuous"}),
    ),
    "types of labels": (
        r"labels=\{'b': \{'1': 1, '2': 2\}\}",
        lambda folder: merge_tasks(MIXED, task="kind"),
        lambda folder: merge_tasks(MIXED, {"b": {"1": 1, "2": 2}}, task="kind"),
    ),
    "several modules": (
        r"as in list\(network\.named_children\(\)\)",
        lambda folder: Backbone.from_modules(nn.Sequential(nn.Flatten())),
        lambda folder: Backbone.from_modules(list(nn.Sequential(nn.Flatten()).named_children())),
    ),
    "sparse images": (
        r"'\.toarray\(\)'|X\.toarray\(\)",
        lambda folder: ImageFeaturizer().fit(csr_array(np.eye(4))),
        lambda folder: ImageFeaturizer().fit(csr_array(np.eye(4)).toarray()),
    ),
    "dtype": (
        r"x\.astype\(np\.uint8\)",
        lambda folder: check_images((255 * np.asarray(X)).astype(np.int64)),
        lambda folder: check_images([x.astype(np.uint8) for x in (255 * np.asarray(X)).astype(np.int64)]),
    ),
    "integers 0 and 1": (
        r"x\.astype\(bool\)",
        lambda folder: check_images([np.eye(8, dtype=int)]),
        lambda folder: check_images([x.astype(bool) for x in [np.eye(8, dtype=int)]]),
    ),
    "floats to 255": (
        r"x / 255 for 8 bits",
        lambda folder: check_images(np.full((1, 8, 8), 200.0)),
        lambda folder: check_images([x / 255 for x in np.full((1, 8, 8), 200.0)]),
    ),
    "step without a module": (
        r"Use one of them|convert the steps before it, as_module\(pipeline\[:-1\]\)",
        lambda folder: as_module(piped(DecisionTreeClassifier())),
        lambda folder: as_module(piped(DecisionTreeClassifier())[:-1]),
    ),
    "module of a path": (
        r"pass sktransfer\.load\(",
        lambda folder: as_module(save(ImageFeaturizer("tiny/cnn").fit(X), folder / "a.skt") or folder / "a.skt"),
        lambda folder: as_module(
            sktransfer.load(save(ImageFeaturizer("tiny/cnn").fit(X), folder / "a.skt") or folder / "a.skt")
        ),
    ),
    "samples for a module": (
        r"module\(module\.preprocess\(X\)\)",
        lambda folder: as_module(ImageFeaturizer("tiny/cnn").fit(X))(X),
        lambda folder: (module := as_module(ImageFeaturizer("tiny/cnn").fit(X)))(module.preprocess(X)),
    ),
    "probabilities of a module": (
        r"CalibratedClassifierCV\(FrozenEstimator\(pipeline\)\) adds predict_proba",
        lambda folder: as_module(piped(LinearSVC()), output="probabilities"),
        lambda folder: as_module(
            CalibratedClassifierCV(FrozenEstimator(piped(LinearSVC()))).fit(X, Y), output="probabilities"
        ),
    ),
    "isotonic calibration": (
        "use method='sigmoid' or 'temperature'",
        lambda folder: as_module(piped(CalibratedClassifierCV(LinearSVC(), method="isotonic", cv=2))),
        lambda folder: as_module(piped(CalibratedClassifierCV(LinearSVC(), method="temperature", cv=2))),
    ),
    "size of images": (
        "pass X, a few images of the size",
        lambda folder: export_onnx(ImageFeaturizer(own_backbone()).fit(X), folder / "a.onnx"),
        lambda folder: export_onnx(ImageFeaturizer(own_backbone()).fit(X), folder / "a.onnx", X=X[:2]),
    ),
    "skops of own modules": (
        "use joblib.dump",
        lambda folder: skops.io.dump(ImageFeaturizer(own_backbone()).fit(X), folder / "a.skops"),
        lambda folder: joblib.dump(ImageFeaturizer(own_backbone()).fit(X), folder / "a.joblib"),
    ),
    "channels first": (
        r"move them, np\.moveaxis\(x, 0, -1\)",
        lambda folder: check_images(np.zeros((2, 3, 8, 9), np.uint8)),
        lambda folder: check_images([np.moveaxis(x, 0, -1) for x in np.zeros((2, 3, 8, 9), np.uint8)]),
    ),
    "texts as sentences": (
        r"\[x\.split\(\) for x in X\]",
        lambda folder: TokenFeaturizer().fit(TEXTS),
        lambda folder: TokenFeaturizer().fit([x.split() for x in TEXTS]),
    ),
    "words as sentences": (
        r"if X is one sentence, pass \[X\]",
        lambda folder: TokenFeaturizer().fit(["good", "film"]),
        lambda folder: TokenFeaturizer().fit([["good", "film"]]),
    ),
    "words with tags": (
        r"\[\[word\[0\] for word in x\] for x in X\]",
        lambda folder: TokenFeaturizer().fit([[("good", "ADJ")]]),
        lambda folder: TokenFeaturizer().fit([[word[0] for word in x] for x in [[("good", "ADJ")]]]),
    ),
    "array of words": (
        r"pass \[list\(x\) for x in X\]",
        lambda folder: TokenFeaturizer().fit(np.array([["good", "film"]])),
        lambda folder: TokenFeaturizer().fit([list(x) for x in np.array([["good", "film"]])]),
    ),
    "padded tags": (
        r"without padding, \[list\(tags\[:len\(words\)\]\) for words, tags in zip\(X, y\)\]",
        lambda folder: TokenFeaturizer().fit(SENTENCES, PADDED),
        lambda folder: TokenFeaturizer().fit(SENTENCES, [list(t[: len(x)]) for x, t in zip(SENTENCES, PADDED)]),
    ),
    "layer that pools": (
        "set layer to a stage before those that pool",
        lambda folder: TokenFeaturizer(pooling_network(), layer=-1).fit(SENTENCES),
        lambda folder: TokenFeaturizer(pooling_network(), layer=0).fit(SENTENCES),
    ),
    "module of words": (
        r"as_module\(TextFeaturizer\(featurizer\.backbone_, layer=-1\)\.fit\(texts\)\)",
        lambda folder: as_module(TokenFeaturizer(layer=1).fit(SENTENCES)),
        lambda folder: as_module(TextFeaturizer(load_backbone("tiny/bert"), layer=-1).fit(TEXTS)),
    ),
    "tags of several types": (
        r"pass \[\[str\(tag\) for tag in tags\] for tags in y\]",
        lambda folder: FineTuneTagger(max_epochs=0).fit([["a", "b"]], [["X", 3]]),
        lambda folder: FineTuneTagger(max_epochs=0).fit([["a", "b"]], [[str(tag) for tag in ["X", 3]]]),
    ),
    "decode without spans": (
        "set decode='argmax'",
        lambda folder: FineTuneTagger(max_epochs=0, decode="iob2").fit([["a", "b"]], [["X", "Y"]]),
        lambda folder: FineTuneTagger(max_epochs=0, decode="argmax").fit([["a", "b"]], [["X", "Y"]]),
    ),
    "weight of no task": (
        r"names the task 'kin'.*Did you mean 'kind'",
        lambda folder: several_tasks(task_weights={"kin": 0.5}),
        lambda folder: several_tasks(task_weights={"kind": 0.5}),
    ),
    "no share": (
        r"no share for the task 'size'; give it one, or 0",
        lambda folder: several_tasks(task_sampling={"kind": 1}),
        lambda folder: several_tasks(task_sampling={"kind": 1, "size": 0}),
    ),
    "aggregator without stages": (
        "leaves none to train; freeze fewer, or leave aggregator out",
        lambda folder: several_tasks(aggregator=torchjd.MGDA(), freeze_depth="all"),
        lambda folder: several_tasks(aggregator=torchjd.MGDA(), freeze_depth=-1),
    ),
    "one sentence of tags": (
        r"for a single sentence pass \[y\]",
        lambda folder: find_spans(["B-PER", "O"]),
        lambda folder: find_spans([["B-PER", "O"]]),
    ),
    "padded tags of spans": (
        r"\[row\[:len\(words\)\] for words, row in zip\(X, y\.tolist\(\)\)\]",
        lambda folder: find_spans(PADDED_SPANS),
        lambda folder: find_spans(
            [row[: len(words)] for words, row in zip([["a"]], PADDED_SPANS.tolist(), strict=True)]
        ),
    ),
    "tags that break a scheme": (
        r"find_invalid_tags\(y, 'IOB2'\) lists all such tags, and invalid='repair' reads",
        lambda folder: convert_scheme([["I-PER"]], "IOB2", "BIOES"),
        lambda folder: (
            find_invalid_tags([["I-PER"]], "IOB2"),
            convert_scheme([["I-PER"]], "IOB2", "BIOES", invalid="repair"),
        ),
    ),
    "encoding of a file of tags": (
        "pass the encoding of the file, such as encoding='latin-1'",
        lambda folder: load_conll(tag_file(folder)),
        lambda folder: load_conll(tag_file(folder), encoding="latin-1"),
    ),
    "names of columns of a file of tags": (
        r"name all columns by columns=\[\.\.\.\], or give a position",
        lambda folder: load_conll(tag_file(folder), tags="tag", encoding="latin-1"),
        lambda folder: load_conll(tag_file(folder), tags="tag", columns=["word", "tag"], encoding="latin-1"),
    ),
    "documents of a file of tags": (
        "pass return_groups=False",
        lambda folder: load_conll(tag_file(folder), return_groups=True, encoding="latin-1"),
        lambda folder: load_conll(tag_file(folder), return_groups=False, encoding="latin-1"),
    ),
    "words as bytes": (
        r"\[\[word\.decode\(\) for word in x\] for x in X\]",
        lambda folder: check_sentences([[b"good"]]),
        lambda folder: check_sentences([[word.decode() for word in x] for x in [[b"good"]]]),
    ),
    "tags in a str": (
        r"\[one\.split\(\) for one in y\]",
        lambda folder: find_spans(["B-PER O"]),
        lambda folder: find_spans([one.split() for one in ["B-PER O"]]),
    ),
    "masks with NaN": (
        r"np\.where\(np\.isnan\(mask\), -1, mask\)\.astype\(int\)",
        lambda folder: check_masks([MASK]),
        lambda folder: check_masks([np.where(np.isnan(MASK), -1, MASK).astype(int)]),
    ),
    "masks with a channel": (
        r"pass mask\[\.\.\., 0\]",
        lambda folder: check_masks([np.ones((2, 3, 1), int)]),
        lambda folder: check_masks([np.ones((2, 3, 1), int)[..., 0]]),
    ),
    "masks with a map per class": (
        r"take mask\.argmax\(-1\)",
        lambda folder: check_masks([np.eye(2, dtype=int)[[[0, 1, 1], [1, 0, 0]]]]),
        lambda folder: check_masks([np.eye(2, dtype=int)[[[0, 1, 1], [1, 0, 0]]].argmax(-1)]),
    ),
    "transposed masks": (
        r"pass mask\.T",
        lambda folder: check_sizes([MASK], [(3, 2)]),
        lambda folder: check_sizes([MASK.T], [(3, 2)]),
    ),
    "alignment of frozen features": (
        "use 'adabn' or 'mcc'",
        lambda folder: two_domains(freeze_depth="all"),
        lambda folder: (
            two_domains(freeze_depth="all", alignment="adabn"),
            two_domains(freeze_depth="all", alignment="mcc"),
        ),
    ),
    "statistics of the target, continued": (
        "set warm_start=False, and pass backbone=clf.backbone_",
        lambda folder: two_domains(alignment="adabn", warm_start=True),
        lambda folder: FineTuneClassifier(two_domains(alignment="adabn").backbone_, max_epochs=1).fit(X, Y),
    ),
    "mask of the target": (
        r"np\.where\(mask, -1, 1\)",
        lambda folder: two_domains(fit_params={"sample_domain": np.arange(12) > 7}),
        lambda folder: two_domains(fit_params={"sample_domain": np.where(np.arange(12) > 7, -1, 1)}),
    ),
    "class of an alignment": (
        r"Give an instance, DANN\(\)",
        lambda folder: two_domains(alignment=DANN),
        lambda folder: two_domains(alignment=DANN()),
    ),
    "masked labels": (
        "A label of -1 is a label: replace it by NaN",
        lambda folder: two_domains(labels=[-1] * 4),
        lambda folder: two_domains(labels=[np.nan] * 4),
    ),
    "chunks of a path": (
        r"pandas\.read_csv\(path, chunksize=1000\)",
        lambda folder: featurize("texts.csv", EMBEDDER, folder / "a.npy"),
        lambda folder: featurize(pd.read_csv(texts_file(folder), chunksize=1000), EMBEDDER, folder / "a.npy"),
    ),
    "samples instead of chunks": (
        r"`\(texts\[i : i \+ 1000\] for i in range\(0, n, 1000\)\)`",
        lambda folder: featurize((text for text in TEXTS), EMBEDDER, folder / "a.npy"),
        lambda folder: featurize((TEXTS[i : i + 1000] for i in range(0, 12, 1000)), EMBEDDER, folder / "a.npy"),
    ),
    "other samples": (
        "Pass resume=False to write all again, or another out",
        lambda folder: (
            featurize(TEXTS, EMBEDDER, folder / "a.npy"),
            featurize(TEXTS[::-1], EMBEDDER, folder / "a.npy"),
        ),
        lambda folder: [
            featurize(TEXTS[::-1], EMBEDDER, folder / name, resume=resume)
            for name, resume in (("a.npy", False), ("b.npy", True))
        ],
    ),
    "kept columns of an array": (
        r"Choose a folder or a \.parquet file",
        lambda folder: featurize(frame_of_texts(), EMBEDDER, folder / "a.npy", keep="label"),
        lambda folder: [
            featurize(frame_of_texts(), EMBEDDER, folder / out, keep="label") for out in ("a.parquet", "a")
        ],
    ),
    "sparse features": (
        "Add a step that reduces them, such as TruncatedSVD",
        lambda folder: featurize(TEXTS, TfidfVectorizer().fit(TEXTS), folder / "a.npy"),
        lambda folder: featurize(TEXTS, make_pipeline(TfidfVectorizer(), TruncatedSVD(2)).fit(TEXTS), folder / "a.npy"),
    ),
    "class of an aggregator": (
        r"give an instance, MGDA\(\)",
        lambda folder: several_tasks(aggregator=torchjd.MGDA),
        lambda folder: several_tasks(aggregator=torchjd.MGDA()),
    ),
}


@pytest.mark.filterwarnings("ignore:.*is told to trust them:sktransfer.exceptions.SktransferWarning")
@pytest.mark.parametrize("name", HINTS)
def test_following_a_hint_works(name, tmp_path):
    message, provoke, follow = HINTS[name]
    with pytest.raises(Exception, match=message):
        provoke(tmp_path)
    follow(tmp_path)


NUMBERS = pd.DataFrame({"size": np.linspace(0, 1, 12), "shop": ["a", "b", "c"] * 4})
FAULTY_TABLES = {
    "X.loc[:, ~X.columns.duplicated()]": pd.concat([NUMBERS, NUMBERS], axis=1),
    "X.columns.map(str)": NUMBERS.set_axis([0, 1], axis=1),
    "X['size'].map(str)": NUMBERS.astype({"size": object}).replace({"size": {0.0: "none", 1.0: "none"}}),
    "X.drop(columns='shop')": NUMBERS,
    "kinds={'size': 'number'}": NUMBERS.assign(size=1.0),
    "estimator='classifier'": NUMBERS,
}


@pytest.mark.parametrize("hint", FAULTY_TABLES)
def test_hints_of_make_transfer_pipeline_lead_to_one(hint):
    X = FAULTY_TABLES[hint].copy()
    y = X["shop"] if "drop(" in hint else None if "estimator" in hint else LABELS
    if "kinds" in hint:
        X = X[["size"]]
    with pytest.raises(ValueError, match=re.escape(hint.replace("number", "text"))):
        make_transfer_pipeline(X, y)
    parameters = {"estimator": "classifier"} if "estimator" in hint else {}
    if "loc" in hint or "drop(" in hint:
        X = eval(hint)
    elif "columns" in hint:
        X.columns = eval(hint)
    elif "map" in hint:
        X["size"] = eval(hint)
    elif "kinds" in hint:
        parameters = {"kinds": {"size": "number"}}
    make_transfer_pipeline(X, y, **parameters).fit(X, LABELS if y is None else y)
