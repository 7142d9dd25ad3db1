"""Classifiers that need no training."""
