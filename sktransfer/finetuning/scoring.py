"""What skorch's scoring callbacks ask of a net in training: predictions, as scikit-learn's scorers want them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, softmax
from sklearn.metrics import accuracy_score, r2_score
from skorch import NeuralNet
from skorch.utils import to_numpy

if TYPE_CHECKING:
    from sklearn.utils import Tags

__all__ = ["ScoredNet"]


class ScoredNet(NeuralNet):  # type: ignore[misc]
    """A net that `EpochScoring` and `BatchScoring` can score by the name of a metric, whatever its task.

    Targets and predictions are those that the loss sees: classes go by their places in the estimator's `classes_`,
    numbers are standardised. Samples count alike, whatever they weigh.
    """

    task: str = "numbers"  # or "classes", "labels", "features": of a head's outputs, or of no head

    @property
    def classes_(self) -> Any:
        """Places of the classes, (n_classes,); an array [0, 1] a label, where several may hold."""
        if self.task == "classes":
            return np.arange(self.module_.n_outputs)
        if self.task == "labels":
            return [np.arange(2)] * self.module_.n_outputs
        raise AttributeError(f"a net for {self.task} has no classes")

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return probabilities (n_samples, n_classes or n_labels); of numbers and features, as they are.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        """
        outputs = np.concatenate([to_numpy(one) for one in self.forward_iter(X)])  # (n_samples, n_outputs)
        if self.task == "classes":
            return np.asarray(softmax(outputs, axis=1))
        return np.asarray(expit(outputs)) if self.task == "labels" else outputs

    def predict(self, X: Any) -> np.ndarray:
        """Return places of classes (n_samples,), an indicator matrix (n_samples, n_labels), or outputs as they are.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        """
        outputs = self.predict_proba(X)
        if self.task == "classes":
            return np.asarray(outputs.argmax(1))
        return (outputs > 0.5).astype(np.int64) if self.task == "labels" else outputs

    def score(self, X: Any, y: Any) -> float:
        """Return the accuracy, or of numbers R², as scikit-learn's classifiers and regressors do.

        Parameters
        ----------
        X : Dataset
            As the net is trained on.
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets as the loss sees them.
        """
        metric = accuracy_score if self.task in ("classes", "labels") else r2_score
        return float(metric(y, self.predict(X)))

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell the callbacks; a batch of theirs is (arguments, targets), as skorch's own are: no weights among them.

        Parameters
        ----------
        method_name : str
            Of what happens.
        **kwargs
            What is told of it.
        """
        batch = kwargs.get("batch")
        if batch is None:
            super().notify(method_name, **kwargs)
            return
        arguments, (targets, weight) = batch
        super().notify(method_name, **{**kwargs, "batch": (arguments, targets)})
        if method_name == "on_batch_end":  # a batch counts in the epoch's mean loss by the weight of its samples
            self.history.record_batch(f"{'train' if kwargs['training'] else 'valid'}_batch_size", float(weight.sum()))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.estimator_type = {"classes": "classifier", "labels": "classifier", "numbers": "regressor"}.get(self.task)
        return tags
