"""Fuzz saved files: `load` raises LoadError or loads the file.

The suite tries a few; `python -m tests.fuzz.fuzz_persistence 600` runs for ten minutes and prints the counts.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.stats import loguniform
from sklearn.linear_model import LogisticRegression
from sklearn.utils.metadata_routing import MetadataRequest

from sktransfer import EMA, TextFeaturizer, config_context, load, save
from sktransfer.exceptions import LoadError
from sktransfer.persistence.archive import ESTIMATOR, WEIGHTS
from tests.helpers import huggingface_folders, saved_estimators
from tests.helpers.forged_files import sign, unzip, zip_members
from tests.helpers.saved_estimators import TEXTS, fitted

SLOW = 20  # seconds; a slower file is a finding
Choose = Callable[[int], int]  # from n to a number below n
VALUES = [None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), "", "x", "\x00", "../x", [], {}, [[]]]
CODED = [np.random.default_rng(0), loguniform(0.1, 1.0), csr_array(np.eye(3)), MetadataRequest("owner")]
NAMES = [
    "os.system",
    "builtins.eval",
    "sklearn.svm._classes.SVC",
    "numpy.ndarray",
    "sktransfer.persistence.skops_bridge.CustomNode",
]


def _embedded(folder: Path) -> object:
    huggingface_folders.make_folder("albert", folder / "albert")
    return TextFeaturizer(f"hf/{folder / 'albert'}").fit(TEXTS)


@functools.cache
def originals() -> list[tuple[str, bytes]]:
    """Return files of several kinds, by name."""
    folder = Path(tempfile.mkdtemp(prefix="sktransfer-test-saved-"))
    kinds = [
        ("Pipeline", fitted("Pipeline"), "reference"),
        ("GridSearchCV", fitted("GridSearchCV"), "reference"),
        ("WordEmbedder", fitted("WordEmbedder"), "reference"),
        ("weights of words", fitted("WordEmbedder sif"), "reference"),
        ("head", saved_estimators.fine_tuned(freeze_depth="all", callbacks=[EMA(0.5)], device="cpu"), "reference"),
        ("trained stages", fitted("FineTuneRegressor"), "reference"),
        ("embedded", _embedded(folder), "embed"),
        ("table", fitted("BestBackbone"), "reference"),
        ("scikit-learn alone", LogisticRegression(C=CODED, random_state=0), "reference"),
    ]
    files = []
    for name, estimator, weights in kinds:
        save(estimator, folder / "one.skt", weights=weights)
        files.append((name, (folder / "one.skt").read_bytes()))
    return files


def flipped(content: bytes, choose: Choose) -> bytes:
    """Return bytes with a change, truncation, deletion or insertion."""
    changed = bytearray(content)
    for _ in range(1 + choose(3)):
        place = choose(len(changed) + 1)
        match choose(4):
            case 0:
                changed[place : place + 1] = bytes([choose(256)])
            case 1:
                del changed[place:]
            case 2:
                del changed[place : place + 1 + choose(64)]
            case _:
                changed[place:place] = bytes(choose(256) for _ in range(1 + choose(8)))
    return bytes(changed)


def _places(tree: object) -> list[tuple[object, object]]:
    found, waiting = [], [tree]
    while waiting:
        one = waiting.pop()
        keys = list(one) if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else []
        found.extend((one, key) for key in keys)
        waiting.extend(one[key] for key in keys)
    return found


def edited(content: bytes, choose: Choose) -> bytes:
    """Return JSON with some values replaced by other values or type names, or swapped."""
    tree = json.loads(content)
    for _ in range(1 + choose(3)):
        places = _places(tree)
        if not places:
            break
        where, key = places[choose(len(places))]
        other, other_key = places[choose(len(places))]
        match choose(6):
            case 0:
                where[key] = VALUES[choose(len(VALUES))]
            case 1:
                where[key] = other[other_key]
                tree = json.loads(_text(tree))  # a copy, because recursive values cannot be written
            case 2:
                del where[key]
            case 3 if isinstance(where[key], str):
                where[key] = flipped(where[key].encode(), choose).decode("utf-8", "replace")
            case 4 if isinstance(where, dict) and "__class__" in where:
                where["__module__"], _, where["__class__"] = NAMES[choose(len(NAMES))].rpartition(".")
            case _:
                where[key] = where[key] + 1 if isinstance(where[key], (int, float)) else VALUES[choose(len(VALUES))]
    return _text(tree)


def _text(tree: object) -> bytes:
    try:
        return json.dumps(tree).encode()
    except (ValueError, RecursionError):
        return b"[]"


def forged(content: bytes, choose: Choose) -> bytes:
    """Return a file with changes inside, and hashes that fit them: as one who means harm would."""
    members = unzip(content)
    match choose(5):
        case 0:
            members["manifest.json"] = edited(members["manifest.json"], choose)
        case 1:
            members[WEIGHTS] = flipped(members[WEIGHTS], choose)
        case 2:
            members[ESTIMATOR] = flipped(members[ESTIMATOR], choose)
        case _:
            inner = unzip(members[ESTIMATOR])
            names = sorted(inner)
            name = names[choose(len(names))] if choose(3) == 0 else "schema.json"
            change = edited if name == "schema.json" else flipped
            members[ESTIMATOR] = zip_members({**inner, name: change(inner[name], choose)})
    return zip_members(sign(members))


def outcome(content: bytes, path: Path) -> str:
    """Return the outcome of a file: "ok", "refused", or an unexpected exception."""
    path.write_bytes(content)
    with warnings.catch_warnings(), config_context(download="never"):
        warnings.simplefilter("ignore")
        try:
            load(path)
        except LoadError as error:
            return "refused" if str(path) in str(error) else f"a message without the path: {error}"
        except Exception:
            return traceback.format_exc()
    return "ok"


def main(seconds: float = 600.0, seed: int | None = None) -> Counter[str]:
    """Try changed files until time is up, print counts, and return them."""
    seed = random.randrange(2**32) if seed is None else seed
    rng, counts = random.Random(seed), Counter[str]()
    files = originals()
    end = time.monotonic() + seconds
    latest = Path(tempfile.mkdtemp(prefix="sktransfer-fuzz-"), "latest.skt")  # the input of the last run, for crashes
    faulthandler.enable(sys.__stderr__)
    while time.monotonic() < end:
        name, content = rng.choice(files)
        changed = (flipped if rng.random() < 0.25 else forged)(content, rng.randrange)
        faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)
        start = time.monotonic()
        found = outcome(changed, latest)
        taken = time.monotonic() - start
        faulthandler.cancel_dump_traceback_later()
        kind = "slow" if taken > SLOW else found if found in ("ok", "refused") else "wrong"
        if kind not in ("ok", "refused"):
            kept = latest.with_name(f"{kind}{counts[kind]}.skt")
            kept.write_bytes(changed)
            print(f"{name}, {taken:.0f} s ({kept}): {found}", flush=True)
        counts[kind] += 1
        counts["tried"] += 1
    shown = ", ".join(f"{name} {counts[name]}" for name in ("tried", "ok", "refused", "wrong", "slow"))
    print(f"saved estimators, seed {seed}: {shown}")
    return counts


if __name__ == "__main__":
    total = main(*map(float, sys.argv[1:2]))
    sys.exit(total["wrong"] + total["slow"] > 0)
