"""A frozen joined backbone as a transformer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from sktransfer._parameters import REQUIRED, Parameter, with_parameters
from sktransfer._utils import all_or_nothing
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.loading import load_backbone
from sktransfer.engine.leave_one_out import scale_towers, scaled_towers
from sktransfer.engine.parameters import (
    COMPUTE,
    IMAGE_SHAPE,
    LAYER,
    MAX_LENGTH,
    POOLING,
    PREPROCESS,
    TARGET,
    VERBOSE,
)
from sktransfer.exceptions import InvalidParameterError
from sktransfer.featurizers.base import Featurizer
from sktransfer.samples.base import Rows
from sktransfer.samples.columns import quoted
from sktransfer.samples.validation import check_samples

if TYPE_CHECKING:
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["JoinedFeaturizer"]


@with_parameters(
    Parameter(
        "backbone",
        REQUIRED,
        "JoinedBackbone",
        """Result of `Backbone.join`, or `clf.backbone_` of an estimator that was fitted with one.""",
    ),
    PREPROCESS.replace(
        type='"auto", ImageTransform or dict',
        description="""Preprocessing of images, as in `ImageFeaturizer`. One value for all columns of images, or a dict
        by column.""",
    ),
    IMAGE_SHAPE,
    MAX_LENGTH.replace(
        type="int or dict of str to int",
        description="""Number of tokens read per text, as in `TextFeaturizer`. One value for all columns of texts, or a
        dict by column.""",
    ),
    LAYER.replace(
        type="int, str, list of these, or dict of str to these",
        description="""Stage of each tower whose output gives the features. "auto" weighs the stages of each tower by
        how well they predict y. Otherwise an index (-1 is the last stage), a name, a list (concatenated) or "all". One
        value for all towers, or a dict by column.""",
    ),
    TARGET,
    POOLING.replace(
        type="str or dict of str to str",
        description="""Pooling of a stage's output into one vector. "auto" is that of each network. One value for all
        towers, or a dict by column.""",
    ),
    COMPUTE,
    VERBOSE,
)
class JoinedFeaturizer(Featurizer):
    """Turn rows of several columns into features by frozen pretrained networks.

    Each column passes through the stages of its tower. The features of all towers are centred, scaled per tower and
    concatenated, so that neither the wider nor the larger ones dominate a linear model. The features of a column that a
    row lacks are zeros, if the backbone is joined with `missing="zero"`.

    Parameters
    ----------
    {parameters}

    Attributes
    ----------
    backbone_ : JoinedBackbone
        The networks, which are shared and never changed.
    layer_ : Series
        Only with `layer="auto"` and y: weight of each layer, by stage and pooling, summing to one.
    strength_ : float
        Only with `layer="auto"` and y: C of a logistic regression, or alpha of a ridge regression, on features of total
        variance 1. `transform` gives features on which 1 is right.
    report_ : str
        The choice, and the errors of all towers together and of each alone, in a few lines.
    n_features_in_ : int
        Number of columns of X, if X is a DataFrame.

    See Also
    --------
    FineTuneClassifier : Trains the upper stages of the towers as well.
    ImageFeaturizer : Featurizer of images.
    TextFeaturizer : Featurizer of texts.

    Notes
    -----
    `fit` computes the features, because it learns their mean and scale from the rows that have the column.

    With y, `layer="auto"` weighs the layers of each tower as `ImageFeaturizer` and `TextFeaturizer` do, by the rows
    that have the column. All towers have the same share of the variance. The layers are multiplied so that
    `LogisticRegression()`, or `Ridge()` for numbers, needs neither a scaler nor another strength. Otherwise the mean
    variance of the features is 1, and each tower has the same share of it.

    Late fusion by a `ColumnTransformer` of `TextFeaturizer` and `ImageFeaturizer` gives features of the same networks,
    with the scale that each of them has alone.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer import Backbone, JoinedFeaturizer
    >>> joined = Backbone.join({"text": "tiny/bert", "image": "tiny/cnn"}, missing="zero")
    >>> X = {"text": ["a dark page", "a white page", None], "image": np.zeros((3, 8, 8), dtype=np.uint8)}
    >>> featurizer = JoinedFeaturizer(joined, layer=-1).fit(X)
    >>> featurizer.transform(X).shape, featurizer.get_feature_names_out()[[0, -1]].tolist()
    ((3, 672), ['joinedfeaturizer_text.layer4_0', 'joinedfeaturizer_image.top_511'])
    """

    _modality = "joined row"
    _missing_options = ("error", "zero")
    missing = "error"  # the backbone says which
    preprocess: str | ImageTransform | Mapping[str, Any]
    max_length: Any
    image_shape: tuple[int, ...] | None
    _scaling: tuple[np.ndarray, np.ndarray] | None

    @all_or_nothing
    def fit(self, X: Any, y: Any = None) -> Self:
        """Validate the rows, choose layers if `layer="auto"`, and learn the scale of the features, without training.

        Parameters
        ----------
        X : DataFrame, dict of str to array-like, or array of shape (n_samples, n_columns)
            The rows.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Labels or numbers that `layer="auto"` chooses by. Otherwise ignored.

        Returns
        -------
        self : object

        Raises
        ------
        InvalidParameterError
            If a parameter is not allowed.
        InvalidSampleError
            If a sample cannot be used, or is missing.
        ValueError
            If X has other columns than the backbone.
        """
        self.fit_transform(X, y)
        return self

    def _load(self) -> Backbone:
        backbone = load_backbone(self.backbone, preprocess=self.preprocess, max_length=self.max_length)
        if None in backbone.towers:
            raise InvalidParameterError(
                f"backbone={quoted(self.backbone, 60)} takes {backbone.modality}s, and JoinedFeaturizer featurizes "
                "rows of several columns; join backbones by Backbone.join({'text': ..., 'image': ...}), or use "
                f"{'Text' if backbone.modality == 'text' else 'Image'}Featurizer"
            )
        return backbone

    def _fit(self, X: Any) -> Rows:
        self._scaling = None
        return super()._fit(X)

    def _check(self, X: Any, *, reset: bool) -> Rows:
        takes = (self._load() if reset else self.backbone_).takes
        return check_samples(self, X, takes, image_shape=self.image_shape, reset=reset)

    def _postprocess(self, features: np.ndarray, widths: Sequence[int]) -> np.ndarray:
        if self._choice is not None:
            return super()._postprocess(features, widths)
        layers = self._layers()
        blocks = [
            sum(width for layer, width in zip(layers, widths, strict=True) if layer.tower == name)
            for name in self.backbone_.towers
        ]
        if self._scaling is None:
            self._scaling = scale_towers(features, blocks, np.ones(len(features)))
        return scaled_towers(features, blocks, self._scaling)
