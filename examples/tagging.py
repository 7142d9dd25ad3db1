"""A tag for each word: names of persons, places and firms in sentences that the script makes up.

    python examples/tagging.py

The script fills templates with names. The test sentences have other names and other templates, so that only the
words around a name show its kind. `FineTuneTagger` learns a tag per word in the scheme IOB2. B-PER begins the name of a
person, I-PER continues it, and O is a word of no name. Three taggers are compared: the most frequent tag of each word
in the training, a linear model on a frozen `tiny/bert`, and a fine-tuned one. The networks predict with and without the
scheme. Without it, some tags break it, such as an I-PER after an O. Each draw has other names in the test.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import ConfusionMatrixDisplay

from sktransfer import FineTuneTagger, TagsDisplay, find_invalid_tags, span_f1_score, tag_accuracy_score

Rows = list[list[str]]  # words or tags of sentences
N_NEW = 4  # names of each kind that only the test sentences have
NAMES = {
    "PER": "Anna Meyer|Peter|Maria Costa|John Smith|Li Wei|Sara|Omar Haddad|David Klein|Eva Novak|Paul|Nina Berg|Tom",
    "LOC": "Paris|New York|Berlin|Rome|Hong Kong|Lake Como|Spain|Buenos Aires|Chicago|Norway|San Marino|Vienna",
    "ORG": "Acme Corp|Nordbank|Blue River Group|Unitel|Delta Foods|Orion Labs|Kraft Works|Sunrise|Petrolia|Axiom Inc",
}
TEMPLATES = [
    "{PER} visited {LOC} last week .",
    "{ORG} will open a new office in {LOC} .",
    "{PER} works for {ORG} .",
    "{ORG} said that {PER} will leave the company .",
    "The mayor of {LOC} met {PER} on Monday .",
    "Shares of {ORG} fell by two percent .",
    "{PER} was born in {LOC} and lives in {LOC} .",
    "The film was shot in {LOC} .",
    "According to {PER} , the plan will work .",
    "{ORG} and {ORG} signed a contract in {LOC} .",
    "{PER} and {PER} won the match .",
    "It rained in {LOC} for three days .",
]
NEW_TEMPLATES = [
    "After the meeting , {PER} flew back to {LOC} .",
    "The workers of {ORG} went on strike in {LOC} .",
    "{PER} , who once worked for {ORG} , wrote a book about {LOC} .",
    "Nobody in {LOC} knew {PER} .",
    "{ORG} bought {ORG} for a low price .",
]


def draw_names(seed: int) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the names of the training and of the test, by kind."""
    rng = np.random.default_rng(seed)
    names = {kind: rng.permutation(text.split("|")).tolist() for kind, text in NAMES.items()}
    return {kind: some[N_NEW:] for kind, some in names.items()}, {kind: some[:N_NEW] for kind, some in names.items()}


def make_sentences(n: int, templates: list[str], names: dict[str, list[str]], seed: int) -> tuple[Rows, Rows]:
    """Return words and tags of n sentences."""
    rng = np.random.default_rng(seed)
    X, y = [], []
    for _ in range(n):
        words, tags = [], []
        for word in rng.choice(templates).split():
            kind = word.strip("{}")
            name = rng.choice(names[kind]).split() if kind in names else [word]
            words += name
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(name) - 1)] if kind in names else ["O"]
        X.append(words)
        y.append(tags)
    return X, y


def most_frequent_tags(X: Rows, y: Rows, test: Rows) -> Rows:
    """Return the most frequent tag of each word in the training, O for new words."""
    counts: dict[str, Counter[str]] = {}
    for words, tags in zip(X, y):
        for word, tag in zip(words, tags):
            counts.setdefault(word, Counter())[tag] += 1
    return [[counts[word].most_common(1)[0][0] if word in counts else "O" for word in words] for words in test]


def scores(y_true: Rows, y_pred: Rows) -> tuple[float, float, int]:
    """Return the share of right words, the F1 score of names, and the number of tags that break the scheme."""
    f1 = span_f1_score(y_true, y_pred, zero_division=0.0)
    return tag_accuracy_score(y_true, y_pred), float(f1), len(find_invalid_tags(y_pred))


def main() -> None:
    """Print the table and save the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200, help="training sentences")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started = time.perf_counter()
    args.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[tuple[float, float, int]]] = {}
    for draw in range(args.draws):
        names, new_names = draw_names(draw)
        X, y = make_sentences(args.n, TEMPLATES, names, draw)
        X_test, y_test = make_sentences(150, NEW_TEMPLATES, new_names, draw)
        most_frequent = most_frequent_tags(X, y, X_test)
        found.setdefault("most frequent tag of each word", []).append(scores(y_test, most_frequent))
        options = {"subword": "mean", "random_state": draw}
        frozen = FineTuneTagger("tiny/bert", freeze_depth="all", max_epochs=0, **options).fit(X, y)
        tuned = FineTuneTagger("tiny/bert", freeze_depth=0, max_epochs=args.epochs, lr=3e-4, **options).fit(X, y)
        for name, tagger in {"tiny/bert, frozen": frozen, "tiny/bert, fine-tuned": tuned}.items():
            free = [tagger.classes_[one.argmax(1)].tolist() for one in tagger.predict_proba(X_test)]
            found.setdefault(f"{name}, argmax", []).append(scores(y_test, free))
            found.setdefault(f"{name}, iob2", []).append(scores(y_test, tagger.predict(X_test)))
    print(f"{'':32s}  accuracy         F1 names         broken tags")
    for name, rows in found.items():
        (accuracy, f1, broken), (accuracy_std, f1_std, _) = np.mean(rows, 0), np.std(rows, 0)
        print(f"{name:32s}  {accuracy:.3f} ± {accuracy_std:.3f}    {f1:.3f} ± {f1_std:.3f}    {broken:.0f}")

    display = TagsDisplay.from_estimator(tuned, X_test[:12], y_test[:12])
    display.figure_.savefig(args.out / "tags.png", dpi=80)
    (args.out / "tags.html").write_text(display.to_html(), encoding="utf-8")
    # Tags of all sentences in one list are labels, which scikit-learn's displays take.
    true, predicted = (np.concatenate(tags) for tags in (y_test, tuned.predict(X_test)))
    confusion = ConfusionMatrixDisplay.from_predictions(true, predicted, colorbar=False, xticks_rotation=45)
    confusion.figure_.tight_layout()
    confusion.figure_.savefig(args.out / "tags_confusion.png", dpi=60)
    plt.close("all")
    print(f"pictures: {args.out}/tags.png, tags_confusion.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
