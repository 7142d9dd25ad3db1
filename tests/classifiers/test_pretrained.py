"""A network's own head, held against the libraries that the networks come from."""

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
from sktransfer.exceptions import InvalidParameterError, WeightsError
from sktransfer.testing import parametrize_with_transfer_checks
from sktransfer.testing.samples import make_samples
from tests.helpers.huggingface_folders import TEXTS, make_folder

IMAGES, LABELS = make_samples("image", 12)


def dark_or_bright(categories=("bad", "good"), n_outputs=2):
    """Return a backbone whose head knows the two kinds of images that the checks use."""
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
        pytest.skip("SKTRANSFER_TEST_DATA is not set: it is the folder of real weights and images")
    ants = sorted((Path(folder) / "images" / "hymenoptera" / "val" / "ants").glob("*.jpg"))[:6]
    bees = sorted((Path(folder) / "images" / "hymenoptera" / "val" / "bees").glob("*.jpg"))[:6]
    return ants + bees, Path(folder) / "weights" / "mobilenet_v2_imagenet1k.safetensors"


def test_it_gives_what_torchvision_gives_with_its_own_preprocessing_and_categories(photos):
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
    found = clf.predict_proba(paths)
    assert clf.classes_.tolist() == sorted(set(categories))
    np.testing.assert_allclose(found, expected[:, np.argsort(categories)], atol=1e-5)
    assert clf.predict(paths).tolist() == categories[expected.argmax(1)].tolist()
    table = clf.decode(paths, top=3)
    assert table["category"].tolist() == categories[np.argsort(-expected, axis=1)[:, :3]].ravel().tolist()
    assert table["row"].tolist() == [row for row in range(12) for _ in range(3)]
    assert table["rank"].tolist() == [1, 2, 3] * 12
    assert (table.groupby("row")["probability"].diff().dropna() <= 0).all()


@pytest.mark.parametrize("case", ["bert", "distilbert", "roberta", "gpt"])
def test_it_gives_what_transformers_classification_gives(case, tmp_path):
    names = {0: "joy", 1: "anger", 2: "fear"}
    label2id = {name: i for i, name in names.items()}
    case = {"gpt": "gpt2"}.get(case, case)
    model = make_folder(case, tmp_path, head="ForSequenceClassification", id2label=names, label2id=label2id)
    clf = PretrainedClassifier(f"hf/{tmp_path}")
    found = clf.predict_proba(TEXTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    expected = []
    with torch.no_grad():
        for text in TEXTS:
            expected.append(model(**tokenizer(text, return_tensors="pt")).logits.softmax(1).numpy()[0])
    np.testing.assert_allclose(found, np.array(expected)[:, [1, 2, 0]], atol=1e-5)
    assert clf.classes_.tolist() == ["anger", "fear", "joy"]
    assert set(clf.predict(TEXTS)) <= set(names.values())


def test_a_head_that_looks_at_more_than_one_vector_is_run_on_the_stage_and_leaves_nothing_in_the_store(
    tmp_path, monkeypatch
):
    model = make_folder("dinov2", tmp_path, head="ForImageClassification", num_labels=5)
    store = MemoryStore()
    monkeypatch.setattr("sktransfer.classifiers.pretrained.resolve_store", lambda cache: store)
    clf = PretrainedClassifier(f"hf/{tmp_path}")
    found = clf.predict_proba(IMAGES)
    with torch.no_grad():
        expected = model(torch.stack(clf.backbone_.preprocess(IMAGES))).logits.softmax(1).numpy()
    order = np.argsort(clf.backbone_.categories)
    np.testing.assert_allclose(found, expected[:, order], atol=1e-5)
    assert store.info().n_entries == 0
    PretrainedClassifier().predict(IMAGES)
    assert store.info().n_entries == len(IMAGES)


def test_tiny_cnn_knows_two_hundred_categories_by_name_without_fit():
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


def test_categories_of_one_name_are_one_class_whose_probability_is_their_sum():
    one = PretrainedClassifier(dark_or_bright(("crane", "bird", "crane"), 3))
    three = PretrainedClassifier(dark_or_bright(("crane a", "bird", "crane b"), 3))
    assert one.classes_.tolist() == ["bird", "crane"]
    apart = three.predict_proba(IMAGES)
    assert three.classes_.tolist() == ["bird", "crane a", "crane b"]
    expected = np.stack([apart[:, 0], apart[:, 1] + apart[:, 2]], axis=1)
    np.testing.assert_allclose(one.predict_proba(IMAGES), expected, atol=1e-6)


def test_score_counts_names_and_a_label_that_is_no_category_is_an_error_naming_near_ones():
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
        (dark_or_bright(("a", "b", "c")), r"gives \(2,\) numbers a sample for 3 categories"),
    ],
    ids=["no head", "no categories", "one output", "wrong number"],
)
def test_a_backbone_that_cannot_classify_is_an_error_that_says_what_to_do(backbone, match):
    samples = ["a text"] if backbone == "tiny/bert" else IMAGES
    with pytest.raises(InvalidParameterError, match=match):
        PretrainedClassifier(backbone).predict(samples)


@pytest.mark.parametrize("top", [0, 3, True, 1.5])
def test_decode_gives_no_more_than_there_is(top):
    with pytest.raises(InvalidParameterError, match=r"top=.* must be an int from 1 to 2"):
        PretrainedClassifier(dark_or_bright()).decode(IMAGES, top=top)


def test_it_calibrates_frozen_where_y_holds_every_category_and_stands_in_a_pipeline():
    X, y = make_samples("image", 40)
    clf = PretrainedClassifier(dark_or_bright())
    calibrated = CalibratedClassifierCV(FrozenEstimator(clf)).fit(X, y)
    assert calibrated.classes_.tolist() == ["bad", "good"]
    assert calibrated.score(X, y) == 1
    pipeline = make_pipeline(FunctionTransformer(lambda images: [1 - image for image in images]), clf)
    assert pipeline.score(X, y) == 0  # negatives: bright is dark
    # A frozen estimator never sees y, so that it is scikit-learn that says what is wrong, and how it says it.
    with (
        pytest.warns(RuntimeWarning, match=r"\(200\) does not match total number of classes \(2\)"),
        pytest.raises(IndexError),
    ):
        CalibratedClassifierCV(FrozenEstimator(PretrainedClassifier())).fit(X, y)
    with pytest.raises(InvalidParameterError, match="y holds 'good', which is none of the 200 categories"):
        CalibratedClassifierCV(PretrainedClassifier(), cv=2, ensemble=True).fit(X, y)


def test_parameters_set_later_count_and_clones_share_the_network():
    clf = PretrainedClassifier(dark_or_bright())
    assert clf.predict(IMAGES[:1]).tolist() == ["good"]
    assert clone(clf).backbone_ is clf.backbone_
    clf.set_params(backbone="tiny/cnn")
    assert len(clf.classes_) == 200


def test_fit_remembers_columns_and_predict_compares_them():
    frame = pd.DataFrame({"photo": pd.Series(list(IMAGES), dtype=object)})
    clf = PretrainedClassifier(dark_or_bright()).fit(frame, LABELS)
    assert clf.feature_names_in_.tolist() == ["photo"]
    with pytest.raises(ValueError, match="feature names"):
        clf.predict(frame.rename(columns={"photo": "other"}))


def test_verbose_shows_a_bar(capsys):
    PretrainedClassifier(dark_or_bright(), verbose=1).predict(IMAGES)
    assert "12/12" in capsys.readouterr().err


def known_failures(estimator):
    return {
        "check_labels": "labels are the head's categories, of no other kind",
        "check_sample_weight": "nothing is trained, so fit takes no weights",
    }


@parametrize_with_transfer_checks([PretrainedClassifier(dark_or_bright())], expected_failed_checks=known_failures)
def test_transfer_checks(estimator, check):
    check(estimator)


def test_a_pipeline_is_shown_where_the_weights_are_not_to_be_had(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    pipeline = make_pipeline(FunctionTransformer(), PretrainedClassifier("torchvision/resnet50"))
    with config_context(download="never"):
        assert "torchvision/resnet50" in pipeline._repr_html_()
        with pytest.raises(AttributeError, match=r"classes_ cannot be told: torchvision/resnet50: looked for"):
            _ = pipeline[-1].classes_
        with pytest.raises(WeightsError, match="looked for"):
            pipeline.predict([np.zeros((8, 8, 3))])
