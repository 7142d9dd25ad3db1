"""Quality and cost of ranking scores, and accuracy of a pretrained head on new photos.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.accuracy.ranking

The first table is the pretrained head of MobileNetV2 on ants and bees. The second compares scores of the layers of
all-MiniLM-L6-v2 on film reviews with a probe. The third compares scores of backbones on ants and bees with accuracy
after fine-tuning.
"""

from __future__ import annotations

import warnings
from time import perf_counter

from scipy.stats import weightedtau
from sklearn.model_selection import StratifiedKFold, cross_val_score

from benchmarks.common import Report, mobilenet_weights, photos, sentence_encoder, sized, some_reviews
from sktransfer import FineTuneClassifier, PretrainedClassifier, TextFeaturizer, load_backbone, rank_backbones
from sktransfer.exceptions import DisagreementWarning

MOBILENET = "torchvision/mobilenet_v2"
METRICS = ("h_score", "logme", "knn")


def pretrained_head(report: Report) -> None:
    """Measure how often "ant" or "bee" is among the five likeliest of 1,000 categories."""
    paths, y = photos()
    clf = PretrainedClassifier(MOBILENET, weights=mobilenet_weights())
    table = clf.decode(paths, top=5)
    named = table["category"].isin(["ant", "bee"]).groupby(table["row"]).any()
    report.row(f"own head, {len(paths)} photos: 'ant' or 'bee' among the first 5", [named.mean()])
    right = [label.removesuffix("s") in set(part["category"]) for label, (_, part) in zip(y, table.groupby("row"))]
    report.row("own head: the right one of the two among the first 5", [sum(right) / len(right)])


def layers(report: Report) -> None:
    """Measure the layer that each score chooses, its probe relative to the best, and the cost of the ranking."""
    n = sized(2000, 10_000)
    X, y = some_reviews(n)
    name = sentence_encoder()
    TextFeaturizer(name, cache=None).fit_transform(X[:64])  # load it
    ratios = []
    for _ in range(sized(1, 3)):
        started = perf_counter()
        TextFeaturizer(name, cache=None).fit(X).transform(X)
        forward = perf_counter() - started
        started = perf_counter()
        rank_backbones([name], X, y, metrics=METRICS, cache=None)
        ratios.append((perf_counter() - started) / forward)
    table = rank_backbones(
        [name], X, y, metrics=METRICS, probe=True, cv=StratifiedKFold(5), random_state=0
    ).sort_index()
    for row in table.itertuples():
        values = {metric: float(getattr(row, metric)) for metric in METRICS}
        report.row(f"MR, {n}: {row.layer}, probe", [row.probe_mean], **values)
    for metric in METRICS:
        chosen = table.loc[table[metric].idxmax()]
        lost = 100 * (table["probe_mean"].max() - chosen["probe_mean"])
        tau = float(weightedtau(table[metric], table["probe_mean"]).statistic)
        report.row(f"MR: {metric} chooses {chosen['layer']}, points below the best", [lost], tau=tau)
    report.judge("ranking all layers, over one forward pass", ratios, must=1.2, at_most=True)


def backbones(report: Report) -> None:
    """Measure the agreement of scores with accuracy after fine-tuning."""
    X, y = photos(sized(120, 397))
    mobilenet = load_backbone(MOBILENET, weights=mobilenet_weights())
    random = load_backbone(MOBILENET, weights="random").with_preprocess(mobilenet.preprocess)
    candidates = {
        "tiny/cnn": load_backbone("tiny/cnn"),
        "MobileNetV2": mobilenet,
        "tiny/cnn, random": load_backbone("tiny/cnn", weights="random"),
        "MobileNetV2, random": random,
    }
    table = rank_backbones(candidates, X, y, layers="last", metrics=METRICS, random_state=0).set_index("backbone")
    for name, backbone in candidates.items():
        tuner = FineTuneClassifier(backbone, layer=-1, freeze_depth=-1, max_epochs=5, random_state=0)
        folds = StratifiedKFold(3, shuffle=True, random_state=0)
        scores = cross_val_score(tuner, X, y, cv=folds)
        table.loc[name, "tuned"] = scores.mean()
        values = {metric: float(table.loc[name, metric]) for metric in METRICS}
        report.row(f"hymenoptera, {len(X)}: {name}, fine-tuned", scores, **values)
    for metric in METRICS:
        report.row(f"hymenoptera: tau of {metric} with it", [weightedtau(table[metric], table["tuned"]).statistic])


def main() -> None:
    """Print the tables."""
    report = Report("own heads, and which backbone and layer to take", "ranking")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisagreementWarning)  # the table shows the disagreement
        pretrained_head(report)
        layers(report)
        backbones(report)
    report.write()


if __name__ == "__main__":
    main()
