"""SelfSupervisedTuner: adaptation of a backbone to images without labels."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from sklearn.callback import ProgressBar
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    MaskedPatches,
    MaskedTokens,
    SelfSupervisedTuner,
    StageDenoising,
    load,
    load_backbone,
    save,
)
from sktransfer.exceptions import InvalidParameterError, InvalidSampleError
from tests.helpers import huggingface_folders as hub

ROWS, DIGITS = (part[:24] for part in load_digits(return_X_y=True))
ROWS = ROWS / 16
N_STAGES = 7  # of tiny/cnn


def tuner(backbone="tiny/cnn", objective="simsiam", **params):
    params = {"max_epochs": 1, "lr": 3e-4, "batch_size": 8, "random_state": 0, "freeze_depth": 0, **params}
    return SelfSupervisedTuner(backbone, objective=objective, **params)


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    hub.make_folder("vit", folder)
    return f"hf/{folder}"


@pytest.mark.parametrize("layer", ["auto", 2])
def test_objective_none_equals_the_frozen_featurizer(layer):
    own, frozen = tuner(objective="none", layer=layer), ImageFeaturizer("tiny/cnn", layer=layer)
    assert np.array_equal(own.fit_transform(ROWS, DIGITS), frozen.fit_transform(ROWS, DIGITS))
    assert np.array_equal(own.transform(ROWS), frozen.transform(ROWS))


@pytest.mark.parametrize(("objective", "freeze_depth"), [("simsiam", 0), ("denoise", 5), ("mae", 1)])
def test_fit_lowers_the_loss_and_gives_a_backbone(objective, freeze_depth, vit):
    source = load_backbone(vit if objective == "mae" else "tiny/cnn")
    before = source.fingerprint()
    own = tuner(source, objective, freeze_depth=freeze_depth, max_epochs=4).fit(ROWS)
    losses = own.history_["train_loss"].to_numpy()
    per_stage = np.split(losses, len(source.stages) - freeze_depth) if objective == "denoise" else [losses]
    assert all(of_stage[-1] < of_stage[0] for of_stage in per_stage)
    assert np.isfinite(own.history_["valid_loss"]).all()
    assert source.fingerprint() == before
    assert own.backbone_.fingerprint() != before
    assert own.backbone_.fingerprint(freeze_depth) == source.fingerprint(freeze_depth)
    assert own.stages_["trained"].tolist() == [False] * freeze_depth + [True] * (len(source.stages) - freeze_depth)
    assert np.array_equal(own.transform(ROWS), ImageFeaturizer(own.backbone_).fit_transform(ROWS))
    again = tuner(source, objective, freeze_depth=freeze_depth, max_epochs=4, cache=None).fit(ROWS)
    assert np.array_equal(again.transform(ROWS), own.transform(ROWS))
    assert again.backbone_.fingerprint() == own.backbone_.fingerprint()


@pytest.mark.parametrize(("objective", "freeze_depth"), [("simsiam", 0), ("denoise", 4)])
def test_weights_random_recompute_the_statistics_of_norms(objective, freeze_depth):
    own = tuner(objective=objective, freeze_depth=freeze_depth, weights="random", layer=-1).fit(ROWS)
    norm = next(one for one in own.backbone_.stages[-1].modules() if isinstance(one, torch.nn.BatchNorm2d))
    assert int(norm.num_batches_tracked) == 3  # of 22 samples, 8 a batch
    assert np.isfinite(own.transform(ROWS)).all()


def test_denoise_trains_one_stage_after_the_other():
    own = tuner(objective="denoise", freeze_depth=4, max_epochs=2, callbacks=None).fit(ROWS)
    assert own.history_["stage"].tolist() == ["block4"] * 2 + ["block5"] * 2 + ["top"] * 2
    assert own.history_.index.tolist() == [1, 2, 3, 4, 5, 6]
    assert own.n_iter_ == 6
    assert own.freeze_depth_ == 4
    lower = tuner(objective="denoise", freeze_depth=4, max_epochs=2, layer="block4").fit(ROWS)
    assert lower.backbone_.fingerprint(5) == own.backbone_.fingerprint(5)  # the stages above do not change it


def test_denoise_notifies_callbacks_of_each_epoch(capsys):
    own = tuner(objective="denoise", freeze_depth=5).set_callbacks(ProgressBar()).fit(ROWS)
    assert own.n_iter_ == 2
    assert "SelfSupervisedTuner" in capsys.readouterr().out


def test_backbone_goes_into_other_estimators(tmp_path):
    own = tuner(objective=StageDenoising(noise=1.0), freeze_depth=6).fit(ROWS)
    assert FineTuneClassifier(own.backbone_, max_epochs=1, random_state=0).fit(ROWS, DIGITS).score(ROWS, DIGITS) > 0.5
    save(own, tmp_path / "own.skt")
    loaded = load(tmp_path / "own.skt")
    assert np.array_equal(loaded.transform(ROWS), own.transform(ROWS))
    assert repr(loaded.objective_) == "StageDenoising(noise=1.0)"
    pipeline = make_pipeline(tuner(freeze_depth=6, objective="denoise"), LogisticRegression(max_iter=1000))
    assert pipeline.fit(ROWS, DIGITS).score(ROWS, DIGITS) > 0.5


def test_square_arrays_and_image_shape_are_read():
    flat = tuner(objective="denoise", freeze_depth=6).fit(ROWS)
    square = tuner(objective="denoise", freeze_depth=6).fit(ROWS.reshape(-1, 8, 8))
    wide = tuner(objective="denoise", freeze_depth=6, image_shape=(4, 16)).fit(ROWS)
    assert flat.backbone_.fingerprint() == square.backbone_.fingerprint() != wide.backbone_.fingerprint()
    assert wide.transform(ROWS).shape == (24, 512)


@pytest.mark.usefixtures("gpu")
@pytest.mark.gpu
@pytest.mark.parametrize(("objective", "freeze_depth"), [("simsiam", 0), ("denoise", 5)])
def test_gpu_trains(objective, freeze_depth):
    own = tuner(objective=objective, freeze_depth=freeze_depth, device="cuda", max_epochs=2).fit(ROWS)
    assert own.history_["train_loss"].iloc[-1] < own.history_["train_loss"].iloc[-2]
    assert all(value.device.type == "cpu" for value in own.backbone_.stages.state_dict().values())


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "mlm"}, "is for texts, and tiny/cnn takes images; set objective to 'auto', 'none' or one of"),
        ({"objective": MaskedTokens()}, "objective=MaskedTokens(probability=0.15) is for texts"),
        ({"backbone": "tiny/bert"}, "is for images, and tiny/bert takes texts"),
        ({"freeze_depth": 2}, "set freeze_depth=0, or objective='denoise', which changes no image"),
        ({"objective": "auto"}, "Set objective='simsiam', 'denoise' or 'mae', at a low rate such as lr=1e-5"),
        ({"objective": "mae"}, "hides patches of a sequence"),
        ({"objective": MaskedPatches(0.5), "freeze_depth": 1}, "set freeze_depth=1 for a vision transformer"),
        ({"normalize": True}, "takes images; set normalize='auto'"),
        ({"objective": "denoise", "freeze_depth": "all"}, "leaves nothing to train"),
    ],
)
def test_parameters_are_checked(params, message):
    X = [str(row) for row in range(4)] if params.get("backbone") == "tiny/bert" else ROWS
    with pytest.raises(InvalidParameterError, match=re.escape(message)):
        tuner(**params).fit(X)


def test_few_images_and_missing_ones_are_refused():
    with pytest.raises(ValueError, match=r"needs 3 images at least, of which one is held out, and X has n_samples=2"):
        tuner().fit(ROWS[:2])
    with pytest.raises(InvalidSampleError, match="row 1"):
        tuner().fit([ROWS[0].reshape(8, 8), None, ROWS[1].reshape(8, 8)])
    assert torch.isfinite(torch.from_numpy(tuner().fit(ROWS[:3]).transform(ROWS[:3]))).all()
