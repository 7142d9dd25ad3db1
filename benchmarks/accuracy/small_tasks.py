"""Small tasks of different kinds, for benchmarks of defaults: 13 of texts and 10 of images, 4 of them regressions.

Each task has a pool of up to 1,400 labelled samples to draw training sets from, and 600 test samples. Some tasks are
computed from the data: the genre, the root word or the nouns of a sentence, the package of a docstring, the turn of a
photo, the typeface of two letters, and the membranes of a micrograph. None of them is part of what the
shipped networks were trained on, except that "tiny/bert" has read the texts of IMDB without labels.

Rules are chosen on the tasks of the half "choose" and reported on those of the half "report".
"""

from __future__ import annotations

import ast
import gzip
import importlib.util
import io
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits

from benchmarks.common import data_folder, photos

__all__ = ["SMALL_TASKS", "SmallTask"]

N_POOL, N_TEST = 1400, 600
PACKAGES = ("matplotlib", "networkx", "numpy", "pandas", "scipy", "sklearn")
TYPEFACES = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif", "STIXGeneral", "cmr10", "cmss10")
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
ROOTS = ("ADJ", "NOUN", "PROPN", "VERB")
Data = tuple[Any, np.ndarray]


@dataclass(frozen=True)
class SmallTask:
    """A small task.

    Parameters
    ----------
    name : str
        Name in the results.
    modality : {"image", "text"}
        Kind of samples.
    half : {"choose", "report"}
        Half of the suite: rules are chosen on one and reported on the other.
    read : callable
        Returns samples and targets. The last 600 at most, and never more than two fifths, are the test samples.
    is_regression : bool, default=False
        Whether the targets are numbers.
    """

    name: str
    modality: str
    half: str
    read: Callable[[], Data]
    is_regression: bool = False

    def load(self) -> tuple[Data, Data]:
        """Return the pool for training draws, and the test samples."""
        X, y = self.read()
        n_test = min(N_TEST, len(y) * 2 // 5)
        n_pool = min(N_POOL, len(y) - n_test)
        return (X[:n_pool], y[:n_pool]), (X[-n_test:], y[-n_test:])


def _shuffled(X: Any, y: Any, seed: int = 0) -> Data:
    """Return distinct samples in a random order, as many as a task uses."""
    y = np.asarray(y)
    keys = [sample if isinstance(sample, str) else np.asarray(sample).tobytes() for sample in X]
    first = pd.Series(range(len(keys))).groupby(pd.Series(keys)).first().to_numpy()
    rows = np.random.default_rng(seed).permutation(np.sort(first))[: N_POOL + N_TEST]
    return (X[rows] if isinstance(X, np.ndarray) else [X[row] for row in rows]), y[rows]


# Texts


def _table(name: str, **columns: str) -> Data:
    table = pd.read_csv(data_folder() / "text" / name)
    for column, value in columns.items():
        table = table[table[column] == value]
    return _shuffled(table["text"].to_list(), table["label"].to_numpy())


def _goods() -> Data:
    table = pd.read_csv(data_folder() / "text" / "amazon_mdsd.csv.gz")
    return _shuffled(table["text"].to_list(), table["domain"].to_numpy(), 1)


def _sentences() -> Iterator[tuple[str, list[list[str]]]]:
    """Yield the name and the rows of each sentence of UD English EWT: token, UPOS, XPOS, lemma, head, relation."""
    with gzip.open(data_folder() / "text" / "ud_ewt_train.tsv.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    for block in text.split("\n\n"):
        name, *lines = block.strip().split("\n")
        rows = [line.split("\t") for line in lines if not line.startswith("# ")]
        if len(rows) >= 5:
            yield name.removeprefix("# "), rows


def _of_sentences(target: Callable[[str, list[list[str]]], Any], allowed: tuple[str, ...] = ()) -> Data:
    texts, targets = [], []
    for name, rows in _sentences():
        value = target(name, rows)
        if not allowed or value in allowed:
            texts.append(" ".join(row[0] for row in rows))
            targets.append(value)
    return _shuffled(texts, targets)


def _root(name: str, rows: list[list[str]]) -> str:
    return next(row[1] for row in rows if row[4] == "0")


def _noun_share(name: str, rows: list[list[str]]) -> float:
    return sum(row[1] in ("NOUN", "PROPN") for row in rows) / len(rows)


def _tree_depth(name: str, rows: list[list[str]]) -> float:
    """Return the mean number of arcs from a word to the root."""
    heads = [int(row[4]) for row in rows]
    depths = []
    for head in heads:
        depth = 0
        while head and depth < len(heads):
            head, depth = heads[head - 1], depth + 1
        depths.append(depth)
    return float(np.mean(depths))


def _docstrings() -> Data:
    """Return first sentences of docstrings, without the package's name, and the package."""
    texts, labels = [], []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert spec.origin is not None
        for path in sorted(Path(spec.origin).parent.rglob("*.py")):
            if "test" in str(path.relative_to(Path(spec.origin).parent)):
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8", errors="replace"))):
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    sentence = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                    if 5 <= len(sentence.split()) <= 40 and package not in sentence.lower():
                        texts.append(sentence)
                        labels.append(package)
    y = np.array(labels)
    fewest = min(int((y == package).sum()) for package in PACKAGES)
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(y == package))[:fewest] for package in PACKAGES])
    return _shuffled([texts[row] for row in rows], y[rows])


# Images


def _jpegs(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return n photos of CIFAR-10 (n, 32, 32, 3), the last 600 from its test part, and their classes."""
    with lzma.open(data_folder() / "images" / "cifar10_12k.npz.xz") as file:
        content = np.load(io.BytesIO(file.read()))
    rng, split = np.random.default_rng(0), content["split"]
    train, test = (rng.permutation(np.flatnonzero(split == part)) for part in (0, 1))
    rows = np.concatenate([train[: n - N_TEST], test[:N_TEST]])
    data, offsets = content["data"], content["off"]
    images = [Image.open(io.BytesIO(data[offsets[row] : offsets[row + 1]].tobytes())).convert("RGB") for row in rows]
    return np.stack([np.asarray(image) for image in images]), content["y"][rows]  # (n, 32, 32, 3), (n,)


def _orientation() -> Data:
    """Return photos of CIFAR-10, turned by a multiple of 90 degrees, and the number of turns."""
    images, _ = _jpegs(N_POOL + N_TEST)
    turns = np.random.default_rng(1).integers(4, size=len(images))
    return np.stack([np.rot90(image, turn) for image, turn in zip(images, turns, strict=True)]), turns


def _written(name: str) -> Data:
    content = np.load(data_folder() / "images" / name)
    rng = np.random.default_rng(0)
    train, test = (rng.permutation(np.flatnonzero(content["split"] == part)) for part in (0, 1))
    rows = np.concatenate([train[:N_POOL], test[:N_TEST]])
    return content["data"][rows], content["y"][rows]


def _digits() -> Data:
    X, y = load_digits(return_X_y=True)
    return _shuffled((X.reshape(-1, 8, 8) / 16 * 255).astype(np.uint8), y)


def _angle() -> Data:
    """Return digits of MNIST turned by up to 45 degrees to either side, and the angle."""
    images, _ = _written("mnist_10k.npz")
    angles = np.random.default_rng(2).uniform(-45, 45, len(images))
    turned = [
        np.asarray(Image.fromarray(image).rotate(angle, Image.Resampling.BILINEAR))
        for image, angle in zip(images.reshape(-1, 28, 28), angles, strict=True)
    ]
    return np.stack(turned), angles


def _typeface() -> Data:
    """Return two letters in one of six typefaces, at random sizes and places, and the typeface."""
    import matplotlib

    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    rng = np.random.default_rng(3)
    images, labels = [], rng.choice(TYPEFACES, N_POOL + N_TEST)
    for label in labels:
        image = Image.new("L", (64, 64), int(rng.integers(180, 256)))
        font = ImageFont.truetype(str(folder / f"{label}.ttf"), int(rng.integers(28, 40)))
        letters = "".join(rng.choice(list(LETTERS), 2))
        place = (int(rng.integers(2, 12)), int(rng.integers(0, 16)))
        ImageDraw.Draw(image).text(place, letters, fill=int(rng.integers(0, 90)), font=font)
        images.append(np.asarray(image))
    return np.stack(images), labels


def _patches(size: int, target: Callable[[np.ndarray], float | int | None]) -> Data:
    """Return patches of micrographs (n, size, size) and a target of their masks. The test is from other micrographs."""
    folder = data_folder() / "images" / "membrane_em"
    rng = np.random.default_rng(4)
    parts: list[list[tuple[np.ndarray, float]]] = [[], []]
    paths = sorted((folder / "image").glob("*.png"))
    for i, path in enumerate(paths):
        image = np.asarray(Image.open(path).convert("L"))
        mask = np.asarray(Image.open(folder / "label" / path.name).convert("L")) == 0  # True where a membrane is
        part, n_wanted = (0, N_POOL // 20) if i < 20 else (1, N_TEST // 10)
        n_found = 0
        while n_found < n_wanted:
            top, left = rng.integers(0, 512 - size, 2)
            value = target(mask[top : top + size, left : left + size])
            if value is not None:
                parts[part].append((image[top : top + size, left : left + size], value))
                n_found += 1
    drawn = [part[row] for part in parts for row in rng.permutation(len(part))]
    return np.stack([patch for patch, _ in drawn]), np.array([value for _, value in drawn])


def _is_membrane(mask: np.ndarray) -> int | None:
    """Return whether a membrane is in the middle of a patch, None if it only touches the middle."""
    middle = mask[len(mask) // 2 - 3 : len(mask) // 2 + 3, len(mask) // 2 - 3 : len(mask) // 2 + 3].mean()
    return None if 0 < middle < 0.6 else int(middle > 0)


SMALL_TASKS = [
    SmallTask("film", "text", "choose", lambda: _table("mr.csv.gz")),
    SmallTask("books", "text", "choose", lambda: _table("amazon_mdsd.csv.gz", domain="books")),
    SmallTask("kitchen", "text", "choose", lambda: _table("amazon_mdsd.csv.gz", domain="kitchen")),
    SmallTask("genre", "text", "choose", lambda: _of_sentences(lambda name, rows: name.split("-")[0])),
    SmallTask("goods", "text", "choose", _goods),
    SmallTask("nouns", "text", "choose", lambda: _of_sentences(_noun_share), is_regression=True),
    SmallTask("opinion", "text", "report", lambda: _table("mpqa.csv.gz")),
    SmallTask("imdb", "text", "report", lambda: _table("imdb_train.csv.gz")),
    SmallTask("dvd", "text", "report", lambda: _table("amazon_mdsd.csv.gz", domain="dvd")),
    SmallTask("electronics", "text", "report", lambda: _table("amazon_mdsd.csv.gz", domain="electronics")),
    SmallTask("docstrings", "text", "report", _docstrings),
    SmallTask("root", "text", "report", lambda: _of_sentences(_root, ROOTS)),
    SmallTask("depth", "text", "report", lambda: _of_sentences(_tree_depth), is_regression=True),
    SmallTask("cifar10", "image", "choose", lambda: _jpegs(N_POOL + N_TEST)),
    SmallTask("mnist", "image", "choose", lambda: _written("mnist_10k.npz")),
    SmallTask("typeface", "image", "choose", _typeface),
    SmallTask("membrane", "image", "choose", lambda: _patches(48, _is_membrane)),
    SmallTask("angle", "image", "choose", _angle, is_regression=True),
    SmallTask("hymenoptera", "image", "report", photos),
    SmallTask("usps", "image", "report", lambda: _written("usps.npz")),
    SmallTask("digits", "image", "report", _digits),
    SmallTask("orientation", "image", "report", _orientation),
    SmallTask("share", "image", "report", lambda: _patches(96, lambda mask: float(mask.mean())), is_regression=True),
]
