"""Frozen backbones and word vectors as scikit-learn transformers."""
