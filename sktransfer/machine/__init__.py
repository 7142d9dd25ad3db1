"""The processor at hand: its instructions and caches, precisions that it emulates, and what was measured on it."""
