"""A failed fit leaves every estimator as it was: unfitted, or fitted by the last fit that succeeded."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from skorch.callbacks import Callback

import sktransfer
from sktransfer import (
    BestBackbone,
    ContrastiveFineTuner,
    DateFeatures,
    DomainAdaptationClassifier,
    FineTuneClassifier,
    FineTuneRegressor,
    FineTuneSegmenter,
    FineTuneTagger,
    ImageFeaturizer,
    JoinedFeaturizer,
    MultiTaskFineTuner,
    NearestClassMean,
    NumberFeatures,
    PretrainedClassifier,
    SelfSupervisedTuner,
    TextFeaturizer,
    TokenFeaturizer,
    WordEmbedder,
    ZeroShotClassifier,
)
from sktransfer.testing.samples import make_samples
from sktransfer.words.vectors import WordVectors
from tests.helpers.toys import image_backbone

BACKBONE = image_backbone()
IMAGES = pd.DataFrame({"image": list(np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32))})
TEXTS = pd.DataFrame({"text": make_samples("text", 12)[0]})
SENTENCES = pd.DataFrame({"words": TEXTS["text"].str.split()})
TAGS = [[len(word) > 4 for word in words] for words in SENTENCES["words"]]
NUMBERS = pd.DataFrame({"size": ["1.5"] * 12})
DATES = pd.DataFrame({"sold": ["2024-05-31", None] * 6})
Y = np.arange(12) % 2
MASKED = np.where(np.arange(12) < 8, Y, np.nan)
MASKS = np.arange(12 * 64).reshape(12, 8, 8) % 2


class FailsLate(Callback):
    """Raise after the last epoch."""

    def on_train_end(self, net, **kwargs):
        raise ValueError("late")


CATEGORIES = sktransfer.load_backbone("tiny/cnn").categories
JOINED = sktransfer.Backbone.join({"left": BACKBONE, "right": BACKBONE})
ROWS = {"left": IMAGES, "right": IMAGES[::-1]}
VECTORS = WordVectors(["good", "bad"], np.eye(2, dtype=np.float32))
FAILS_LATE = {"callbacks": [FailsLate()]}
# Per estimator: arguments of a fit that succeeds, then parameters and arguments of a fit that fails after it has set
# attributes.
CASES = [
    (ImageFeaturizer(BACKBONE), (IMAGES,), {"pooling": "class_token"}, (IMAGES,)),
    (JoinedFeaturizer(JOINED, layer=-1), (ROWS,), {"pooling": "class_token"}, (ROWS,)),
    (TextFeaturizer("tiny/bert"), (TEXTS,), {"cache": 5}, (TEXTS,)),
    (FineTuneTagger("tiny/bert", max_epochs=1), (SENTENCES, TAGS), FAILS_LATE, (SENTENCES, TAGS)),
    (SelfSupervisedTuner("tiny/bert", objective="simcse", max_epochs=1), (TEXTS,), FAILS_LATE, (TEXTS,)),
    (TokenFeaturizer("tiny/bert"), (SENTENCES,), {"cache": 5}, (SENTENCES,)),
    (WordEmbedder(VECTORS), (TEXTS,), {"oov": "unknown"}, (TEXTS,)),
    (FineTuneClassifier(BACKBONE, max_epochs=1), (IMAGES, Y), FAILS_LATE, (IMAGES, Y)),
    (
        DomainAdaptationClassifier(BACKBONE, alignment="adabn", max_epochs=1),
        (IMAGES, MASKED),
        FAILS_LATE,
        (IMAGES, MASKED),
    ),
    (FineTuneRegressor(BACKBONE, max_epochs=1), (IMAGES, Y), FAILS_LATE, (IMAGES, Y)),
    (FineTuneSegmenter(BACKBONE, layer=0), (IMAGES, MASKS), FAILS_LATE, (IMAGES, MASKS)),
    (ContrastiveFineTuner(BACKBONE, max_epochs=1), (IMAGES, Y), FAILS_LATE, (IMAGES, Y)),
    (MultiTaskFineTuner(BACKBONE, max_epochs=1), (IMAGES, {"y": Y}), FAILS_LATE, (IMAGES, {"y": Y, "z": Y})),
    (PretrainedClassifier("tiny/cnn"), (IMAGES, [CATEGORIES[0]] * 12), {}, (IMAGES, ["unknown"] * 12)),
    (ZeroShotClassifier("tiny/bert"), (TEXTS, Y), {"template": "no placeholder"}, (TEXTS, Y)),
    (DateFeatures(), (DATES,), {}, (DATES.assign(sold="tomorrow"),)),
    (NumberFeatures(), (NUMBERS,), {}, (NUMBERS.assign(size="big"),)),
    (NearestClassMean(), (np.eye(12), Y), {}, (np.eye(12), Y * 0)),
    (
        BestBackbone({"toy": BACKBONE}, estimator=LogisticRegression()),
        (IMAGES, Y),
        {"estimator": LogisticRegression(C=-1.0)},
        (IMAGES, Y),
    ),
]


def test_every_public_estimator_has_a_case():
    public = [getattr(sktransfer, name) for name in sktransfer.__all__]
    estimators = {thing for thing in public if hasattr(thing, "fit") and hasattr(thing, "get_params")}
    assert estimators == {type(estimator) for estimator, *_ in CASES}


@pytest.mark.parametrize(
    ("case", "method"),
    [(case, method) for case in CASES for method in ("fit", "fit_transform") if hasattr(case[0], method)],
    ids=lambda value: value if isinstance(value, str) else type(value[0]).__name__,
)
def test_failed_fit_keeps_attributes(case, method):
    estimator, good, parameters, bad = case
    estimator = clone(estimator)
    for _ in range(2):  # unfitted, then fitted
        kept = estimator.get_params(deep=False)
        estimator.set_params(**parameters)
        before = dict(vars(estimator))
        with pytest.raises((ValueError, TypeError)):
            getattr(estimator, method)(*bad)
        after = dict(vars(estimator))
        assert after.keys() == before.keys()
        assert all(after[name] is before[name] for name in before)
        estimator.set_params(**kept).fit(*good)


def test_transform_after_failed_fit_raises_not_fitted_error():
    featurizer = ImageFeaturizer(BACKBONE, pooling="class_token")
    with pytest.raises(ValueError, match="class token"):
        featurizer.fit(IMAGES)
    with pytest.raises(NotFittedError):
        featurizer.transform(IMAGES)
