"""Transferability scores, rankings of backbones and layers, and an estimator that chooses between them."""
