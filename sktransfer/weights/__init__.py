"""Locating, downloading and reading of weight files."""
