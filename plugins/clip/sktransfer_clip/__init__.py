"""Backbones of sktransfer for the two towers of CLIP."""
