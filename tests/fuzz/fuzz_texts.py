"""Fuzz random texts: tokens are in range and features are finite for any characters.

`python -m tests.fuzz.fuzz_texts 180` tries random texts for 180 seconds and prints counts.
"""

from __future__ import annotations

import faulthandler
import functools
import random
import sys
import time
import warnings
from collections import Counter

import numpy as np

from sktransfer import TextFeaturizer, WordEmbedder, load_backbone
from sktransfer.samples.texts import check_texts
from tests.helpers.dirty_texts import ODD
from tests.helpers.huggingface_folders import minilm_folder

_RANGES = [(0, 0x7F), (0, 0x2FF), (0x300, 0x36F), (0x590, 0x6FF), (0x2000, 0x206F), (0x3000, 0x9FFF), (0xD800, 0xDFFF)]
_RANGES += [(0xFE00, 0xFFFF), (0x1F000, 0x1FAFF), (0, 0x10FFFF)]
_PIECES = [*ODD.values(), "good", " ", "\n", "film", "##", "▁", "Ġ", "[UNK]", "'", "n't"]


def minilm():
    """Return the name of the sentence encoder of the test requirements."""
    return f"hf/{minilm_folder()}"


@functools.cache
def featurizers():
    """Return fitted featurizers by name. MiniLM uses only its embeddings, for speed."""
    words = WordEmbedder(vector_size=8, min_count=1, epochs=1, random_state=0).fit(["a good film, don't miss it"] * 9)
    return {
        "tiny/bert": TextFeaturizer(cache=None).fit(["a"]),
        "MiniLM": TextFeaturizer(minilm(), layer=0, cache=None).fit(["a"]),
        "words": words,
    }


@functools.cache
def _tokenizers():
    return {name: load_backbone(name).preprocess for name in ("tiny/bert", minilm())}


def check_tokens(text):
    """Check the tokens of a text for each tokenizer."""
    loaded = check_texts([text]).load(0)
    for name, tokenizer in _tokenizers().items():
        (tokens,), (truncated,) = tokenizer.tokenize([loaded])
        assert 1 <= len(tokens) <= tokenizer.limit, (name, len(tokens))
        assert not truncated or len(tokens) == tokenizer.limit
        assert tokens.min() >= 0
        assert tokens.equal(tokenizer.tokenize([loaded])[0][0])


def check_features(texts):
    """Check the features of some texts for each featurizer."""
    for name, featurizer in featurizers().items():
        features = featurizer.transform(texts)
        assert features.shape[0] == len(texts)
        assert np.isfinite(features).all(), name


def random_text(rng):
    parts = []
    for _ in range(int(rng.expovariate(0.2))):
        if rng.random() < 0.4:
            parts.append(rng.choice(_PIECES))
        else:
            low, high = rng.choice(_RANGES)
            parts.append("".join(chr(rng.randint(low, high)) for _ in range(int(rng.expovariate(0.1)))))
    return "".join(parts) * (rng.choice([1, 1, 1, 50]))


def main(seconds=600.0, seed=None):
    """Try random texts for some seconds, print counts, and return them."""
    seed = random.randrange(2**32) if seed is None else seed
    rng, counts = random.Random(seed), Counter()
    faulthandler.enable(sys.__stderr__)
    warnings.simplefilter("ignore")
    featurizers()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        texts = [random_text(rng) for _ in range(32)]
        faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)
        try:
            for text in texts:
                start = time.process_time()
                check_tokens(text)
                counts["slow"] += time.process_time() - start > 5
            check_features(texts)
            counts["ok"] += len(texts)
        except Exception as error:
            counts["wrong"] += 1
            print(f"{type(error).__name__}: {error!s:.300} ({texts!a:.2000})")
        faulthandler.cancel_dump_traceback_later()
        counts["tried"] += len(texts)
    print(f"texts, seed {seed}: " + ", ".join(f"{name} {counts[name]}" for name in ("tried", "ok", "wrong", "slow")))
    return counts


if __name__ == "__main__":
    found = main(*map(float, sys.argv[1:2]))
    sys.exit(found["wrong"] + found["slow"] > 0)
