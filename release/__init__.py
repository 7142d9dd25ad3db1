"""Checks before a release: tests in supported environments, and the distributions as users install them."""
