"""Checks for those who write estimators or backbones, shipped as scikit-learn ships its own."""

from __future__ import annotations

from sktransfer.testing.estimator_checks import check_transfer_estimator, parametrize_with_transfer_checks

__all__ = ["check_transfer_estimator", "parametrize_with_transfer_checks"]
