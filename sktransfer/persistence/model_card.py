"""`model_card`: a Markdown description of a fitted estimator, its backbones and its scores."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    log_loss,
    mean_absolute_error,
    r2_score,
    root_mean_squared_error,
)
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_is_fitted
from skops.card import Card

from sktransfer._validation import check_text, require_estimator
from sktransfer._version import __version__
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.registry import registry
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import InvalidParameterError, SktransferError
from sktransfer.html import count_parameters
from sktransfer.persistence.parts import iter_parts
from sktransfer.samples.columns import quoted
from sktransfer.words.vectors import WordVectors

__all__ = ["model_card"]

_SHOWN_CLASSES, _SHOWN_CHARACTERS = 20, 80
_NOT_STATED = "Not stated."
_LABELS, _INDICATORS = ("binary", "multiclass"), "multilabel-indicator"
_VERSIONS = ("scikit-learn", "torch", "numpy")


def model_card(
    estimator: Any,
    X: Any = None,
    y: Any = None,
    *,
    description: str = "",
    data: str = "",
    file: str = "",
    trusted: Iterable[str] = (),
) -> Card:
    """Describe a fitted estimator as a card of skops.

    The card has the estimator's classes and parameters, and of each backbone its name, licence, source of weights,
    stages (frozen or trained, with the poolings that are read) and course of training. Given X and y, it has scores.

    Parameters
    ----------
    estimator : estimator
        Fitted estimator of scikit-learn or sktransfer, such as a `Pipeline`.
    X : array-like, Series, DataFrame or list of n_samples, default=None
        Samples that the estimator was not fitted on, for scores. None for no scores.
    y : array-like of n_samples, default=None
        Their targets.
    description : str, default=""
        Purpose and limits of the model, as Markdown.
    data : str, default=""
        Description of the training data, as Markdown. An estimator does not know it.
    file : str, default=""
        Name of the file of `save`, named in the section on loading.
    trusted : iterable of str, default=()
        Types that `load` requires in its parameter of this name, named in the section on loading.

    Returns
    -------
    card : skops.card.Card
        The card. `card.save("README.md")` writes it, `card.render()` returns its text, and `card.add` adds sections.

    Raises
    ------
    InvalidParameterError
        If a parameter has another type, only one of X and y is given, or the estimator predicts nothing.
    NotFittedError
        If the estimator is not fitted.

    See Also
    --------
    save : Write the estimator that the card describes.

    References
    ----------
    .. [1] M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import TextFeaturizer, model_card
    >>> texts = ["a moving, funny film", "two hours of nothing", "I loved every minute", "dull from start to end"]
    >>> clf = make_pipeline(TextFeaturizer("tiny/bert"), LogisticRegression()).fit(texts, ["up", "down", "up", "down"])
    >>> card = model_card(clf, texts, ["up", "down", "up", "down"], data="Four film reviews.", file="moods.skt")
    >>> print(card.select("Data").content)
    Four film reviews.
    >>> card.select("Scores").table["score"]
    ['accuracy', 'balanced accuracy', 'F1, macro', 'log loss']
    """
    require_estimator(estimator)
    for name, value in {"description": description, "data": data, "file": file}.items():
        check_text(name, value)
    check_is_fitted(estimator)
    if (X is None) != (y is None):
        raise InvalidParameterError(
            f"{'y' if y is None else 'X'} is None: scores need samples and targets; give both, or leave both out"
        )
    card = Card(estimator, model_diagram=False, template=None)
    card.add(**{f"{type(estimator).__name__}": description or _NOT_STATED, "Model": _as_list(_facts(estimator))})
    for number, user in enumerate(_users(estimator), start=1):
        card.add(**{f"Backbone {number}": _as_list(_backbone_facts(user))})
        card.add_table(**{f"Stages of backbone {number}": _stages(user)})
    vectors = [part for part in _parts(estimator) if isinstance(part, WordVectors)]
    if vectors:
        shapes = {"words": [len(one) for one in vectors], "numbers per word": [one.n_dims for one in vectors]}
        card.add_table(**{"Word vectors": shapes})
    card.add(Data=data or _NOT_STATED)
    if X is not None:
        counts = pd.Series(np.asarray(y)).value_counts().items() if _has_labels(estimator, y) else []
        shown = "".join(f", {count} {label}" for label, count in list(counts)[:_SHOWN_CLASSES])
        scores = _scores(estimator, X, y)
        table = {"score": list(scores), "value": list(scores.values())}
        card.add_table(description=f"Of {len(y)} samples{shown}.", Scores=table)
    card.add(**{"How to load": _how_to_load(estimator, file, list(trusted))})
    card.add_table(folded=True, Parameters=_parameters(estimator))
    return card


@dataclass(frozen=True)
class _User:
    """An estimator and the backbone that it has loaded."""

    estimator: Any
    backbone: Backbone

    @property
    def trains(self) -> list[bool]:
        """Whether each stage was trained."""
        boundary = getattr(self.estimator, "freeze_depth_", None)
        return [False] * len(self.backbone.stages) if boundary is None else self.backbone.trains(boundary)

    @property
    def layers(self) -> list[LayerOutput]:
        """Layer outputs that are read."""
        own = getattr(self.estimator, "_layers", None)
        if callable(own):
            return list(own())
        if isinstance(own, Mapping):
            return [one for outputs in own.values() for one in outputs]
        return [LayerOutput(len(self.backbone.stages), self.backbone.pooling)]


def _parts(estimator: Any) -> Iterator[Any]:
    """Yield the parts of an estimator in their order, without those of backbones and nets."""
    waiting, seen = [estimator], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if hasattr(part, "get_params") or isinstance(part, (list, tuple, dict)):
            names = [one for name, one in iter_parts(part) if name != ".net_"]
            waiting += reversed(names)


def _users(estimator: Any) -> list[_User]:
    """Return the fitted estimators with a backbone. Equal ones, such as those of calibrated copies, count once."""
    found: dict[tuple[Any, ...], _User] = {}
    for part in _parts(estimator):
        if not hasattr(part, "get_params") or isinstance(part, (type, Backbone)):
            continue
        is_lazy = isinstance(getattr(type(part), "backbone_", None), property)
        backbone = part.backbone_ if is_lazy else vars(part).get("backbone_")
        if isinstance(backbone, Backbone):
            user = _User(part, backbone)
            found.setdefault((type(part), backbone.fingerprint(), tuple(user.trains), tuple(user.layers)), user)
    return list(found.values())


def _facts(estimator: Any) -> dict[str, Any]:
    steps = getattr(estimator, "steps", None)
    facts = {"made with": f"sktransfer {__version__}, {', '.join(f'{one} {version(one)}' for one in _VERSIONS)}"}
    if steps:
        facts["steps"] = ", ".join(type(step).__name__ for _, step in steps)
    classes, tasks = getattr(estimator, "classes_", None), getattr(estimator, "tasks_", None)
    if tasks is not None:
        facts["tasks"] = _listed(list(tasks))
        for task, of_task in zip(tasks, () if classes is None else classes):
            facts |= {} if of_task is None else {f"classes of {task}": _listed(list(of_task))}
    elif classes is not None:
        facts["classes"] = _listed(list(classes))
    return facts


def _listed(values: list[Any]) -> str:
    more = len(values) - _SHOWN_CLASSES
    return ", ".join(map(str, values[:_SHOWN_CLASSES])) + (f" and {more} more" if more > 0 else "")


def _backbone_facts(user: _User) -> dict[str, Any]:
    backbone, estimator = user.backbone, user.estimator
    facts: dict[str, Any] = {"name": backbone.name, "used by": type(estimator).__name__, "samples": backbone.modality}
    for tower, of_column in backbone.towers.items():
        suffix = "" if tower is None else f" of {tower}"
        try:
            spec = registry().find(of_column.name)
        except SktransferError:  # of the user's own modules, or of a plugin that is not installed
            facts[f"licence{suffix}"] = "unknown"
        else:
            facts[f"licence{suffix}"] = spec.licence
            if spec.weights is not None and not spec.weights.location.startswith("file:"):
                facts[f"weights{suffix}"] = spec.weights.location
    if not backbone.pretrained:
        facts["weights"] = "random before the training"
    facts["fingerprint"] = backbone.fingerprint()
    facts["frozen stages"] = f"{user.trains.count(False)} of {len(backbone.stages)}"
    if hasattr(estimator, "layer"):
        facts["layer"] = estimator.layer
    for attribute, what in (("n_iter_", "epochs"), ("lr_", "learning rate")):
        if hasattr(estimator, attribute):
            facts[what] = getattr(estimator, attribute)
    history = getattr(estimator, "history_", None)
    for column in ("train_loss", "valid_loss"):
        if history is not None and len(history) and column in history:
            facts[f"last {column}"] = f"{history[column].iloc[-1]:.4g}"
    report = getattr(estimator, "report_", "")
    return facts | ({"report": report} if report else {})


def _stages(user: _User) -> dict[str, list[Any]]:
    counted: set[int] = set()
    rows: dict[str, list[Any]] = {"stage": [], "state": [], "parameters": [], "read": []}
    positions = [
        (names, stop) for names, network in user.backbone.networks for stop in range(1, len(network.stages) + 1)
    ]
    stages = zip(user.backbone.stage_names, user.backbone.stages, user.trains, positions, strict=True)
    for name, stage, is_trained, (names, stop) in stages:
        read = [one.pooling or "unpooled" for one in user.layers if one.stop == stop and one.tower in names]
        values = (name, "trained" if is_trained else "frozen", count_parameters(stage, counted))
        for column, value in zip(rows, (*values, ", ".join(read))):
            rows[column].append(f"{value:,}" if isinstance(value, int) else value)
    return rows


def _scores(estimator: Any, X: Any, y: Any) -> dict[str, str]:
    if is_classifier(estimator) and _kind(y) in (*_LABELS, _INDICATORS):
        scores = _classification_scores(estimator, X, y)
    elif is_regressor(estimator):
        predicted = estimator.predict(X)
        scores = {
            "R²": r2_score(y, predicted),
            "mean absolute error": mean_absolute_error(y, predicted),
            "root mean squared error": root_mean_squared_error(y, predicted),
        }
    elif hasattr(estimator, "scores"):  # of several tasks
        scores = {f"score of {task}": score for task, score in estimator.scores(X, y).dropna().items()}
    elif hasattr(estimator, "score"):
        scores = {"score": estimator.score(X, y)}
    else:
        raise InvalidParameterError(
            f"{type(estimator).__name__} has neither predict nor score, so there are no scores; leave X and y out"
        )
    return {name: f"{value:.4f}" for name, value in scores.items()}


def _has_labels(estimator: Any, y: Any) -> bool:
    return is_classifier(estimator) and _kind(y) in _LABELS


def _parameters(estimator: Any) -> dict[str, list[str]]:
    """Return the parameters, with long values shortened: a table is as wide as its longest cell in every row."""
    params = estimator.get_params()
    return {"parameter": list(params), "value": [quoted(value, _SHOWN_CHARACTERS) for value in params.values()]}


def _kind(y: Any) -> str:
    """Return the type of targets; "unknown" for those of words and pixels, of which there are several per sample."""
    try:
        return str(type_of_target(y))
    except (TypeError, ValueError):
        return "unknown"


def _classification_scores(estimator: Any, X: Any, y: Any) -> dict[str, float]:
    predicted = estimator.predict(X)
    if _kind(y) == _INDICATORS:
        return {
            "exact matches": accuracy_score(y, predicted),
            "F1, micro": f1_score(y, predicted, average="micro", zero_division=0),
            "F1, macro": f1_score(y, predicted, average="macro", zero_division=0),
        }
    scores = {
        "accuracy": accuracy_score(y, predicted),
        "balanced accuracy": balanced_accuracy_score(y, predicted),
        "F1, macro": f1_score(y, predicted, average="macro", zero_division=0),
    }
    if hasattr(estimator, "predict_proba") and np.isin(y, estimator.classes_).all():
        scores["log loss"] = log_loss(y, estimator.predict_proba(X), labels=estimator.classes_)
    return scores


def _how_to_load(estimator: Any, file: str, trusted: list[str]) -> str:
    method = "predict" if hasattr(estimator, "predict") else "transform"
    arguments = f"{file or 'model.skt'!r}" + (f", trusted={trusted}" if trusted else "")
    return (
        f"```python\nfrom sktransfer import load\n\nestimator = load({arguments})\n"
        f"print(estimator.{method}(samples))\n```\n\nWritten by sktransfer {__version__}."
    )


def _as_list(facts: Mapping[str, Any]) -> str:
    """Return a Markdown list. The lines of a value, such as those of a report, are separated by semicolons."""
    lines = {
        name: "; ".join(" ".join(line.split()) for line in str(value).splitlines()) for name, value in facts.items()
    }
    return "\n".join(f"- {name}: {line}" for name, line in lines.items())
