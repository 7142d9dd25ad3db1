"""Checks of a backbone inside estimators: every freezing depth trains what it should, and fitted ones are pickled."""

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

__all__ = ["check_estimator_pickle", "check_features", "check_freezing", "freezing_depths"]

_FEW = 4  # stages, up to which every freezing depth is tried


def freezing_depths(n_stages: int) -> list[int]:
    """Return the depths that are tried: all of a few stages, else none frozen, half, all but the last, and all.

    Parameters
    ----------
    n_stages : int
        How many stages the backbone has.
    """
    if n_stages <= _FEW:
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
    """At each depth the stages above train and those below stay bit-equal: let gradients through, own your weights."""
    backbone = subject.backbone
    n = len(backbone.stages)
    before = _snapshot(list(backbone.stages))
    for depth in freezing_depths(n):
        fitted = _classifier(subject, depth, max_epochs=1)
        for index in range(n):
            changed = _changed(backbone.stages[index], before[index])
            require(
                not changed,
                f"freeze_depth={depth} changed {changed[:3]} of {subject.stage(index)} of the backbone {subject.name} "
                "itself, not of a copy",
                expected="that only a copy is trained",
                fix="keep what a stage owns in parameters and buffers, which are copied, and not in globals",
            )
        for index in range(depth):
            changed = _changed(fitted.backbone_.stages[index], before[index])
            require(
                not changed,
                f"freeze_depth={depth} let {changed[:3]} of {subject.stage(index)} of {subject.name} change",
                expected="parameters and buffers bit-equal to before",
                fix="update statistics only where `self.training` is True",
            )
        _require_trained(subject, fitted, depth, before)


def _require_trained(subject: Subject, fitted: Any, depth: int, before: list[dict[str, Tensor]]) -> None:
    seen = {id(parameter) for stage in subject.backbone.stages[:depth] for parameter in stage.parameters()}
    for index in range(depth, len(subject.backbone.stages)):
        own = {id(parameter) for parameter in subject.backbone.stages[index].parameters()} - seen
        if not own:
            continue  # it has none, or they belong to a stage below
        seen |= own
        require(
            bool(_changed(fitted.backbone_.stages[index], before[index])),
            f"freeze_depth={depth} trained no parameter of {subject.stage(index)} of {subject.name}",
            expected="that every stage above the cut gets gradients",
            fix="take detach(), no_grad() and inference_mode() out of forward, and do not round values or copy them "
            "through numpy",
        )


def _featurizer(subject: Subject) -> Any:
    kind = TextFeaturizer if subject.modality == "text" else ImageFeaturizer
    return kind(subject.backbone, layer="all", device="cpu", cache=None).fit(subject.samples)


def check_features(subject: Subject) -> None:
    """A featurizer gives finite float32 features that differ between samples: see what each stage gives."""
    features = _featurizer(subject).transform(subject.samples)
    require(
        features.dtype == np.float32 and features.flags.c_contiguous and bool(np.isfinite(features).all()),
        f"the features of {subject.name} are {features.dtype}, with {int((~np.isfinite(features)).sum())} that are NaN",
        expected="finite float32",
        fix="see what each stage gives",
    )
    for index, stage in enumerate(run_stages(subject.backbone, subject.tensors)):
        require(
            len({(tuple(values.shape), values.numpy().tobytes()) for values in stage}) == len(stage),
            f"{subject.stage(index)} of {subject.name} gives the same values for two of {len(stage)} different samples",
            expected="values that differ",
            fix="see that the values depend on the input, and that random weights are not all zero",
        )


def check_estimator_pickle(subject: Subject) -> None:
    """Fitted estimators come out of pickle as they were: write stages as classes at the top of a module."""
    fitted = [(_featurizer(subject), "transform"), (_classifier(subject, -1, max_epochs=0), "predict_proba")]
    for estimator, method in fitted:
        expected = getattr(estimator, method)(subject.samples)
        try:
            again = pickle.loads(pickle.dumps(estimator))
        except Exception as error:
            raise AssertionError(
                f"a fitted {type(estimator).__name__} on {subject.name} cannot be pickled ({type(error).__name__}: "
                f"{error}); expected: a copy. To fix: no lambdas, locks or classes inside functions in stages and "
                "preprocessing"
            ) from error
        found = getattr(again, method)(subject.samples)
        require(
            bool(np.allclose(found, expected, rtol=0, atol=1e-5 * float(np.abs(expected).max()))),
            f"a fitted {type(estimator).__name__} on {subject.name} gives other values once it was pickled",
            expected="the same values",
            fix="keep what decides the values in parameters, buffers and attributes",
        )
