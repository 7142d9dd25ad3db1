"""Backbones of sktransfer for the models of sentence-transformers."""
