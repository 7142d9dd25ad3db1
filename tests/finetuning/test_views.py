"""Fixed noisy copies of samples: `views` of SelfSupervisedTuner."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sktransfer import MaskedTokens, SelfSupervisedTuner, clear_cache, load_backbone
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.exceptions import InvalidParameterError
from sktransfer.objectives.copies import NoisyCopies
from sktransfer.samples.texts import check_texts
from sktransfer.tasks.base import Targets
from tests.helpers import huggingface_folders as hub
from tests.helpers.small_bert import small_bert

TEXTS = [text for text in hub.TEXTS if " " in text]  # six texts of several words
TEXTS += [f"{text} and {text}" for text in TEXTS]
ROWS = load_digits().data[:12] / 16


@pytest.fixture(scope="module")
def masked(tmp_path_factory):
    """The name of a network with a masked head."""
    folder = tmp_path_factory.mktemp("masked")
    hub.make_folder("bert", folder, "ForMaskedLM")
    hub.save_tokenizer(folder, mask=True)
    return f"hf/{folder}"


def tuner(backbone, objective, **params):
    params = {"max_epochs": 4, "lr": 1e-4, "batch_size": 4, "random_state": 0, "freeze_depth": 2, **params}
    return SelfSupervisedTuner(backbone, objective=objective, validation_fraction=0.25, **params)


@pytest.mark.parametrize(("views", "n_run"), [(1, 12), (2, 9 * 2 + 3), (100, 9 * 4 + 3)])
@pytest.mark.parametrize("objective", ["mlm", "tsdae"])
def test_frozen_stages_run_once_per_copy(objective, views, n_run, masked):
    source = load_backbone(masked)
    ran = _runs(source, lambda: tuner(source, objective, views=views).fit(TEXTS))
    assert ran == n_run + 1  # nine texts are trained on, three are held out, and the featurizer reads one


def test_frozen_stages_run_once_per_copy_of_images():
    source = load_backbone("tiny/cnn")
    params = {"freeze_depth": 5, "views": 3}
    assert _runs(source, lambda: tuner(source, "simsiam", **params).fit(ROWS)) == 9 * 3 + 3 * 2 + 1


def _runs(backbone, fit):
    """Return how many samples pass the first stage."""
    clear_cache()
    backbone.copies.clear()  # copies for inference, which are made with the hooks of the stages
    seen = []
    hook = backbone.stages[0].register_forward_hook(lambda module, args, out: seen.append(len(out)))
    try:
        fit()
    finally:
        hook.remove()
        backbone.copies.clear()
    return sum(seen)


@pytest.mark.parametrize("objective", ["mlm", "tsdae"])
def test_views_repeat_by_random_state(objective, masked):
    def fitted(**params):
        return tuner(masked, objective, views=2, **params).fit(TEXTS).backbone_.fingerprint()

    assert fitted() == fitted() == fitted(cache=None)
    assert fitted() != fitted(random_state=1)
    assert fitted() != tuner(masked, objective, views=3).fit(TEXTS).backbone_.fingerprint()


def test_epochs_read_the_copies_in_turn():
    options = {"freeze_depth": 5, "lr": 1e-12, "batch_size": 16, "precision": "float32"}
    losses = tuner("tiny/cnn", "simsiam", views=4, **options).fit(ROWS).history_["train_loss"].to_numpy()
    assert losses[:2] == pytest.approx(losses[2:], abs=1e-4)
    assert abs(losses[0] - losses[1]) > 1e-3


def test_a_copy_depends_on_content_number_and_seed_alone(masked):
    backbone = load_backbone(masked)
    objective = MaskedTokens(0.5).for_backbone(backbone)
    inputs = PreprocessedSamples(check_texts(TEXTS), backbone.preprocess)

    def copies(rows, numbers, seed=0):
        return NoisyCopies(inputs, objective, np.array(rows), np.array(numbers), seed)

    some = copies([0, 0, 1], [0, 1, 0])
    assert len({some.key(row) for row in range(3)}) == 3
    assert not torch.equal(*some.tensors([0, 1]))
    other = copies([1, 0], [0, 1])
    assert all(torch.equal(one, two) for one, two in zip(some.tensors([2, 1]), other.tensors([0, 1])))
    assert [some.key(2), some.key(1)] == [other.key(0), other.key(1)]
    assert some.key(2) != copies([1], [0], seed=1).key(0)
    ids = [torch.zeros(len(one)) for one in inputs.tensors(range(len(TEXTS)))]
    targets = some.targets(Targets(ids, np.ones(len(TEXTS))))
    clean = inputs.tensors([0])[0]
    hidden = targets.values[0] != -100
    assert torch.equal(targets.values[0][hidden], clean[hidden])
    assert torch.equal(some.tensors([0])[0][~hidden], clean[~hidden])


@pytest.mark.parametrize("objective", ["mlm", "tsdae"])
def test_frozen_stages_stay_and_the_loss_falls(objective, masked):
    source = load_backbone(masked)
    before = source.fingerprint()
    own = tuner(source, objective, views=2, lr=1e-3, max_epochs=10).fit(TEXTS)
    assert own.history_["train_loss"].iloc[-1] < own.history_["train_loss"].iloc[0]
    assert own.backbone_.fingerprint(2) == source.fingerprint(2)
    assert own.backbone_.fingerprint() != source.fingerprint() == before


@pytest.mark.parametrize(
    ("backbone", "objective", "views", "message"),
    [
        ("hf/" + small_bert(), "simcse", 2, "views=2 fixes noisy copies of the texts, and objective=DropoutViews("),
        ("hf/" + small_bert(), "contrastive_tension", 2, "or objective to one of ('mlm', 'tsdae', 'simsiam')"),
        ("tiny/cnn", "denoise", 2, "views=2 fixes noisy copies of the images"),
        ("tiny/cnn", "simsiam", 1, "views=1 must be an int of at least 2, the copies that a step compares"),
        ("hf/" + small_bert(), "tsdae", 0, "views=0"),
        ("hf/" + small_bert(), "none", "all", "views='all'"),
        ("tiny/cnn", "simsiam", None, "or views=4 to repeat the changes of 4 epochs"),
    ],
)
def test_views_are_checked(backbone, objective, views, message):
    samples = ROWS if backbone == "tiny/cnn" else TEXTS
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        tuner(backbone, objective, views=views).fit(samples)
