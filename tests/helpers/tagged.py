"""Random sentences of tags, among them many that break their scheme."""

from __future__ import annotations

import random


def random_tags(letters, seed, n=12):
    """Return true and predicted tags of n sentences. Only `random()` is used, whose values never change."""
    rng = random.Random(seed)
    tags = ["O"] + [f"{letter}-{kind}" for letter in letters for kind in ("PER", "LOC", "ORG")]
    true = []
    for _ in range(n):
        length = int(rng.random() * 13)
        true.append([tags[int(rng.random() * len(tags))] if rng.random() < 0.7 else "O" for _ in range(length)])
    predicted = [[tag if rng.random() < 0.75 else tags[int(rng.random() * len(tags))] for tag in row] for row in true]
    return true, predicted
