"""Unfreezing, held-out samples and the history of the epochs of a training."""
