"""Classifiers that need no training: what a pretrained network can already tell."""
