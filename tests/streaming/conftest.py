from __future__ import annotations

import numpy as np
import pytest

from sktransfer import WordEmbedder
from sktransfer.words.vectors import WordVectors

WORDS = ["good", "bad", "film", "plot", "dull"]


@pytest.fixture(scope="session")
def texts():
    """Return 25 texts of two words, of which some are equal."""
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 2)) for _ in range(25)]


@pytest.fixture(scope="session")
def embedder(texts):
    """Return a fitted transformer of texts that takes no time."""
    vectors = np.random.default_rng(1).normal(size=(len(WORDS), 4)).astype(np.float32)
    return WordEmbedder(WordVectors(WORDS, vectors)).fit(texts)


@pytest.fixture(scope="session")
def expected(embedder, texts):
    """Return the features of all texts."""
    return embedder.transform(texts)
