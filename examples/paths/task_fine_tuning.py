"""Task fine-tuning: the same task in the same domain, one after the other.

    first = FineTuneClassifier("tiny/cnn").fit(X_old, y_old)
    later = FineTuneClassifier(first.backbone_, head=first.head_)
    later.fit(X_new, y_new)

A model of digits exists, and new labelled digits arrive, fewer than the old ones. The old images are no longer there.
The fine-tuned network and its head are the start of the next training. The accuracy is that on other digits.
"""

from __future__ import annotations

from _show import digits, read_arguments, report
from sklearn.model_selection import train_test_split

from sktransfer import FineTuneClassifier

SETTINGS = {"freeze_depth": "block3", "max_epochs": 5}


def main() -> None:
    """Print the table and save the picture."""
    args = read_arguments(__doc__, n=200, tests=500, draws=2)
    X, y = digits()
    rows: dict[str, list[float]] = {
        "new images alone": [],
        "old model, not trained further": [],
        "old model, trained further on new images": [],
        "old and new images together": [],
    }
    for seed in range(args.draws):
        X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=args.n, stratify=y, random_state=seed)
        X_old, X_new, y_old, y_new = train_test_split(
            X_train, y_train, test_size=0.25, stratify=y_train, random_state=seed
        )
        options = {**SETTINGS, "random_state": seed}
        first = FineTuneClassifier("tiny/cnn", **options).fit(X_old, y_old)
        later = FineTuneClassifier(first.backbone_, head=first.head_, **options).fit(X_new, y_new)
        alone = FineTuneClassifier("tiny/cnn", **options).fit(X_new, y_new)
        together = FineTuneClassifier("tiny/cnn", **options).fit(X_train, y_train)
        for scores, model in zip(rows.values(), (alone, first, later, together)):
            scores.append(model.score(X_test[: args.tests], y_test[: args.tests]))
    title = f"{len(y_old)} old and {len(y_new)} new digits"
    report(title, rows, args.out / "path_task_fine_tuning.png")


if __name__ == "__main__":
    main()
