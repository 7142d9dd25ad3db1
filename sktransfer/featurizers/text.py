"""A frozen text backbone as a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.preprocessing import normalize

from sktransfer._parameters import Parameter, with_parameters
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.pooling import pooling_options
from sktransfer.engine.choose_layers import CandidateOutputs
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.engine.layers import resolve_layers
from sktransfer.engine.parameters import BACKBONE, COMPUTE, LAYER, MAX_LENGTH, POOLING, TARGET, VERBOSE, WEIGHTS
from sktransfer.exceptions import InvalidParameterError
from sktransfer.featurizers.base import Featurizer

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone

__all__ = ["TextFeaturizer"]


@with_parameters(
    BACKBONE.replace(
        default="tiny/bert",
        description="""A name or a loaded backbone, such as `clf.backbone_` of a fitted `FineTuneClassifier`.
        "tiny/bert" is shipped, and `"hf/<hub id>"` or `"hf/<local folder>"` loads a model of transformers.""",
    ),
    WEIGHTS,
    MAX_LENGTH,
    LAYER,
    TARGET,
    POOLING.replace(
        type=pooling_options("text"),
        description="""Pooling of the vectors of a text's tokens into one vector. "auto" is the mean for encoders and
        the last token for decoders. A folder of sentence-transformers names its own.""",
    ),
    Parameter(
        "normalize",
        "auto",
        'bool or "auto"',
        """Whether to scale the features of each text to length 1. "auto" does so if the model itself does and
        `layer` and `pooling` give the model's own vectors: its last layer and its pooling, by default or by name.""",
    ),
    COMPUTE,
    Parameter(
        "missing",
        "raise",
        '{"raise", "empty"}',
        """Treatment of missing texts (None or NaN). "raise" raises an error that names the row. "empty" reads them as
        empty texts.""",
    ),
    VERBOSE,
)
class TextFeaturizer(Featurizer):
    """Turn texts into features by a frozen pretrained language model.

    Each text passes through the backbone's stages. The outputs of a stage for the text's tokens are pooled into one
    vector. By default, the vectors of all stages are joined, weighed by how well they predict y. Otherwise `layer`
    names the stages (0 is the embeddings, k the k-th layer).

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : Backbone
        The network, which is shared and never changed.
    layer_ : Series
        Only with `layer="auto"` and y: weight of each layer, by stage and pooling, summing to one.
    strength_ : float
        Only with `layer="auto"` and y: C of a logistic regression, or alpha of a ridge regression, on features of total
        variance 1. `transform` gives features on which 1 is right.
    report_ : str
        The choice and the errors that decided it, in a few lines.

    See Also
    --------
    FineTuneClassifier : Trains the upper stages as well.
    ImageFeaturizer : Featurizer of images.

    Notes
    -----
    The features of a text depend neither on its batch nor on the lengths of the other texts. They are float32.

    Texts in a script that the tokenizer does not know get nearly the same features, with an `UnknownWordsWarning`. It
    counts the rows of X with such texts. Texts whose outputs are cached are not reported again.

    Models trained with prompts, such as "query: " for E5, expect one at the start of each text. Add it to the texts, or
    use the plugin sktransfer-sentence-transformers, whose names select a prompt.

    With y, `layer="auto"` runs all stages in one pass, on at most 1,000 samples at equal distances. Each layer is
    centred and divided by the root of its mean squared length. A ridge regression of y on each layer has leave-one-out
    errors in closed form [1]_. Samples of equal features count as one. The weight of a layer is its depth times
    exp(-z), where z is its error beyond that of the best layer, in standard errors. The last layer counts twice, and at
    least a twentieth. The joined layers are multiplied so that `LogisticRegression()`, or `Ridge()` for numbers, needs
    neither a scaler nor another strength. If whole numbers are to be regressed, as by `Ridge` on stars or counts, set
    `target="numbers"`, because the features are otherwise scaled for a classifier. With a single label or fewer than
    three samples, layers count by their depth. Without y, `layer="auto"` is `layer=-1`, so that a sentence encoder
    gives its own vectors. `fit` sees only the samples of a fold, so a search chooses inside each fold.

    References
    ----------
    .. [1] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> from sktransfer import TextFeaturizer
    >>> TextFeaturizer().fit_transform(["a good film", "a bad one"]).shape
    (2, 160)
    >>> texts = ["a good film", "a bad one", "good acting", "a dull, bad plot"]
    >>> TextFeaturizer().fit(texts, ["up", "down", "up", "down"]).layer_.index.names
    FrozenList(['layer', 'pooling'])
    >>> featurizer = TextFeaturizer("hf/distilbert-base-uncased", layer=4)  # loads in fit
    """

    _modality = "text"
    _missing_options = ("raise", "empty")
    max_length: int | None
    normalize: bool | str

    def _load(self) -> Backbone:
        if not isinstance(self.normalize, (bool, np.bool_)) and self.normalize != "auto":
            raise InvalidParameterError(f"normalize={self.normalize!r} must be True, False or 'auto'")
        return load_backbone(self.backbone, weights=self.weights, max_length=self.max_length)

    def _choose(self, inputs: PreprocessedSamples, y: Any, context: Any = None) -> CandidateOutputs:
        if not isinstance(self.normalize, str) and self.normalize:
            raise InvalidParameterError(
                f"normalize={self.normalize!r} scales the features of each text, and layer='auto' scales layers for a "
                "linear model if y is given; leave normalize='auto', or set layer=-1 or another stage"
            )
        return super()._choose(inputs, y, context)

    def _postprocess(self, features: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        if self._choice is not None:
            return super()._postprocess(features, widths)
        return normalize(features, copy=False) if self._scales_to_unit_length() else features  # (n_samples, n_features)

    def _scales_to_unit_length(self) -> bool:
        if self._choice is not None:
            return False
        return self._is_own_unit_length() if isinstance(self.normalize, str) else bool(self.normalize)

    def _is_own_unit_length(self) -> bool:
        """Return whether the features are the vectors that the model itself scales to length 1."""
        backbone = self.backbone_
        return backbone.unit_length and self._layers() == resolve_layers(backbone, -1, "auto")
