"""Sentences as lists of words, the windows in which a network reads them, and values per word."""
