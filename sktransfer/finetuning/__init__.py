"""Backbones trained from a cut upwards, as scikit-learn estimators."""
