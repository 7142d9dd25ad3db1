"""Joined backbones: a tower per column, and rows of several columns."""
