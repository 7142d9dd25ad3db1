"""Estimators on a CUDA device: equal to the CPU, with nothing left on the device.

The device is simulated on machines without a GPU (`tests/helpers/simulated_cuda`).
"""

from __future__ import annotations

import gc
import io
import os
import pickle
import signal

import numpy as np
import pandas as pd
import pytest
import torch
from peft import LoraConfig
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

import sktransfer
from sktransfer import (
    EMA,
    SWA,
    BestBackbone,
    Checkpoint,
    ContrastiveFineTuner,
    DomainAdaptationClassifier,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneSegmenter,
    FineTuneTagger,
    ImageFeaturizer,
    MicroBatches,
    Mixup,
    MultiTaskFineTuner,
    NearestClassMean,
    TextFeaturizer,
    TokenFeaturizer,
    WiSEFT,
    find_lr,
    rank_backbones,
)
from sktransfer.backbones import loading
from sktransfer.exceptions import InvalidSampleError, NotFiniteError
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

pytestmark = pytest.mark.gpu

IMAGES, LABELS = make_samples("image", 12)
TEXTS, _ = make_samples("text", 12)
SENTENCES = [text.split() for text in TEXTS]
TAGS = [["short" if len(word) < 4 else "long" for word in words] for words in SENTENCES]
NUMBERS = np.arange(12) / 3
MASKS = [(np.asarray(image).mean(2) > np.mean(image)).astype(int) for image in IMAGES]
BERT = "hf/" + small_bert(dropout=0.0)  # a device draws other random numbers than the CPU
TASKS = pd.DataFrame({"mood": LABELS, "stars": [None, *NUMBERS[1:]]})
TRAINING = {"max_epochs": 2, "batch_size": 4, "lr": 1e-4, "random_state": 0}

RECIPES = {
    "default": {},
    "frozen": {"freeze_depth": "all"},
    "a stage": {"freeze_depth": -1, "layer": -1},
    "all stages": {"freeze_depth": 0},
    "auto depth": {"freeze_depth": "auto"},
    "early stopping": {"freeze_depth": -1, "early_stopping": True, "validation_fraction": 0.5},
    "class means": {"freeze_depth": -1, "head_init": "class_means"},
    "L2-SP": {"freeze_depth": -1, "l2_sp": 0.1},
    "layer-wise rates": {"freeze_depth": 0, "layer_lr_decay": 2.0},
    "gradual unfreezing": {"freeze_depth": 0, "unfreezing": "gradual", "max_epochs": 8},
    "label smoothing": {"freeze_depth": -1, "label_smoothing": 0.1},
    "class weights": {"freeze_depth": -1, "class_weight": "balanced"},
    "learning rate found": {"freeze_depth": -1, "lr": "find"},
    "EMA": {"freeze_depth": -1, "callbacks": [EMA()]},
    "SWA": {"freeze_depth": -1, "callbacks": [SWA(0.5)]},
    "WiSE-FT": {"freeze_depth": -1, "callbacks": [WiSEFT()]},
    "mixup": {"freeze_depth": -1, "callbacks": [Mixup()]},
    "micro-batches": {"freeze_depth": -1, "callbacks": [MicroBatches(2)]},
    "no cache": {"freeze_depth": -1, "cache": None},
}
OF_TEXTS = ("default", "frozen", "a stage", "all stages", "early stopping", "class means", "mixup", "no cache")
MIX = {"layer": "mix", "freeze_depth": -1}
ADAPTER = {"freeze_depth": 2, "adapter": LoraConfig(r=2, target_modules="all-linear")}


def classify(X, backbone, **parameters):
    return lambda device: FineTuneClassifier(backbone, device=device, **{**TRAINING, **parameters}), X, LABELS


def adapt(alignment, **parameters):
    params = {**TRAINING, "freeze_depth": -1, "alignment": alignment, **parameters}
    labels = [label if row < 8 else None for row, label in enumerate(LABELS)]
    return lambda device: DomainAdaptationClassifier("tiny/cnn", device=device, **params), IMAGES, labels


FLOWS = {
    **{f"images: {name}": classify(IMAGES, "tiny/cnn", **recipe) for name, recipe in RECIPES.items()},
    **{f"texts: {name}": classify(TEXTS, BERT, **RECIPES[name]) for name in OF_TEXTS},
    "images: domains": adapt(["coral", "mmd", "mcc"], layer=-1),
    "images: domains, discriminator": adapt("dann"),
    "images: domains, statistics": adapt("adabn"),
    "texts: mix": classify(TEXTS, BERT, **MIX),
    "texts: adapter": classify(TEXTS, BERT, **ADAPTER),
    "sentences: tags": (lambda device: FineTuneTagger(BERT, device=device, **TRAINING), SENTENCES, TAGS),
    "images: masks": (lambda device: FineTuneSegmenter(device=device, layer=-1, C=0.01), IMAGES, MASKS),
    "images: masks, trained": (
        lambda device: FineTuneSegmenter(device=device, layer="block2", C=0.01, freeze_depth=-1, **TRAINING),
        IMAGES,
        MASKS,
    ),
    "images: features": (lambda device: ImageFeaturizer(device=device, layer="all", cache=None), IMAGES, None),
    "images: features chosen": (lambda device: ImageFeaturizer(device=device), IMAGES, LABELS),
    "texts: features": (lambda device: TextFeaturizer(device=device, layer=[1, 2]), TEXTS, None),
    "sentences: features": (lambda device: TokenFeaturizer(device=device, subword="mean"), SENTENCES, TAGS),
    "images: numbers": (lambda device: FineTuneRegressor(device=device, **TRAINING), IMAGES, NUMBERS),
    "texts: several tasks": (lambda device: MultiTaskFineTuner(BERT, device=device, **TRAINING), TEXTS, TASKS),
    "images: contrastive": (lambda device: ContrastiveFineTuner(device=device, **TRAINING), IMAGES, LABELS),
    "images: class means": (
        lambda device: make_pipeline(ImageFeaturizer(device=device), NearestClassMean()),
        IMAGES,
        LABELS,
    ),
    "images: best backbone": (
        lambda device: BestBackbone(layers=["block3", "block4"], device=device),
        IMAGES,
        LABELS,
    ),
}


def outputs(estimator, X):
    """Return everything that an estimator gives for X, as arrays."""
    if isinstance(estimator, MultiTaskFineTuner):
        return [estimator.predict_proba(X)[0], estimator.predict(X)["stars"].to_numpy(np.float64)]
    if hasattr(estimator, "predict_proba"):
        found = estimator.predict_proba(X)
    elif hasattr(estimator, "predict"):
        found = estimator.predict(X)
    else:
        found = estimator.transform(X)
    return found if isinstance(found, list) else [found]


def used(gpu):
    """Return the bytes in use per device, without the copies of shared backbones that later calls take."""
    for backbone in list(loading._loaded.values()):
        backbone.copies.clear()
    gc.collect()
    if gpu is None:
        return [torch.cuda.memory_allocated(index) for index in range(torch.cuda.device_count())]
    return list(gpu.used)


def assert_equal(found, expected, atol=2e-4):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        if other.dtype.kind in "fc":
            np.testing.assert_allclose(one, other, atol=atol)
        else:
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", FLOWS)
def test_a_device_gives_the_values_of_the_cpu_and_keeps_nothing(name, gpu):
    make, X, y = FLOWS[name]
    expected = outputs(make("cpu").fit(X, y), X)
    before = used(gpu)
    fitted = make("cuda").fit(X, y)
    assert used(gpu) == before
    assert_equal(outputs(fitted, X), expected)
    if gpu is not None:
        assert gpu.hazards == []
        pickle.dumps(fitted)
        assert gpu.pickled == 0
    del fitted  # its network stays on the device for the next prediction
    assert used(gpu) == before


def waits(gpu, call):
    """Return how often the CPU waits for the device in a call."""
    gpu.reset()
    call()
    return sum(gpu.syncs.values())


@pytest.mark.parametrize("callbacks", [[], [MicroBatches(2)], [Mixup()]], ids=["plain", "micro-batches", "mixup"])
@pytest.mark.parametrize(("X", "backbone"), [(IMAGES, "tiny/cnn"), (TEXTS, BERT)], ids=["images", "texts"])
def test_an_epoch_of_training_waits_for_the_device_once(X, backbone, callbacks, gpu):
    if gpu is None:
        pytest.skip("only the simulation counts")
    waited = []

    class Waits(Callback):
        def on_epoch_end(self, net, **kwargs):
            waited.append(sum(gpu.syncs.values()))

    options = {**TRAINING, "max_epochs": 3, "callbacks": [*callbacks, Waits()]}
    FineTuneClassifier(backbone, freeze_depth=-1, device="cuda", **options).fit(X, LABELS)
    assert np.diff(waited).tolist() == [1, 1]  # for the losses of an epoch of three batches


def test_a_callback_that_reads_losses_per_batch_finds_them(gpu):
    seen = []

    class Losses(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            seen.append(net.history[-1, "batches", -1, "train_loss"])

    options = {"freeze_depth": -1, "device": "cuda", **TRAINING}
    clf = FineTuneClassifier(callbacks=[Losses()], **options).fit(IMAGES, LABELS)
    late = FineTuneClassifier(**options).fit(IMAGES, LABELS)
    for one in (clf, late):
        assert np.ravel(one.net_.history[:, "batches", :, "train_loss"]).tolist() == pytest.approx(seen, rel=1e-5)


def test_a_loss_that_is_not_finite_is_an_error_that_names_its_batch(gpu):
    clf = FineTuneClassifier(freeze_depth=-1, device="cuda", **{**TRAINING, "lr": 1e30})
    with pytest.raises(NotFiniteError, match="the training loss of batch 2 of epoch 1 is"):
        clf.fit(IMAGES, LABELS)


@pytest.mark.parametrize("layer", [-1, "all"])
@pytest.mark.parametrize(("X", "make"), [(IMAGES, ImageFeaturizer), (TEXTS, TextFeaturizer)], ids=["images", "texts"])
def test_a_frozen_pass_waits_for_the_device_once_per_batch(X, make, layer, gpu):
    if gpu is None:
        pytest.skip("only the simulation counts")
    featurizer = make(device="cuda", layer=layer, cache=None, batch_size=4)
    featurizer.fit_transform(X)  # copies the weights
    assert waits(gpu, lambda: featurizer.transform(X)) == 3
    assert gpu.hazards == []


@pytest.mark.parametrize(("X", "backbone"), [(IMAGES, "tiny/cnn"), (TEXTS, "tiny/bert")], ids=["images", "texts"])
def test_device_names_one_of_several(X, backbone, gpu):
    if gpu is None and torch.cuda.device_count() < 2:
        pytest.skip("needs two devices")
    first, second = (f"cuda:{index}" for index in range(2))
    one, other = (
        FineTuneClassifier(backbone, freeze_depth=-1, device=device, cache=None, **TRAINING)
        for device in (first, second)
    )
    before = torch.cuda.max_memory_allocated(0)
    found = other.fit(X, LABELS).predict_proba(X)
    assert torch.cuda.max_memory_allocated(0) == before
    assert torch.cuda.max_memory_allocated(1) > 0
    np.testing.assert_allclose(one.fit(X, LABELS).predict_proba(X), found, atol=2e-4)


def test_fitted_estimators_predict_where_there_is_no_device(gpu, monkeypatch, tmp_path):
    clf = FineTuneClassifier(freeze_depth=-1, device="auto", **TRAINING).fit(IMAGES, LABELS)
    pipeline = make_pipeline(ImageFeaturizer(device="auto"), LogisticRegression()).fit(IMAGES, LABELS)
    expected = [one.predict_proba(IMAGES) for one in (clf, pipeline)]
    sktransfer.save(clf, tmp_path / "clf.skt")
    saved = [pickle.dumps(one) for one in (clf, pipeline)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for one, probabilities in zip(map(pickle.loads, saved), expected):
        assert_equal([one.predict_proba(IMAGES)], [probabilities])
    assert_equal([sktransfer.load(tmp_path / "clf.skt").predict_proba(IMAGES)], expected[:1])


def test_batches_are_halved_if_a_device_is_full(gpu):
    if gpu is None:
        pytest.skip("needs a device whose memory can be limited")
    X = np.random.default_rng(0).random((32, 32, 32, 3), np.float32)
    featurizer = ImageFeaturizer(device="cuda", cache=None)
    expected = featurizer.fit_transform(X)
    whole = gpu.most[0]
    for share, is_enough in ((0.5, True), (0.001, False)):
        gpu.memory = gpu.used[0] + int(share * (whole - gpu.used[0]))
        if is_enough:
            np.testing.assert_allclose(clone(featurizer).fit_transform(X), expected, atol=1e-5)
        else:
            with pytest.raises(InvalidSampleError, match=r"row 0: .* than is available \(CUDA out of memory"):
                clone(featurizer).fit_transform(X)
        assert gpu.used[0] <= gpu.memory


def test_search_on_a_device_gives_the_scores_of_the_cpu(gpu):
    scores = [
        GridSearchCV(
            FineTuneClassifier(device=device, layer=-1, **TRAINING),
            {"freeze_depth": [2, "all"]},
            cv=2,
            scoring="neg_log_loss",
        )
        .fit(IMAGES, LABELS)
        .cv_results_["mean_test_score"]
        for device in ("cpu", "cuda")
    ]
    assert_equal(scores[1:], scores[:1])


def test_find_lr_and_rank_backbones_on_a_device_give_the_values_of_the_cpu(gpu):
    rates, tables = [], []
    for device in ("cpu", "cuda"):
        clf = FineTuneClassifier(freeze_depth=-1, device=device, head_init="random", **TRAINING)
        rates.append(find_lr(clf, IMAGES, LABELS, n_steps=8).curve.to_numpy())
        tables.append(rank_backbones(["tiny/cnn"], IMAGES, LABELS, metrics=["logme"], device=device)["logme"])
    assert_equal(rates[1:], rates[:1], atol=1e-3)
    assert_equal(tables[1:], tables[:1], atol=1e-3)


class Interrupt(Callback):
    after = None  # epochs

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == Interrupt.after:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("callback", [EMA, SWA, WiSEFT])
def test_checkpoint_resumes_an_interrupted_training_on_a_device(callback, gpu, tmp_path, monkeypatch):
    def make(*callbacks):
        clf = FineTuneClassifier(freeze_depth=-1, layer=-1, device="cuda", **{**TRAINING, "max_epochs": 3})
        return clf.set_params(callbacks=[callback(), Interrupt(), *callbacks])

    expected = make().fit(IMAGES, LABELS).predict_proba(IMAGES)
    before = used(gpu)
    with monkeypatch.context() as patch:
        patch.setattr(Interrupt, "after", 2)
        with pytest.raises(KeyboardInterrupt):
            make(Checkpoint(tmp_path)).fit(IMAGES, LABELS)
    assert used(gpu) == before
    resumed = make(Checkpoint(tmp_path)).fit(IMAGES, LABELS)
    np.testing.assert_allclose(resumed.predict_proba(IMAGES), expected, atol=1e-6)
    assert list(tmp_path.iterdir()) == []


def test_torch_save_of_a_fitted_estimator_needs_no_device(gpu):
    clf = FineTuneClassifier(freeze_depth=-1, device="cuda", **TRAINING).fit(IMAGES, LABELS)
    file = io.BytesIO()
    torch.save(clf.net_.module_.state_dict(), file)
    file.seek(0)
    assert {value.device.type for value in torch.load(file).values()} == {"cpu"}


FLOWS_OF_MPS = [
    "images: numbers",
    "images: masks, trained",
    "images: domains",
    "sentences: tags",
    "texts: several tasks",
]


@pytest.mark.parametrize("name", FLOWS_OF_MPS)
def test_no_number_on_a_device_is_float64_which_mps_lacks(name, gpu, monkeypatch):
    if gpu is None:
        pytest.skip("needs a device without float64")
    monkeypatch.setattr(gpu, "has_float64", False)
    make, X, y = FLOWS[name]
    outputs(make("cuda").fit(X, y), X)
