"""Tags of words from frozen layers and from fine-tuned networks, against word features made by hand.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.tagging [pos] [entities] [domains] [--draws 1]

pos: parts of speech (UPOS) of English EWT, trained on a random part of the training sentences. The score is the share
of right words of dev sentences. Each layer of the frozen network has a logistic regression of its words.

entities: wikigold in five folds by document, and filings of the SEC with their own test part. The tags are IO, and
become IOB2. The score is F1 of spans, read strictly. It is computed with the most likely tag of each word, and with the
best sequence that IOB2 allows. The share of sentences that break the scheme without it is printed.

domains: entities of wikigold predicted by a tagger of filings, and the reverse.

The baselines are the most frequent tag of each word, and a logistic regression of hand-made features: the word, its
ends, its case, and its neighbours. Each word of a test sentence counts. The results are stored in
`results/tagging.jsonl` when they are measured, so an interrupted run resumes. SIZE=full has all sentences, documents,
folds and layers.
"""

from __future__ import annotations

import argparse
import functools
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import RESULTS, Report, data_folder, sentence_encoder, sized
from benchmarks.remembered import Remembered
from sktransfer import (
    FineTuneTagger,
    LayerScoreDisplay,
    TokenFeaturizer,
    convert_scheme,
    find_invalid_tags,
    load_backbone,
    load_conll,
    span_f1_score,
    stack_words,
    tag_accuracy_score,
)
from sktransfer.tagging.decoding import best_sequences, scheme_transitions

Sentences = list[list[str]]
Prediction = tuple[np.ndarray, list[np.ndarray]]  # classes, and log-probabilities (n_words, n_classes) per sentence


class Tagged(NamedTuple):
    """Sentences and their tags."""

    X: Sentences
    y: Sentences

    def take(self, rows: Any) -> Tagged:
        """Return some of the sentences."""
        return Tagged([self.X[row] for row in rows], [self.y[row] for row in rows])


# data


@functools.cache
def ewt(part: str) -> Tagged:
    """Return the sentences of a part of English EWT, and the parts of speech."""
    X, y = load_conll(data_folder() / "text" / f"ud_ewt_{part}.tsv.gz", tags=1)
    return Tagged(X, y)  # type: ignore[arg-type]


@functools.cache
def entities(name: str) -> tuple[Tagged, np.ndarray]:
    """Return the sentences of a corpus with entities in IOB2, and the documents."""
    X, y, documents = load_conll(data_folder() / "text" / "ner" / f"{name}.conll.gz", return_groups=True)
    n = {"wikigold": int((documents < sized(50, 145)).sum()), "sec_filings_train": sized(400, 1164)}.get(name, len(X))
    return Tagged(X[:n], convert_scheme(y[:n], "IO", "IOB2")), documents[:n]


# methods


def frequencies(train: Tagged, X: Sentences, seed: int) -> Prediction:
    """Count the tags of each word. Words that the training lacks have the tags of all words."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    total: Counter[str] = Counter()
    for words, tags in zip(train.X, train.y, strict=True):
        for word, tag in zip(words, tags, strict=True):
            counts[word][tag] += 1
            total[tag] += 1
    classes = np.array(sorted(total))

    def shares(word: str) -> list[float]:
        of_word = counts.get(word, total)
        return [(of_word[tag] + 1e-6) / sum(of_word.values()) for tag in classes]

    return classes, [np.log([shares(word) for word in words]).reshape(-1, len(classes)) for words in X]


def word_features(words: list[str]) -> list[dict[str, Any]]:
    """Return the features of each word of a sentence: its form, its ends, its case, and its neighbours."""
    features = []
    for i, word in enumerate(words):
        low = word.lower()
        found: dict[str, Any] = {
            "word": low,
            "title": word.istitle(),
            "upper": word.isupper(),
            "digit": any(map(str.isdigit, word)),
            "hyphen": "-" in word,
            "first": i == 0,
            "last": i == len(words) - 1,
        }
        found |= {f"end{n}": low[-n:] for n in (1, 2, 3)} | {f"begin{n}": low[:n] for n in (1, 2, 3)}
        for offset in (-2, -1, 1, 2):
            if 0 <= i + offset < len(words):
                other = words[i + offset]
                found |= {f"word{offset:+d}": other.lower(), f"title{offset:+d}": other.istitle()}
                found |= {f"end{offset:+d}": other.lower()[-3:]}
        features.append(found)
    return features


def hand_made(train: Tagged, X: Sentences, seed: int) -> Prediction:
    """Train a logistic regression of hand-made features."""
    model = make_pipeline(DictVectorizer(dtype=np.float32), LogisticRegression(max_iter=200))
    model.fit([one for words in train.X for one in word_features(words)], [tag for tags in train.y for tag in tags])
    return model.classes_, [model.predict_log_proba(word_features(words)) for words in X]


def frozen(backbone: str, layer: str, train: Tagged, X: Sentences, seed: int) -> Prediction:
    """Train a logistic regression of the words of a frozen layer."""
    featurizer = TokenFeaturizer(backbone, layer=layer)
    words, tags = stack_words(featurizer.fit_transform(train.X), train.y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200)).fit(words, tags)
    lengths = [len(one) for one in X]
    logs = model.predict_log_proba(stack_words(featurizer.transform(X)))
    return model.classes_, np.split(logs, np.cumsum(lengths)[:-1])


def tuned(backbone: str, train: Tagged, X: Sentences, seed: int) -> Prediction:
    """Fine-tune all stages by default settings."""
    tagger = FineTuneTagger(backbone, decode="argmax", random_state=seed).fit(train.X, train.y)
    with np.errstate(divide="ignore"):
        return tagger.classes_, [np.log(one) for one in tagger.predict_proba(X)]


NETWORKS = {"tiny/bert": lambda: "tiny/bert", "all-MiniLM-L6-v2": sentence_encoder}
Method = Callable[[Tagged, Sentences, int], Prediction]


@functools.cache
def layers(network: str) -> list[str]:
    """Return the names of a network's layers, from the input up."""
    return list(load_backbone(NETWORKS[network]()).stage_names)


def methods(kind: str, every: int = 1) -> dict[str, Method]:
    """Return the methods of a kind by name: words, frozen (the last layer, and every so many before it) or tuned."""
    if kind == "words":
        return {"most frequent tag per word": frequencies, "hand-made features": hand_made}
    if kind == "tuned":
        return {f"{network} fine-tuned": functools.partial(tuned, name()) for network, name in NETWORKS.items()}
    return {
        f"{network} frozen, {layer}": functools.partial(frozen, name(), layer)
        for network, name in NETWORKS.items()
        for layer in layers(network)[::-1][::every][::-1]
    }


# scores


def tags_of(prediction: Prediction, scheme: str | None = None) -> Sentences:
    """Return the most likely tag of each word, or the best sequence that a scheme allows."""
    classes, logs = prediction
    if scheme is None:
        return [classes[one.argmax(1)].tolist() for one in logs]
    return [classes[row].tolist() for row in best_sequences(logs, scheme_transitions(classes, scheme))]


def span_scores(y: Sentences, prediction: Prediction) -> dict[str, float]:
    """Return strict F1 of both ways to decode, and the share of sentences that break IOB2 without Viterbi."""
    plain = tags_of(prediction)
    return {
        "argmax": float(span_f1_score(y, plain, zero_division=0.0)),
        "iob2": float(span_f1_score(y, tags_of(prediction, "IOB2"), zero_division=0.0)),
        "invalid": find_invalid_tags(plain)["row"].nunique() / len(y),
    }


def measure_tags(method: Method, train: Tagged, test: Tagged, seed: int) -> dict[str, float]:
    """Return the share of right words, and of right words that the training lacks."""
    predicted = tags_of(method(train, test.X, seed))
    seen = {word for words in train.X for word in words}
    unseen = [
        [None if word in seen else tag for word, tag in zip(words, tags, strict=True)]
        for words, tags in zip(test.X, test.y, strict=True)
    ]
    return {"all": tag_accuracy_score(test.y, predicted), "unseen": tag_accuracy_score(unseen, predicted)}


def measure_spans(method: Method, train: Tagged, test: Tagged, seed: int) -> dict[str, float]:
    """Return the scores of spans."""
    return span_scores(test.y, method(train, test.X, seed))


# parts


def measure_pos(report: Report, known: Remembered, kinds: list[str], n_draws: int) -> None:
    """Report the share of right words of each method."""
    n_train, n_test = sized(500, 12544), sized(300, 2001)
    test = ewt("dev").take(np.random.default_rng(0).permutation(2001)[:n_test])
    for name, method in (one for kind in kinds for one in methods(kind).items()):
        scores = []
        for seed in range(n_draws):
            train = ewt("train").take(np.random.default_rng(seed).permutation(12544)[:n_train])
            key = {"part": "pos", "method": name, "train": n_train, "test": n_test, "seed": seed}
            scores.append(known(key, functools.partial(measure_tags, method, train, test, seed)))
        unseen = 100 * float(np.mean([one["unseen"] for one in scores]))
        report.row(f"UPOS, {n_train} sentences: {name}", [one["all"] for one in scores], unseen_words=f"{unseen:.1f}")
    report.row("published, bert-base-uncased, 12,544 sentences: frozen", [0.9417])
    report.row("published, bert-base-uncased, 12,544 sentences: fine-tuned", [0.9744])


def splits(n_folds: int) -> dict[str, list[tuple[Tagged, Tagged]]]:
    """Return training and test parts of each corpus with entities."""
    wikigold, documents = entities("wikigold")
    folds = list(GroupKFold(5).split(wikigold.X, groups=documents))[:n_folds]
    return {
        "wikigold": [(wikigold.take(train), wikigold.take(test)) for train, test in folds],
        "SEC filings": [(entities("sec_filings_train")[0], entities("sec_filings_test")[0])],
    }


def report_spans(report: Report, what: str, scores: list[dict[str, float]]) -> None:
    """Report F1 with and without decoding."""
    mean = {key: 100 * float(np.mean([one[key] for one in scores])) for key in scores[0]}
    more = {"argmax": f"{mean['argmax']:.1f}", "invalid": f"{mean['invalid']:.1f} %"}
    report.row(what, [one["iob2"] for one in scores], **more)


def measure_entities(report: Report, known: Remembered, kinds: list[str], n_draws: int) -> None:
    """Report F1 of spans of each method in each corpus."""
    for corpus, parts in splits(sized(1, 5)).items():
        for name, method in (one for kind in kinds for one in methods(kind, sized(2, 1)).items()):
            scores = []
            for fold, (train, test) in enumerate(parts):
                for seed in range(n_draws if name.endswith("fine-tuned") else 1):  # others have no random part
                    key = {"part": "entities", "corpus": corpus, "method": name, "fold": fold, "seed": seed}
                    key |= {"train": len(train.X), "test": len(test.X)}
                    scores.append(known(key, functools.partial(measure_spans, method, train, test, seed)))
            report_spans(report, f"entities, {corpus}: {name}", scores)


def measure_domains(report: Report, known: Remembered, kinds: list[str], n_draws: int) -> None:
    """Report F1 of spans if the corpora of training and test differ."""
    wikigold, (train, test) = entities("wikigold")[0], splits(1)["SEC filings"][0]
    for what, first, second in (("wikigold to SEC", wikigold, test), ("SEC to wikigold", train, wikigold)):
        for name, method in (one for kind in kinds for one in methods(kind, sized(2, 1)).items()):
            key = {"part": "domains", "what": what, "method": name, "train": len(first.X), "test": len(second.X)}
            scores = [
                known({**key, "seed": seed}, functools.partial(measure_spans, method, first, second, seed))
                for seed in range(n_draws if name.endswith("fine-tuned") else 1)
            ]
            report_spans(report, f"entities, {what}: {name}", scores)


def draw(report: Report, path: Path) -> None:
    """Draw the scores of each layer, one panel per network."""
    from matplotlib.figure import Figure  # pyplot would start a window system

    figure = Figure(figsize=(7, 3.2 * len(NETWORKS)), layout="constrained")
    for axes, network in zip(figure.subplots(len(NETWORKS), 1, squeeze=False)[:, 0], NETWORKS, strict=True):
        curves: dict[str, dict[str, float]] = defaultdict(dict)
        for row in report.rows:
            what, _, method = row["what"].partition(": ")
            if method.startswith(f"{network} frozen, "):
                curves[what.removeprefix("entities, ")][method.partition(", ")[2]] = float(np.mean(row["scores"]))
        names = layers(network)
        complete = {
            what: [curve[layer] for layer in names] for what, curve in curves.items() if len(curve) == len(names)
        }
        if complete:
            LayerScoreDisplay(names, complete, network).plot(ax=axes)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Print, write and draw the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = {"pos": measure_pos, "entities": measure_entities, "domains": measure_domains}
    parser.add_argument("parts", nargs="*", default=list(parts), help="any of pos, entities, domains")
    parser.add_argument("--kinds", nargs="*", default=["words", "frozen", "tuned"], help="any of words, frozen, tuned")
    parser.add_argument("--draws", type=int, default=1)
    args = parser.parse_args()
    data_folder()
    report, known = Report("Tags of words from pretrained networks", "tagging"), Remembered("tagging")
    for part in args.parts:
        parts[part](report, known, args.kinds, args.draws)
    RESULTS.mkdir(exist_ok=True)
    draw(report, RESULTS / "tagging.png")
    report.write()


if __name__ == "__main__":
    main()
