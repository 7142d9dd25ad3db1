"""`check_backbone` and its pytest decorator: conformance checks for authors of backbones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import InvalidParameterError, SktransferWarning, did_you_mean
from sktransfer.testing import checks_forward as forward
from sktransfer.testing import checks_language as language
from sktransfer.testing import checks_loading as loading
from sktransfer.testing import checks_state as state
from sktransfer.testing import checks_training as training
from sktransfer.testing.backbone_subject import NotRun, Reference, Subject, restore_global_state

__all__ = [
    "CHECKS",
    "CheckResult",
    "check_backbone",
    "parametrize_with_backbone_checks",
    "yield_backbone_checks",
    "yield_results",
]

Check = Callable[[Subject], None]
Expected = Mapping[str, str]

CHECKS: tuple[Check, ...] = (
    loading.check_light_listing,
    loading.check_stage_names,
    loading.check_widths,
    loading.check_input_size,
    loading.check_tampered_weights,
    loading.check_pretrained_differs,
    loading.check_offline,
    loading.check_reload,
    loading.check_beside_another,
    loading.check_pickle,
    forward.check_reference,
    forward.check_values,
    forward.check_determinism,
    forward.check_batch,
    forward.check_order,
    forward.check_padding,
    forward.check_restart,
    state.check_state,
    state.check_global_state,
    state.check_gradients,
    state.check_memory,
    state.check_preprocess,
    state.check_odd_inputs,
    training.check_features,
    training.check_freezing,
    training.check_estimator_pickle,
    language.check_lm_reference,
    language.check_lm_head,
    language.check_lm_training,
    forward.check_device,
    forward.check_device_memory,
)


@dataclass(frozen=True)
class CheckResult:
    """Result of one check.

    Parameters
    ----------
    name : str
        Name of the check.
    status : {"passed", "failed", "expected", "not run"}
        "expected" is a known failure.
    reason : str, default=""
        Why the check failed or was not run. For a known failure, the reason given by the caller.
    """

    name: str
    status: str
    reason: str = ""


def check_backbone(
    backbone: str | Backbone,
    *,
    device: str | torch.device | None = None,
    reference: Reference | None = None,
    lm_reference: Reference | None = None,
    expected_failures: Expected | None = None,
    on_fail: str | None = "raise",
) -> list[CheckResult]:
    """Run all conformance checks on a backbone.

    Parameters
    ----------
    backbone : str or Backbone
        Name, as `load_backbone` takes it, or a loaded backbone, for which the checks of spec and loader are not run.
        Pretrained weights are used if they are local, else random ones. No weights are downloaded.
    device : str or torch.device, default=None
        Device to compare with the CPU. None is the first CUDA device, if there is one.
    reference : callable, default=None
        The model's own forward, called as `reference(values)` with preprocessed images, or as
        `reference(values, mask)` with the token ids of texts. It returns the head's logits, or without a head the
        last stage's values.
    lm_reference : callable, default=None
        The same for the `lm_head`. It returns logits over the vocabulary (n, tokens, n_vocabulary).
    expected_failures : mapping of str to str, default=None
        Reason per check that is known to fail. If such a check passes, it counts as failed.
    on_fail : {"raise", None}, default="raise"
        "raise" raises an error after all checks have run. None only returns.

    Returns
    -------
    results : list of CheckResult
        One result per check, in order, with `name`, `status` and `reason`.

    Raises
    ------
    AssertionError
        If checks fail, with the message of each.
    InvalidParameterError
        If a parameter is not allowed, or `expected_failures` names an unknown check.
    BackboneNotFoundError
        If there is no backbone with this name.

    Examples
    --------
    >>> from sktransfer.testing import check_backbone
    >>> results = check_backbone("tiny/cnn")
    >>> [result.name for result in results if result.status == "failed"]
    []
    """
    if on_fail not in ("raise", None):
        raise InvalidParameterError(f"on_fail={on_fail!r} must be 'raise' or None")
    if not isinstance(backbone, (str, Backbone)):
        raise InvalidParameterError(
            f"backbone={backbone!r} must be a name or a Backbone, not {type(backbone).__name__}"
        )
    expected = _check_expected(expected_failures or {})
    subject = Subject(backbone, device=device, reference=reference, lm_reference=lm_reference)
    results = list(yield_results(subject, expected))
    failures = [f"{result.name}: {result.reason}" for result in results if result.status == "failed"]
    if failures and on_fail == "raise":
        raise AssertionError(f"{len(failures)} of {len(results)} checks failed\n\n" + "\n\n".join(failures))
    return results


def yield_results(subject: Subject, expected: Expected) -> Iterator[CheckResult]:
    """Yield the result of each check as soon as it has run.

    Parameters
    ----------
    subject : Subject
        Backbone under test.
    expected : mapping of str to str
        Reason per check that is known to fail.

    Raises
    ------
    BackboneNotFoundError
        If there is no backbone with this name. Otherwise each check would fail.
    """
    if not subject.is_loaded:
        subject.spec  # noqa: B018  raises BackboneNotFoundError
    for check in CHECKS:
        yield _result(check, subject, expected.get(check.__name__))


def _check_expected(expected: Expected) -> Expected:
    names = [check.__name__ for check in CHECKS]
    for name in expected:
        if name not in names:
            raise InvalidParameterError(
                f"expected_failures: {name!r} is no check; choose from {names}." + did_you_mean(name, names)
            )
    return expected


def _result(check: Check, subject: Subject, expected: str | None) -> CheckResult:
    name = check.__name__
    try:
        _run(check, subject)
    except NotRun as error:
        return CheckResult(name, "not run", str(error))
    except AssertionError as error:
        return CheckResult(name, "failed", str(error)) if expected is None else CheckResult(name, "expected", expected)
    if expected is not None:
        return CheckResult(
            name, "failed", f"passes, but is expected to fail ({expected}): remove it from expected_failures"
        )
    return CheckResult(name, "passed")


def _run(check: Check, subject: Subject) -> None:
    """Run one check. Any error of the backbone becomes a failure that states the rule."""
    rule = " ".join((check.__doc__ or "").split()).removeprefix("Check that ")
    try:
        with restore_global_state(), warnings.catch_warnings():
            warnings.simplefilter("ignore", SktransferWarning)  # checks truncate texts on purpose
            check(subject)
    except NotRun:
        raise
    except AssertionError as error:
        raise AssertionError(f"{error}\n    Rule: {rule}") from error
    except Exception as error:
        raise AssertionError(
            f"{subject.name} raised {type(error).__name__}: {error}; expected: no error\n    Rule: {rule}"
        ) from error


def yield_backbone_checks(backbone: str | Backbone, **settings: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the name of each check, and a function without arguments that runs it on a backbone.

    Parameters
    ----------
    backbone : str or Backbone
        As in `check_backbone`. The first check that needs it loads it, and all checks share it.
    **settings : `device`, `reference` or `lm_reference`
        As in `check_backbone`.

    Yields
    ------
    name : str
    check : callable
        Raises AssertionError if the check fails, and `unittest.SkipTest` if it does not apply.

    Examples
    --------
    >>> from sktransfer.testing import yield_backbone_checks
    >>> name, check = next(yield_backbone_checks("tiny/cnn"))
    >>> name
    'check_light_listing'
    >>> check()
    """
    subject = Subject(backbone, **settings)
    for check in CHECKS:
        yield check.__name__, partial(_run, check, subject)


def parametrize_with_backbone_checks(
    names: Sequence[str | Backbone], expected_failures: Expected | Callable[[Any], Expected] | None = None
) -> Any:
    """Make a pytest test run once for each backbone and check.

    Parameters
    ----------
    names : sequence of str or Backbone
        As in `check_backbone`.
    expected_failures : mapping or callable, default=None
        Reason per check that is known to fail, for all of `names`, or a callable that returns such a mapping for one
        of them. If such a check passes, the test fails.

    Returns
    -------
    decorator : pytest mark
        For a test function with arguments `backbone_name` and `check` that calls `check()`. A check that does not
        apply is skipped, with its reason.

    Raises
    ------
    InvalidParameterError
        If `expected_failures` names an unknown check.

    Examples
    --------
    >>> from sktransfer.testing import parametrize_with_backbone_checks
    >>> @parametrize_with_backbone_checks(["tiny/cnn"], {"check_values": "gives float16 for now"})
    ... def test_backbones(backbone_name, check):
    ...     check()
    """
    import pytest

    cases = []
    for backbone in names:
        expected = _check_expected(
            (expected_failures(backbone) if callable(expected_failures) else expected_failures) or {}
        )
        full_name = backbone if isinstance(backbone, str) else backbone.name
        for name, check in yield_backbone_checks(backbone):
            marks = [pytest.mark.xfail(reason=expected[name], strict=True)] if name in expected else []
            cases.append(pytest.param(full_name, check, marks=marks, id=f"{_test_id(full_name)}-{name}"))
    return pytest.mark.parametrize(("backbone_name", "check"), cases)


def _test_id(name: str) -> str:
    """Return the name for a test's id. Parent folders are removed, because parallel workers must agree on ids."""
    prefix, mark, place = name.partition("//")
    return f"{prefix}/{Path(place).name}" if mark else name
