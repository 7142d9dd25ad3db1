"""Labelled and unlabelled domains of samples, and losses that align their features."""
