"""Conformance checks for authors of estimators and backbones, and samples for them.

Names are imported on first use, because the processes that backbone checks start do not need scikit-learn.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "CheckResult": "sktransfer.testing.backbone_checks",
    "check_backbone": "sktransfer.testing.backbone_checks",
    "check_runtime": "sktransfer.testing.runtime_checks",
    "check_transfer_estimator": "sktransfer.testing.estimator_checks",
    "parametrize_with_backbone_checks": "sktransfer.testing.backbone_checks",
    "parametrize_with_runtime_checks": "sktransfer.testing.runtime_checks",
    "parametrize_with_transfer_checks": "sktransfer.testing.estimator_checks",
    "rows_as_texts": "sktransfer.testing.row_bridge",
    "yield_backbone_checks": "sktransfer.testing.backbone_checks",
}
__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from sktransfer.testing.backbone_checks import CheckResult as CheckResult
    from sktransfer.testing.backbone_checks import check_backbone as check_backbone
    from sktransfer.testing.backbone_checks import parametrize_with_backbone_checks as parametrize_with_backbone_checks
    from sktransfer.testing.backbone_checks import yield_backbone_checks as yield_backbone_checks
    from sktransfer.testing.estimator_checks import check_transfer_estimator as check_transfer_estimator
    from sktransfer.testing.estimator_checks import parametrize_with_transfer_checks as parametrize_with_transfer_checks
    from sktransfer.testing.row_bridge import rows_as_texts as rows_as_texts
    from sktransfer.testing.runtime_checks import check_runtime as check_runtime
    from sktransfer.testing.runtime_checks import parametrize_with_runtime_checks as parametrize_with_runtime_checks


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'sktransfer.testing' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
