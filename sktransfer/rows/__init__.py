"""Rows of several columns, each with samples of one modality."""
