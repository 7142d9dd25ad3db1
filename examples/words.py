"""Word vectors with few labels: known, unknown and misspelt words.

    python examples/words.py

Word vectors are trained on the docstrings of NumPy, pandas and scikit-learn. A classifier with ten labels per module
then predicts the module of SciPy that a sentence comes from. The test sentences are used twice: as written, and with
one letter in ten damaged. The script prints test accuracy and saves it as a picture.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import string
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import WordEmbedder
from sktransfer.exceptions import UnknownWordsWarning

READ = ("numpy", "pandas", "sklearn")
MODULES = ("interpolate", "io", "linalg", "optimize", "signal", "sparse", "spatial", "stats")
PER_MODULE, LABELLED, DAMAGE = 100, 10, 0.1


def folder(package: str) -> Path:
    """Return the folder of an installed package."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"pip install {package}: the texts are its docstrings")
    return Path(spec.origin).parent


def docstrings(root: Path) -> Iterator[str]:
    """Yield the docstrings of functions and classes below a folder, except those of tests."""
    for path in sorted(root.rglob("*.py")):
        if "tests" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and (text := ast.get_docstring(node)):
                    yield text


def sentences() -> tuple[np.ndarray, np.ndarray]:
    """Return first sentences of SciPy's docstrings and their modules, without those that occur in two modules."""
    module_of: dict[str, str] = {}
    for module in MODULES:
        for text in docstrings(folder("scipy") / module):
            first = " ".join(text.split("\n\n")[0].split())
            if 5 <= len(first.split()) <= 40 and "----" not in first:
                module_of[first] = module if module_of.get(first, module) == module else ""
    rng, rows = np.random.default_rng(0), []
    for module in MODULES:
        texts = sorted(text for text, source in module_of.items() if source == module)
        rows += [(texts[i], module) for i in rng.permutation(len(texts))[:PER_MODULE]]
    X, y = zip(*rows)
    return np.array(X, dtype=object), np.array(y)


def damaged(texts: np.ndarray) -> np.ndarray:
    """Return texts with a tenth of their letters replaced or removed."""
    rng, letters = np.random.default_rng(0), list(string.ascii_lowercase)
    misspelt = [
        "".join(str(rng.choice([*letters, ""])) if c.isalpha() and rng.random() < DAMAGE else c for c in text)
        for text in texts
    ]
    return np.array(misspelt, dtype=object)


def trained(n_words: int) -> WordEmbedder:
    """Return word vectors trained on docstrings of other libraries, and print similar words."""
    texts, size = [], 0
    for text in (text for package in READ for text in docstrings(folder(package))):
        texts.append(text)
        size += len(text.split())
    kept = np.random.default_rng(0).permutation(len(texts))[: int(len(texts) * min(1, n_words / size))]
    embedder = WordEmbedder(vector_size=50, epochs=5, random_state=0).fit([texts[i] for i in kept])
    for word in ("matrix", "matricx"):  # the second is unknown, so its vector comes from subwords
        near = ", ".join(name for name, _ in embedder.similar_words(word, 4))
        print(f"  near {word!r} {'' if word in embedder.vocabulary_ else '(unknown) '}are {near}")
    return embedder


def run(seeds: int, n_words: int) -> dict[str, tuple[list[float], list[float]]]:
    """Return test accuracies per table row, as written and damaged."""
    X, y = sentences()
    source = trained(n_words)
    print(f"  {source.oov_report(X)}\n")
    vectors, logistic = source.embedding_, LogisticRegression(C=0.1, max_iter=1000)

    def on_words(oov: str) -> Pipeline:
        return make_pipeline(WordEmbedder(vectors, oov=oov), StandardScaler(), logistic)

    models = {
        "tf-idf": make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=10, max_iter=1000)),
        "words, unknown words skipped": on_words("skip"),
        "words, one vector for unknown words": on_words("unk"),
        "words, unknown words from subwords": on_words("subword"),
    }
    rows: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in models}
    for seed in range(seeds):
        X_train, X_test, y_train, y_test = train_test_split(
            X, y, train_size=LABELLED * len(MODULES), stratify=y, random_state=seed
        )
        for name, model in models.items():
            model.fit(X_train, y_train)
            rows[name][0].append(model.score(X_test, y_test))
            rows[name][1].append(model.score(damaged(X_test), y_test))
    return rows


def picture(rows: dict[str, tuple[list[float], list[float]]]) -> plt.Figure:
    """Draw the table as bars."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    names = list(rows)[::-1]
    for column, (label, colour, shift) in enumerate((("as written", "#0072B2", 0.2), ("damaged", "#D55E00", -0.2))):
        scores = [rows[name][column] for name in names]
        means, deviations = [np.mean(values) for values in scores], [np.std(values) for values in scores]
        axes.barh(np.arange(len(names)) + shift, means, 0.38, xerr=deviations, color=colour, label=label)
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1 / len(MODULES), color="0.3", linestyle=":")
    axes.set_xlabel(f"test accuracy, {LABELLED} labels per module (dotted: chance)")
    axes.set_title("Which module of SciPy is this sentence from?")
    axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--words", type=int, default=400_000, help="number of words that the vectors are trained on")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    warnings.simplefilter("ignore", UnknownWordsWarning)  # damaged texts contain many unknown words by design
    started = time.perf_counter()
    print(f"vectors of words in the docstrings of {', '.join(READ)}")
    rows = run(args.seeds, args.words)
    print(
        f"first sentences of SciPy's docstrings, {LABELLED} labels per module, test accuracy over {args.seeds} draws\n"
    )
    print(f"  {'':36s} {'as written':15s} damaged")
    for name, columns in rows.items():
        print(f"  {name:36s} " + "   ".join(f"{np.mean(scores):.3f} ± {np.std(scores):.3f}" for scores in columns))
    args.out.mkdir(parents=True, exist_ok=True)
    picture(rows).savefig(args.out / "words.png", dpi=100)
    plt.close("all")
    print(f"\npicture: {args.out}/words.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
