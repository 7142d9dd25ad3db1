"""Validation of X as samples: images or texts, one per row."""
