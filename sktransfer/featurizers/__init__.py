"""Frozen backbones as scikit-learn transformers."""
