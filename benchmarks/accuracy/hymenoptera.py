"""Ants or bees: transfer of a pretrained MobileNetV2 to 243 photos, with the preprocessing of its weights.

    SKTRANSFER_TEST_DATA=... python benchmarks/accuracy/hymenoptera.py

Cross-validation on the training photos chooses the depth. The validation photos are used once.
"""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.common import Report, data_folder
from sktransfer import FineTuneClassifier, ImageFeaturizer, load_image_folder

MOBILENET = "torchvision/mobilenet_v2"
DEPTHS = [-2, -1, "all"]
TORCHVISION = {"resize": 232, "mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def main() -> None:
    """Print validation accuracy, frozen and fine-tuned, pretrained and random."""
    folder = data_folder()
    X, y = load_image_folder(folder / "images" / "hymenoptera" / "train")
    X_test, y_test = load_image_folder(folder / "images" / "hymenoptera" / "val")
    weights = str(folder / "weights" / "mobilenet_v2_imagenet1k.safetensors")
    report = Report(f"hymenoptera, {len(X)} training photos, accuracy on {len(X_test)}", "hymenoptera")

    for name, preprocess in (("the file's own", "auto"), ("torchvision's default", TORCHVISION)):
        featurizer = ImageFeaturizer(MOBILENET, layer=-1, weights=weights, preprocess=preprocess)
        clf = make_pipeline(featurizer, LogisticRegression(max_iter=2000)).fit(X, y)
        report.row(f"frozen + logistic regression, preprocessing {name}", [clf.score(X_test, y_test)])
    random = ImageFeaturizer(MOBILENET, layer=-1, weights="random", preprocess=featurizer.backbone_.preprocess)
    clf = make_pipeline(random, StandardScaler(), LogisticRegression(max_iter=2000)).fit(X, y)
    report.row("frozen random weights + logistic regression", [clf.score(X_test, y_test)])

    scores, chosen = [], []
    for seed in range(3):
        tuner = FineTuneClassifier(MOBILENET, layer=-1, weights=weights, max_epochs=5, random_state=seed)
        folds = StratifiedKFold(3, shuffle=True, random_state=seed)
        search = GridSearchCV(tuner, {"freeze_depth": DEPTHS}, cv=folds).fit(X, y)
        scores.append(search.score(X_test, y_test))
        chosen.append(search.best_params_["freeze_depth"])
    report.row("fine-tuned, depth searched, 3 seeds", scores, chosen=chosen)
    scores = []
    for seed in range(3):
        control = FineTuneClassifier(
            MOBILENET,
            layer=-1,
            weights="random",
            preprocess=featurizer.backbone_.preprocess,
            freeze_depth=0,
            head_init="random",
            max_epochs=5,
            lr=1e-3,
            random_state=seed,
        )
        scores.append(control.fit(X, y).score(X_test, y_test))
    report.row("trained from random weights, all stages, 3 seeds", scores)
    report.write()


if __name__ == "__main__":
    main()
