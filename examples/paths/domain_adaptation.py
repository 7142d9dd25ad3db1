"""Domain adaptation: the same task in another domain, one after the other.

    y = [*labels_of_source, *[None] * len(target)]
    clf = DomainAdaptationClassifier("tiny/cnn")
    clf.fit([*source, *target], y)
    clf.predict(target)

The digits of the target have no labels. Alignments make the features of both domains alike. `make_domain_scorer` judges
the results without labels of the target. The accuracy is that on other images of the target.
"""

from __future__ import annotations

import numpy as np
from _show import read_arguments, report, two_domains

from sktransfer import DomainAdaptationClassifier, make_domain_scorer

ALIGNMENTS = ["none", "coral", "auto"]  # "auto" is "adabn" with "mcc" for this network
SETTINGS = {"freeze_depth": "block2", "lr": 1e-3, "max_epochs": 5}


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=100, tests=200, draws=2)
    rows: dict[str, list[float]] = {name: [] for name in ALIGNMENTS}
    chosen: list[float] = []
    (source_name, source), (target_name, target) = two_domains().items()
    for seed in range(args.draws):
        rng = np.random.default_rng(seed)
        of_source = rng.permutation(len(source[1]))[: args.n]
        of_target, tested = np.split(rng.permutation(len(target[1]))[: args.n + args.tests], [args.n])
        X = [source[0][row] for row in of_source] + [target[0][row] for row in of_target]
        y = [*source[1][of_source], *[None] * args.n]
        X_test, y_test = [target[0][row] for row in tested], target[1][tested]
        judged = []
        for alignment in ALIGNMENTS:
            clf = DomainAdaptationClassifier("tiny/cnn", alignment=alignment, **SETTINGS, random_state=seed).fit(X, y)
            rows[alignment].append(float(np.mean(clf.predict(X_test) == y_test)))
            judged.append(make_domain_scorer("im")(clf, X, y))
        chosen.append(rows[ALIGNMENTS[int(np.argmax(judged))]][-1])
    rows["chosen without labels of the target"] = chosen
    title = f"From {args.n} digits of {source_name} to {target_name}, by alignment"
    report(title, rows, args.out / "path_domain_adaptation.png")


if __name__ == "__main__":
    main()
