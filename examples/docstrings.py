"""Classify short texts with few labels: word counts and a small pretrained encoder.

    python examples/docstrings.py

The texts are the first sentences of docstrings of the installed SciPy, and the label is the module of SciPy. The script
prints test accuracy over five draws and saves it as a picture, with a map of the sentences of three modules.
Cross-validation on the training texts chooses layer and pooling. The test texts are used once, at the end.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import time
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import FeatureMapDisplay, TextFeaturizer

MODULES = ("interpolate", "io", "linalg", "optimize", "signal", "sparse", "spatial", "stats")
MAPPED = ("io", "sparse", "stats")
PER_MODULE, LABELLED = 100, 10  # texts per module, labelled texts per module
GRID = {"textfeaturizer__layer": [1, 2, 3, 4], "textfeaturizer__pooling": ["mean", "mean+max"]}


def first_sentences() -> tuple[np.ndarray, np.ndarray]:
    """Return texts and their modules, without texts that occur in two modules."""
    spec = importlib.util.find_spec("scipy")
    if spec is None or spec.origin is None:
        raise SystemExit("pip install scipy: the texts are its docstrings")
    root, module_of = Path(spec.origin).parent, {}
    for module in MODULES:
        for path in sorted((root / module).rglob("*.py")):
            if "tests" not in path.parts:
                for text in _docstrings(path):
                    module_of[text] = module if module_of.get(text, module) == module else ""
    rng = np.random.default_rng(0)
    rows = [(text, module) for text, module in sorted(module_of.items()) if module]
    picked = [row for module in MODULES for row in _some([row for row in rows if row[1] == module], rng)]
    X, y = zip(*picked)
    return np.array(X, dtype=object), np.array(y)


def _some(rows: list[tuple[str, str]], rng: np.random.Generator) -> list[tuple[str, str]]:
    return [rows[i] for i in rng.permutation(len(rows))[:PER_MODULE]]


def _docstrings(path: Path) -> Iterator[str]:
    """Yield the first paragraph of the docstrings of functions and classes, if it has 5 to 40 words."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            paragraph = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
            if 5 <= len(paragraph.split()) <= 40 and "----" not in paragraph:
                yield paragraph


def on_features(weights: str) -> Pipeline:
    """Return a linear classifier on the features of `tiny/bert`."""
    return make_pipeline(
        TextFeaturizer("tiny/bert", weights=weights), StandardScaler(), LogisticRegression(C=0.01, max_iter=1000)
    )


def run(X: np.ndarray, y: np.ndarray, seeds: int) -> dict[str, list[float]]:
    """Return test accuracies per table row."""
    rows: dict[str, list[float]] = {
        "tf-idf + logistic regression": [],
        "tiny/bert, random weights, frozen": [],
        "tiny/bert, pretrained, frozen": [],
        "tf-idf and tiny/bert": [],
    }
    for seed in range(seeds):
        size = LABELLED * len(MODULES)
        X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=size, stratify=y, random_state=seed)
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        words = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=1000))
        random = GridSearchCV(on_features("random"), GRID, cv=folds)
        frozen = GridSearchCV(on_features("pretrained"), GRID, cv=folds).fit(X_train, y_train)
        union = FeatureUnion([("words", words[0]), ("encoder", frozen.best_estimator_[:-1])])
        shares = {"featureunion__transformer_weights": [{"encoder": share} for share in (0.02, 0.05, 0.1)]}
        both = make_pipeline(union, LogisticRegression(C=10, max_iter=1000))
        both = GridSearchCV(both, shares, cv=folds)  # the features need a smaller weight than tf-idf values
        for scores, model in zip(rows.values(), (words, random, frozen, both)):
            scores.append(model.fit(X_train, y_train).score(X_test, y_test))
    return rows


def picture(rows: dict[str, list[float]]) -> plt.Figure:
    """Draw the table as bars."""
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    names = list(rows)[::-1]
    mean, deviation = [np.mean(rows[name]) for name in names], [np.std(rows[name]) for name in names]
    axes.barh(names, mean, xerr=deviation, color="#0072B2")
    axes.axvline(1 / len(MODULES), color="0.3", linestyle=":")
    axes.set_xlabel("test accuracy (dotted: chance)")
    figure.suptitle(f"Which module of SciPy is this sentence from? {LABELLED} labels per module", fontsize=11)
    return figure


def main() -> None:
    """Print the table and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    X, y = first_sentences()
    rows = run(X, y, args.seeds)
    print(
        f"first sentences of SciPy's docstrings, {LABELLED} labels per module, test accuracy over {args.seeds} draws\n"
    )
    for name, scores in rows.items():
        print(f"  {name:40s} {np.mean(scores):.3f} ± {np.std(scores):.3f}")

    args.out.mkdir(parents=True, exist_ok=True)
    picture(rows).savefig(args.out / "docstrings.png", dpi=100)
    some = np.isin(y, MAPPED)
    display = FeatureMapDisplay.from_estimator(TextFeaturizer("tiny/bert", layer=3), X[some], y[some], n_shown=40)
    display.figure_.savefig(args.out / "docstrings_map.png", dpi=100)
    plt.close("all")
    print(f"\npictures: {args.out}/docstrings.png, docstrings_map.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
