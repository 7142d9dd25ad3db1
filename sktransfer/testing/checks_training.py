"""Checks of a backbone inside estimators: freezing, features and pickling."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sktransfer.exceptions import SktransferWarning
from sktransfer.featurizers.image import ImageFeaturizer
from sktransfer.featurizers.text import TextFeaturizer
from sktransfer.finetuning.classifier import FineTuneClassifier
from sktransfer.testing.backbone_subject import Subject, require, run_stages

__all__ = ["check_estimator_pickle", "check_features", "check_freezing", "freeze_depths"]

_MAX_STAGES = 4  # up to which every freeze depth is checked


def freeze_depths(n_stages: int) -> list[int]:
    """Return the freeze depths to check: all for few stages, else 0, half, all but one, and all stages.

    Parameters
    ----------
    n_stages : int
        Number of stages of the backbone.
    """
    if n_stages <= _MAX_STAGES:
        return list(range(n_stages + 1))
    return [0, n_stages // 2, n_stages - 1, n_stages]


def _snapshot(stages: Sequence[nn.Module]) -> list[dict[str, Tensor]]:
    return [{name: tensor.clone() for name, tensor in stage.state_dict().items()} for stage in stages]


def _changed(stage: nn.Module, before: dict[str, Tensor]) -> list[str]:
    return [name for name, tensor in stage.state_dict().items() if not torch.equal(tensor, before[name])]


def _classifier(subject: Subject, depth: int, max_epochs: int) -> Any:
    classifier = FineTuneClassifier(
        subject.backbone,
        freeze_depth=depth,
        max_epochs=max_epochs,
        device="cpu",
        cache=None,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SktransferWarning)
        return classifier.fit(subject.samples, subject.labels)


def check_freezing(subject: Subject) -> None:
    """Check that each freeze depth trains the stages above the boundary and keeps those below it bit-equal.

    To fix: let gradients pass through stages, and keep weights in parameters.
    """
    backbone = subject.backbone
    n = len(backbone.stages)
    before = _snapshot(list(backbone.stages))
    for depth in freeze_depths(n):
        fitted = _classifier(subject, depth, max_epochs=1)
        for index in range(n):
            changed = _changed(backbone.stages[index], before[index])
            require(
                not changed,
                f"freeze_depth={depth} changed {changed[:3]} of {subject.stage(index)} of {subject.name} itself, "
                "instead of a copy",
                expected="training of a copy only",
                fix="keep the state of a stage in parameters and buffers, which are copied, and not in globals",
            )
        for index in range(depth):
            changed = _changed(fitted.backbone_.stages[index], before[index])
            require(
                not changed,
                f"freeze_depth={depth} changed {changed[:3]} of the frozen {subject.stage(index)} of {subject.name}",
                expected="parameters and buffers bit-equal to before",
                fix="update statistics only where `self.training` is True",
            )
        _require_trained(subject, fitted, depth, before)


def _require_trained(subject: Subject, fitted: Any, depth: int, before: list[dict[str, Tensor]]) -> None:
    below = {id(parameter) for stage in subject.backbone.stages[:depth] for parameter in stage.parameters()}
    for index in range(depth, len(subject.backbone.stages)):
        own = {id(parameter) for parameter in subject.backbone.stages[index].parameters()} - below
        if not own:
            continue  # a stage without parameters, or with those of a stage below
        below |= own
        require(
            bool(_changed(fitted.backbone_.stages[index], before[index])),
            f"freeze_depth={depth} trained no parameter of {subject.stage(index)} of {subject.name}",
            expected="gradients for every stage above the freezing boundary",
            fix="remove detach(), no_grad(), inference_mode(), rounding and conversions to numpy from forward",
        )


def _featurizer(subject: Subject) -> Any:
    cls = TextFeaturizer if subject.modality == "text" else ImageFeaturizer
    return cls(subject.backbone, layer="all", device="cpu", cache=None).fit(subject.samples)


def check_features(subject: Subject) -> None:
    """Check that features are finite float32 values that differ between samples.

    To fix: look at the output of each stage.
    """
    features = _featurizer(subject).transform(subject.samples)
    require(
        features.dtype == np.float32 and features.flags.c_contiguous and bool(np.isfinite(features).all()),
        f"the features of {subject.name} are {features.dtype}, and {int((~np.isfinite(features)).sum())} are not "
        "finite",
        expected="finite float32",
        fix="look at the output of each stage",
    )
    for index, stage in enumerate(run_stages(subject.backbone, subject.tensors)):
        require(
            len({(tuple(values.shape), values.numpy().tobytes()) for values in stage}) == len(stage),
            f"{subject.stage(index)} of {subject.name} gives the same values for two of {len(stage)} different samples",
            expected="different values",
            fix="let the values depend on the input, and draw random weights that are not all zero",
        )


def check_estimator_pickle(subject: Subject) -> None:
    """Check that fitted estimators survive pickle.

    To fix: define stages as classes at module level.
    """
    fitted = [(_featurizer(subject), "transform"), (_classifier(subject, -1, max_epochs=0), "predict_proba")]
    for estimator, method in fitted:
        expected = getattr(estimator, method)(subject.samples)
        try:
            copy = pickle.loads(pickle.dumps(estimator))
        except Exception as error:
            raise AssertionError(
                f"a fitted {type(estimator).__name__} on {subject.name} cannot be pickled ({type(error).__name__}: "
                f"{error}); expected: a copy. To fix: use no lambdas, locks or local classes in stages and "
                "preprocessing"
            ) from error
        outputs = getattr(copy, method)(subject.samples)
        require(
            bool(np.allclose(outputs, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))),
            f"a fitted {type(estimator).__name__} on {subject.name} gives other values after pickling",
            expected="the same values",
            fix="let values depend only on parameters, buffers and attributes",
        )
