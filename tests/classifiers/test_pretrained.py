"""Pretrained heads, compared with the libraries that the networks come from."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from torch import nn

from sktransfer import Backbone, PretrainedClassifier, config_context, load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.classifiers.pretrained import PretrainedHead, check_has_categories
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidParameterError, WeightsError
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.testing import parametrize_with_transfer_checks
from sktransfer.testing.samples import make_samples
from tests.helpers.huggingface_folders import TEXTS, make_folder

IMAGES, LABELS = make_samples("image", 12)


def dark_or_bright(categories=("bad", "good"), n_outputs=2):
    """Return a backbone whose head separates the two kinds of images of `make_samples`."""
    stage = nn.Conv2d(3, 1, 1)
    head = nn.Linear(1, n_outputs)
    with torch.no_grad():
        stage.weight.fill_(1 / 3)
        stage.bias.zero_()
        head.weight.copy_(torch.linspace(-20, 20, n_outputs)[:, None])
        head.bias.copy_(-0.5 * torch.linspace(-20, 20, n_outputs))
    return Backbone.from_modules([("grey", stage)], head=head, categories=categories, name="own/grey")


@pytest.fixture
def photos():
    folder = os.environ.get("SKTRANSFER_TEST_DATA")
    if not folder:
        pytest.skip("SKTRANSFER_TEST_DATA is not set: set it to the folder of real weights and images")
    ants = sorted((Path(folder) / "images" / "hymenoptera" / "val" / "ants").glob("*.jpg"))[:6]
    bees = sorted((Path(folder) / "images" / "hymenoptera" / "val" / "bees").glob("*.jpg"))[:6]
    return ants + bees, Path(folder) / "weights" / "mobilenet_v2_imagenet1k.safetensors"


def test_predict_proba_and_decode_equal_torchvision(photos):
    from PIL import Image
    from safetensors.torch import load_file
    from torchvision.models import MobileNet_V2_Weights, mobilenet_v2

    paths, file = photos
    theirs = MobileNet_V2_Weights.IMAGENET1K_V2
    transform, categories = theirs.transforms(), np.array(theirs.meta["categories"])
    network = mobilenet_v2()
    network.load_state_dict({name: tensor.float() for name, tensor in load_file(file).items()}, strict=False)
    with torch.no_grad():
        batch = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
        expected = network.eval()(batch).softmax(1).numpy()
    settings = {"resize": 232, "crop": (224, 224), "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
    clf = PretrainedClassifier("torchvision/mobilenet_v2", weights=str(file), preprocess=settings)
    probabilities = clf.predict_proba(paths)
    assert clf.classes_.tolist() == sorted(set(categories))
    np.testing.assert_allclose(probabilities, expected[:, np.argsort(categories)], atol=1e-5)
    assert clf.predict(paths).tolist() == categories[expected.argmax(1)].tolist()
    table = clf.decode(paths, top=3)
    assert table["category"].tolist() == categories[np.argsort(-expected, axis=1)[:, :3]].ravel().tolist()
    assert table["row"].tolist() == [row for row in range(12) for _ in range(3)]
    assert table["rank"].tolist() == [1, 2, 3] * 12
    assert (table.groupby("row")["probability"].diff().dropna() <= 0).all()


@pytest.mark.parametrize("case", ["bert", "distilbert", "roberta", "gpt"])
def test_predict_proba_equals_transformers_classification(case, tmp_path):
    names = {0: "joy", 1: "anger", 2: "fear"}
    label2id = {name: i for i, name in names.items()}
    case = {"gpt": "gpt2"}.get(case, case)
    model = make_folder(case, tmp_path, head="ForSequenceClassification", id2label=names, label2id=label2id)
    clf = PretrainedClassifier(f"hf/{tmp_path}")
    probabilities = clf.predict_proba(TEXTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = []
    with torch.no_grad():
        for text in TEXTS:
            expected.append(model(**tokenizer(text, return_tensors="pt")).logits.softmax(1).numpy()[0])
    np.testing.assert_allclose(probabilities, np.array(expected)[:, [1, 2, 0]], atol=1e-5)
    assert clf.classes_.tolist() == ["anger", "fear", "joy"]
    assert set(clf.predict(TEXTS)) <= set(names.values())


def test_cache_holds_nothing_for_a_head_that_reads_more_than_one_vector(tmp_path, monkeypatch):
    model = make_folder("dinov2", tmp_path, head="ForImageClassification", num_labels=5)
    store = MemoryStore()
    monkeypatch.setattr("sktransfer.classifiers.pretrained.resolve_store", lambda cache: store)
    clf = PretrainedClassifier(f"hf/{tmp_path}")
    probabilities = clf.predict_proba(IMAGES)
    with torch.no_grad():
        expected = model(torch.stack(clf.backbone_.preprocess(IMAGES))).logits.softmax(1).numpy()
    order = np.argsort(clf.backbone_.categories)
    np.testing.assert_allclose(probabilities, expected[:, order], atol=1e-5)
    assert store.info().n_entries == 0
    PretrainedClassifier().predict(IMAGES)
    assert store.info().n_entries == len(IMAGES)


def test_predict_of_tiny_cnn_names_200_categories_without_fit():
    clf = PretrainedClassifier()
    backbone = load_backbone("tiny/cnn")
    probabilities = clf.predict_proba(IMAGES)
    assert probabilities.shape == (12, 200)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-5)
    with torch.no_grad():
        values = torch.stack(backbone.preprocess(IMAGES))
        logits = backbone.head(list(backbone.run(values))[-1])
    assert clf.predict(IMAGES).tolist() == [backbone.categories[i] for i in logits.argmax(1)]


def test_predict_proba_adds_categories_of_the_same_name():
    one = PretrainedClassifier(dark_or_bright(("crane", "bird", "crane"), 3))
    three = PretrainedClassifier(dark_or_bright(("crane a", "bird", "crane b"), 3))
    assert one.classes_.tolist() == ["bird", "crane"]
    separate = three.predict_proba(IMAGES)
    assert three.classes_.tolist() == ["bird", "crane a", "crane b"]
    expected = np.stack([separate[:, 0], separate[:, 1] + separate[:, 2]], axis=1)
    np.testing.assert_allclose(one.predict_proba(IMAGES), expected, atol=1e-6)


def test_score_and_fit_reject_unknown_labels_with_similar_names():
    clf = PretrainedClassifier(dark_or_bright())
    assert clf.score(IMAGES, LABELS) == 1
    flipped = np.where(np.arange(12) < 3, np.where(LABELS == "good", "bad", "good"), LABELS)
    assert clf.score(IMAGES, flipped) == pytest.approx(9 / 12)
    assert clf.score(IMAGES, flipped, sample_weight=np.arange(12) >= 3) == 1
    with pytest.raises(InvalidParameterError, match=r"y holds 'goood'.*Did you mean 'good'\?"):
        clf.score(IMAGES, ["goood"] * 12)
    with pytest.raises(InvalidParameterError, match=r"y holds 'Good'.*Did you mean 'good'\?"):
        clf.fit(IMAGES, ["Good"] * 12)
    with pytest.raises(InvalidParameterError, match="y holds 1, which is none of the 2 categories of own/grey"):
        clf.score(IMAGES, [1] * 12)


@pytest.mark.parametrize(
    ("backbone", "match"),
    [
        ("tiny/bert", "tiny/bert has no head of its own: train one on your labels with FineTuneClassifier"),
        (dark_or_bright(()), "own/grey has a head, but its weights do not name"),
        (dark_or_bright(("one",), 1), "a head with one output, 'one'"),
        (dark_or_bright(("a", "b", "c")), r"gives \(2,\) numbers per sample for 3 categories"),
    ],
    ids=["no head", "no categories", "one output", "wrong number"],
)
def test_predict_with_a_backbone_without_usable_head_says_what_to_do(backbone, match):
    samples = ["a text"] if backbone == "tiny/bert" else IMAGES
    with pytest.raises(InvalidParameterError, match=match):
        PretrainedClassifier(backbone).predict(samples)


@pytest.mark.parametrize("top", [0, 3, True, 1.5])
def test_decode_top_is_at_most_the_number_of_categories(top):
    with pytest.raises(InvalidParameterError, match=r"top=.* must be an int from 1 to 2"):
        PretrainedClassifier(dark_or_bright()).decode(IMAGES, top=top)


def test_pretrained_classifier_in_calibrated_classifier_and_pipeline():
    X, y = make_samples("image", 40)
    clf = PretrainedClassifier(dark_or_bright())
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf)).fit(X, y)
    assert calibrated.classes_.tolist() == ["bad", "good"]
    assert calibrated.score(X, y) == 1
    pipeline = make_pipeline(FunctionTransformer(lambda images: [1 - image for image in images]), clf)
    assert pipeline.score(X, y) == 0  # negatives: bright is dark
    # FrozenEstimator does not pass y on, so the warning and the error are those of scikit-learn.
    with (
        pytest.warns(RuntimeWarning, match=r"\(200\) does not match total number of classes \(2\)"),
        pytest.raises(IndexError),
    ):
        CalibratedClassifierCV(FrozenEstimator(PretrainedClassifier())).fit(X, y)
    with pytest.raises(InvalidParameterError, match="y holds 'good', which is none of the 200 categories"):
        CalibratedClassifierCV(PretrainedClassifier(), cv=2, ensemble=True).fit(X, y)


def test_set_params_changes_classes_and_clone_shares_backbone():
    clf = PretrainedClassifier(dark_or_bright())
    assert clf.predict(IMAGES[:1]).tolist() == ["good"]
    assert clone(clf).backbone_ is clf.backbone_
    clf.set_params(backbone="tiny/cnn")
    assert len(clf.classes_) == 200


def test_fit_sets_feature_names_in_and_predict_checks_them():
    frame = pd.DataFrame({"photo": pd.Series(list(IMAGES), dtype=object)})
    clf = PretrainedClassifier(dark_or_bright()).fit(frame, LABELS)
    assert clf.feature_names_in_.tolist() == ["photo"]
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"photo": "other"}))


def test_verbose_shows_a_progress_bar(capsys):
    PretrainedClassifier(dark_or_bright(), verbose=1).predict(IMAGES)
    assert "12/12" in capsys.readouterr().err


def known_failures(estimator):
    return {
        "check_labels": "labels must be categories of the head",
        "check_sample_weight": "fit trains nothing and takes no sample_weight",
    }


@parametrize_with_transfer_checks([PretrainedClassifier(dark_or_bright())], expected_failed_checks=known_failures)
def test_transfer_checks(estimator, check):
    check(estimator)


def test_repr_html_of_a_pipeline_without_available_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    pipeline = make_pipeline(FunctionTransformer(), PretrainedClassifier("torchvision/resnet50"))
    with config_context(download="never"):
        assert "torchvision/resnet50" in pipeline._repr_html_()
        with pytest.raises(AttributeError, match=r"classes_ is not available: torchvision/resnet50: looked for"):
            _ = pipeline[-1].classes_
        with pytest.raises(WeightsError, match="looked for"):
            pipeline.predict([np.zeros((8, 8, 3))])


HEADS = {
    "bert": ("ForSequenceClassification", LayerOutput(5, "class_token")),
    "gpt2": ("ForSequenceClassification", LayerOutput(5, "last_token")),
    "vit": ("ForImageClassification", None),
    "dinov2": ("ForImageClassification", None),
    "convnext": ("ForImageClassification", None),
}


@pytest.mark.parametrize("case", HEADS)
def test_pretrained_head_run_equals_the_head_on_the_last_stage(case, tmp_path):
    head_name, layer = HEADS[case]
    make_folder(case, tmp_path, head=head_name, num_labels=5)
    backbone = load_backbone(f"hf/{tmp_path}")
    samples = check_texts(TEXTS) if backbone.modality == "text" else check_images(IMAGES[:7])
    inputs, store = PreprocessedSamples(samples, backbone.preprocess), MemoryStore()
    head = PretrainedHead(backbone)
    assert layer is None or head.layer == layer
    assert head.is_small == (case != "dinov2")  # its head reads the patches as well as the class token
    probabilities = np.empty((len(samples), 5), np.float32)
    for rows, batch in head.run(inputs, Compute(torch.device("cpu"), batch_size=3), store):
        probabilities[rows] = batch
    values, mask = collate(inputs.tensors(range(len(samples))), backbone.modality, backbone.preprocess.pad_value)
    with torch.no_grad():
        expected = backbone.head(list(backbone.run(values, mask))[-1], mask).softmax(1).numpy()
    np.testing.assert_allclose(probabilities, expected, atol=1e-5)
    assert store.info().n_entries == (len(samples) if head.is_small else 0)


def test_check_has_categories_requires_head_and_categories():
    assert check_has_categories(load_backbone("tiny/cnn")) is load_backbone("tiny/cnn")
    with pytest.raises(InvalidParameterError, match="has no head of its own"):
        PretrainedHead(load_backbone("tiny/bert"))
    with pytest.raises(InvalidParameterError, match="do not name its categories"):
        PretrainedHead(load_backbone("tiny/cnn", weights="random"))


def test_a_head_of_another_width_is_named():
    network = Backbone.from_modules(
        [("conv", nn.Conv2d(3, 8, 3))], input_size=(8, 8), head=nn.Linear(9, 2), categories=("a", "b")
    )
    clf = PretrainedClassifier(network)
    with pytest.raises(InvalidParameterError, match=r"the head of own/network does not take values of shape \(n, 8\)"):
        clf.predict(np.zeros((2, 8, 8, 3), np.uint8))
