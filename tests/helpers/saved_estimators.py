"""Fitted estimators of every kind that can be saved, with samples and the method to compare."""

from __future__ import annotations

import functools
import json
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import peft
from safetensors.torch import save_file
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import EarlyStopping, GradientNormClipping

from sktransfer import (
    DANN,
    EMA,
    Backbone,
    BestBackbone,
    ContrastiveFineTuner,
    DomainAdaptationClassifier,
    DropoutViews,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneSegmenter,
    FineTuneTagger,
    ImageFeaturizer,
    JoinedFeaturizer,
    MultiTaskFineTuner,
    NearestClassMean,
    PretrainedClassifier,
    SelfSupervisedTuner,
    TextFeaturizer,
    TokenFeaturizer,
    WordEmbedder,
    ZeroShotClassifier,
    clear_cache,
    load_backbone,
    load_vectors,
    make_transfer_pipeline,
    stack_words,
)
from sktransfer.exceptions import NewHeadWarning
from tests.helpers import word_files
from tests.helpers.elsewhere import run_code

TEXTS = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"] * 4
SENTENCES = [text.split() for text in TEXTS]
MOODS = ["up", "down"] * 8
ROOT = Path(__file__).parents[2]


@functools.cache
def digits(n=48):
    X, y = load_digits(return_X_y=True)
    return X[:n] / 16, y[:n]


def joined():
    return Backbone.join({"picture": "tiny/cnn", "text": "tiny/bert"}, missing="zero")


def joined_rows():
    """Return rows of a picture and a text, the last one without a text."""
    pictures = [row.reshape(8, 8) for row in digits(16)[0]]
    return pd.DataFrame({"text": [*TEXTS[:15], None], "picture": pictures})


def frame():
    return pd.DataFrame({"text": TEXTS, "length": [float(len(text)) for text in TEXTS]})


def fine_tuned(**params):
    X, y = digits()
    params = {"freeze_depth": -2, "max_epochs": 1, "random_state": 0, **params}
    return FineTuneClassifier("tiny/cnn", **params).fit(X, [f"digit {digit}" for digit in y])


def multilabel():
    X, y = digits()
    several = np.stack([y > 4, y % 2 == 0], axis=1).astype(int)
    return FineTuneClassifier("tiny/cnn", freeze_depth="block4", max_epochs=1, random_state=0).fit(X, several)


def adapted():
    config = peft.LoraConfig(r=2, target_modules=["query", "value"])
    tuner = FineTuneClassifier("tiny/bert", freeze_depth=3, max_epochs=1, adapter=config, layer="mix", random_state=0)
    return tuner.fit(TEXTS, MOODS)


def with_callbacks():
    callbacks = [EMA(0.5), ("clip", GradientNormClipping(1.0)), EarlyStopping("train_loss", patience=9)]
    return fine_tuned(callbacks=callbacks)


def from_source():
    source = fine_tuned(max_epochs=0)
    X, y = digits()
    return FineTuneClassifier(source.backbone_, head=source.head_, max_epochs=1, random_state=0).fit(
        X, [f"digit {digit}" for digit in y]
    )


def two_domains(**params):
    X, y = digits()
    labels = [None if row >= 30 else f"digit {digit}" for row, digit in enumerate(y)]
    params = {"freeze_depth": -2, "max_epochs": 1, "random_state": 0, **params}
    return DomainAdaptationClassifier("tiny/cnn", **params).fit(X, labels)


def regressor():
    X, _ = digits()
    targets = np.stack([X.mean(1), X.std(1)], axis=1)
    return FineTuneRegressor("tiny/cnn", layer="block2", freeze_depth=1, max_epochs=1, random_state=0).fit(X, targets)


def segmenter(**params):
    X, _ = digits()
    return FineTuneSegmenter(layer="block2", random_state=0, **params).fit(X, (X > 0.5).reshape(-1, 8, 8))


def several_tasks(**params):
    X, y = digits()
    Y = pd.DataFrame({"type": [f"digit {digit}" for digit in y], "mean.ink": X.mean(1), "high": (y > 4) * 1})
    Y["high"] = Y["high"].where(y % 3 > 0)
    params = {"freeze_depth": -2, "max_epochs": 1, "random_state": 0, **params}
    return MultiTaskFineTuner("tiny/cnn", **params).fit(X, Y)


def several_labels():
    X, y = digits()
    Y = {"parts": [{"loop"} if digit in (0, 6, 8, 9) else set() for digit in y], "both": np.stack([X.mean(1), y], 1)}
    params = {"task_weights": "uncertainty", "freeze_depth": "all", "layer": "auto", "random_state": 0}
    return MultiTaskFineTuner("tiny/cnn", tasks={"both": "continuous"}, max_epochs=1, **params).fit(X, Y)


def columns():
    features = make_column_transformer((TextFeaturizer(layer=2), ["text"]), (StandardScaler(), ["length"]))
    return make_pipeline(features, LogisticRegression()).fit(frame(), MOODS)


def table():
    photos = [*np.random.default_rng(0).integers(0, 256, (15, 8, 8), dtype=np.uint8), None]
    days = pd.date_range("2024-05-31", periods=15).to_list()
    return frame().assign(photo=photos, shop=["a", "b", None, "c"] * 4, sold=[*days, None])


def of_table():
    pipeline = make_transfer_pipeline(table(), MOODS)
    pipeline.set_params(columns__image_photo__imagefeaturizer__on_error="nan")
    return pipeline.fit(table(), MOODS)


def searched():
    grid = {"textfeaturizer__layer": [1, -1], "logisticregression__C": [0.1, 1.0]}
    pipeline = make_pipeline(TextFeaturizer(), LogisticRegression(random_state=np.random.RandomState(3)))
    search = GridSearchCV(pipeline, grid, cv=StratifiedKFold(2), scoring="balanced_accuracy")
    return search.fit(TEXTS, MOODS)


def words(pooling="mean", **params):
    embedder = WordEmbedder(vector_size=12, min_count=1, pooling=pooling, random_state=0, **params)
    return embedder.fit([*word_files.SENTENCES, *TEXTS])


def words_of_file():
    return WordEmbedder(load_vectors(word_files.fasttext_file()), oov="subword").fit(TEXTS)


def few_shot():
    tuner = ContrastiveFineTuner("tiny/bert", freeze_depth=3, max_epochs=1, random_state=0)
    return make_pipeline(tuner, NearestClassMean()).fit(TEXTS, MOODS)


def new_lm_head():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewHeadWarning)
        return SelfSupervisedTuner("tiny/bert", objective="mlm", max_epochs=1, random_state=0).fit(TEXTS)


def weights_file(path):
    """Write a file of weights with a preprocessing of its own."""
    backbone = load_backbone("tiny/cnn")
    state = {
        f"stages.{name}.{key}": value
        for name, stage in zip(backbone.stage_names, backbone.stages)
        for key, value in stage.body[0].state_dict().items()
    }
    save_file(state, path, metadata={"preprocess": json.dumps({"resize": 32, "crop": 32, "mean": [0.1, 0.2, 0.3]})})
    return path


MAKERS = {
    "ImageFeaturizer": (
        lambda: ImageFeaturizer(layer=["block2", -1], preprocess={"interpolation": "bilinear"}).fit(digits()[0]),
        "transform",
        "images",
    ),
    "ImageFeaturizer, auto": (lambda: ImageFeaturizer(layer="auto").fit(*digits()), "transform", "images"),
    "JoinedFeaturizer": (lambda: JoinedFeaturizer(joined(), layer=-1).fit(joined_rows()), "transform", "rows"),
    "FineTuneClassifier, joined": (
        lambda: FineTuneClassifier(joined(), max_epochs=1, random_state=0).fit(joined_rows(), MOODS),
        "predict_proba",
        "rows",
    ),
    "TextFeaturizer": (lambda: TextFeaturizer(max_length=12, layer=2).fit(TEXTS), "transform", "texts"),
    "FineTuneTagger": (
        lambda: FineTuneTagger(
            "tiny/bert", max_length=8, freeze_depth=3, subword="mean", max_epochs=1, random_state=0
        ).fit(SENTENCES, [["B-A" if len(word) > 4 else "O" for word in words] for words in SENTENCES]),
        "predict_proba",
        "sentences",
    ),
    "TokenFeaturizer": (
        lambda: TokenFeaturizer(max_length=6, layer="auto", subword="mean").fit(
            SENTENCES, [[word.isalpha() for word in words] for words in SENTENCES]
        ),
        "transform",
        "sentences",
    ),
    "untrained weights": (lambda: ImageFeaturizer(weights="random").fit(digits()[0]), "transform", "images"),
    "WordEmbedder": (words, "transform", "texts"),
    "WordEmbedder sif": (lambda: words("sif", model="word2vec", oov="unk"), "transform", "texts"),
    "WordEmbedder of a file": (words_of_file, "transform", "texts"),
    "FineTuneClassifier": (fine_tuned, "predict_proba", "images"),
    "FineTuneClassifier, several labels": (multilabel, "predict_proba", "images"),
    "FineTuneClassifier, auto": (lambda: fine_tuned(layer="auto"), "predict_proba", "images"),
    "FineTuneClassifier, adapter, mix": (adapted, "predict_proba", "texts"),
    "FineTuneClassifier, callbacks": (with_callbacks, "predict_proba", "images"),
    "FineTuneClassifier, all frozen": (lambda: fine_tuned(freeze_depth="all"), "predict_proba", "images"),
    "FineTuneClassifier from a source": (from_source, "predict_proba", "images"),
    "DomainAdaptationClassifier": (lambda: two_domains(alignment=["coral", DANN(hidden=8)]), "predict_proba", "images"),
    "DomainAdaptationClassifier, statistics": (lambda: two_domains(alignment="adabn"), "predict_proba", "images"),
    "FineTuneRegressor": (regressor, "predict", "images"),
    "FineTuneSegmenter": (segmenter, "predict_proba", "images"),
    "FineTuneSegmenter, trained": (lambda: segmenter(freeze_depth=-1, max_epochs=1), "predict_proba", "images"),
    "MultiTaskFineTuner": (several_tasks, "predict", "images"),
    "MultiTaskFineTuner, several labels": (lambda: several_labels().task("parts"), "predict_proba", "images"),
    "MultiTaskFineTuner, task": (lambda: several_tasks(layer="auto").task("type"), "predict_proba", "images"),
    "ContrastiveFineTuner, NearestClassMean": (few_shot, "predict_proba", "texts"),
    "SelfSupervisedTuner": (
        lambda: SelfSupervisedTuner(
            "tiny/bert", objective=DropoutViews(0.1), freeze_depth=3, max_epochs=1, random_state=0
        ).fit(TEXTS, MOODS),
        "transform",
        "texts",
    ),
    "SelfSupervisedTuner, new head": (new_lm_head, "transform", "texts"),
    "PretrainedClassifier": (PretrainedClassifier, "predict_proba", "images"),
    "ZeroShotClassifier": (lambda: ZeroShotClassifier(labels={1: "good", 0: "bad"}), "predict_proba", "texts"),
    "BestBackbone": (
        lambda: BestBackbone(["tiny/cnn"], estimator=Ridge()).fit(digits()[0], digits()[0].mean(1)),
        "predict",
        "images",
    ),
    "Pipeline": (
        lambda: make_pipeline(TextFeaturizer(), LogisticRegression()).fit(TEXTS, MOODS),
        "predict_proba",
        "texts",
    ),
    "ColumnTransformer": (columns, "predict_proba", "frame"),
    "GridSearchCV": (searched, "predict_proba", "texts"),
    "make_transfer_pipeline": (of_table, "predict_proba", "table"),
}


@functools.cache
def fitted(name):
    return MAKERS[name][0]()


def predictions(estimator, name):
    """Return the output of an estimator, computed without the cache."""
    clear_cache()
    _, method, kind = MAKERS[name]
    if kind == "sentences":  # one array per sentence
        return stack_words(getattr(estimator, method)(SENTENCES))
    makers = {
        "images": lambda: digits()[0],
        "texts": lambda: TEXTS,
        "rows": joined_rows,
        "frame": frame,
        "table": table,
    }
    X = makers[kind]()
    return np.asarray(getattr(estimator, method)(X))


_NEW_PROCESS = """
import pickle, sys
from pathlib import Path
from sktransfer import load
from tests.helpers.saved_estimators import predictions
jobs = pickle.loads(Path(sys.argv[1]).read_bytes())
outputs = [predictions(load(path), name) for name, path in jobs]
Path(sys.argv[2]).write_bytes(pickle.dumps(outputs))
"""


def predictions_in_new_process(jobs, folder):
    """Return the outputs of saved estimators, loaded in a process that has fitted none of them."""
    given, out = folder / "jobs", folder / "outputs"
    given.write_bytes(pickle.dumps(jobs))
    run_code(_NEW_PROCESS, given, out)
    return pickle.loads(out.read_bytes())
