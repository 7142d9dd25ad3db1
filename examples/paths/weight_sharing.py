"""Weight sharing: the same task in several domains, together.

    X, y = merge_tasks({"MNIST": (X_m, y_m), "USPS": (X_u, y_u)})
    tuner = MultiTaskFineTuner("tiny/cnn").fit(X, y)
    tuner.task("USPS").predict(X_new)

Both domains have labels. One network learns both, with a head per domain, because a digit looks different in each. The
alternatives are a network per domain, and one head for all. The accuracy is the mean over both domains.
"""

from __future__ import annotations

import numpy as np
from _show import read_arguments, report, two_domains

from sktransfer import FineTuneClassifier, MultiTaskFineTuner, merge_tasks

SETTINGS = {"freeze_depth": "block2", "max_epochs": 5}


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=100, tests=500)
    domains = two_domains()
    rows: dict[str, list[float]] = {
        "a network per domain": [],
        "one network, one head": [],
        "one network, two heads": [],
    }
    for seed in range(args.draws):
        train, test = {}, {}
        for name, (images, labels) in domains.items():
            order = np.random.default_rng(seed).permutation(len(labels))[: args.n + args.tests]
            parts = np.split(order, [args.n])
            train[name], test[name] = (([images[row] for row in part], labels[part]) for part in parts)
        options = {**SETTINGS, "random_state": seed}
        separate = {name: FineTuneClassifier("tiny/cnn", **options).fit(*some) for name, some in train.items()}
        X = [image for images, _ in train.values() for image in images]
        y = np.concatenate([labels for _, labels in train.values()])
        single = FineTuneClassifier("tiny/cnn", **options).fit(X, y)
        shared = MultiTaskFineTuner("tiny/cnn", **options).fit(*merge_tasks(train))
        rows["a network per domain"].append(np.mean([separate[name].score(*some) for name, some in test.items()]))
        rows["one network, one head"].append(np.mean([single.score(*some) for some in test.values()]))
        rows["one network, two heads"].append(np.mean([shared.task(name).score(*some) for name, some in test.items()]))
    title = f"{args.n} digits each of {' and '.join(domains)}"
    report(title, rows, args.out / "path_weight_sharing.png")


if __name__ == "__main__":
    main()
