"""A frozen image backbone as a transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sktransfer._parameters import Parameter, with_parameters
from sktransfer.backbones.loading import load_backbone
from sktransfer.backbones.pooling import pooling_options
from sktransfer.engine.parameters import (
    BACKBONE,
    COMPUTE,
    IMAGE_SHAPE,
    LAYER,
    POOLING,
    PREPROCESS,
    TARGET,
    VERBOSE,
    WEIGHTS,
)
from sktransfer.featurizers.base import Featurizer

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["ImageFeaturizer"]


@with_parameters(
    BACKBONE.replace(
        description="""A name (`list_backbones("image")` lists them) or a loaded backbone, such as `clf.backbone_` of a
        fitted `FineTuneClassifier`. The default is small and reads images at 32 x 32 pixels. For photos, choose one
        that reads more, such as "torchvision/mobilenet_v2" (224 x 224)."""
    ),
    WEIGHTS,
    PREPROCESS,
    IMAGE_SHAPE,
    LAYER,
    TARGET,
    POOLING.replace(
        type=pooling_options("image"),
        description="""Pooling of a stage's output into one vector per image. "grid2" averages over each cell of a 2x2
        grid and concatenates the averages. "auto" is the pooling of the network's own head. "mean" is "average".""",
    ),
    COMPUTE,
    Parameter(
        "on_error",
        "raise",
        '{"raise", "warn", "nan"}',
        """Handling of images that cannot be used, for example because a file is missing, empty, truncated or not an
        image. "raise" raises an error that names row, path and reason. "warn" and "nan" fill the image's row of
        features with NaN, which leaves the other rows as they would be without it. "warn" also reports all such rows in
        one `InvalidSampleWarning`, whose `failures` lists row, path and reason. `find_bad_images(X)` gives the same
        list beforehand.""",
    ),
    Parameter(
        "missing",
        "on_error",
        '{"on_error", "nan"}',
        """Treatment of missing images (None or NaN in a list or column). "on_error" treats them as images that cannot
        be used. "nan" fills their rows of features with NaN, without an error or a warning.""",
    ),
    VERBOSE,
)
class ImageFeaturizer(Featurizer):
    """Turn images into features by a frozen pretrained network.

    Each image passes through the backbone's stages. The output of a stage is pooled into one vector. By default, the
    vectors of all stages are joined, weighed by how well they predict y. Otherwise `layer` names the stages.

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
    n_features_in_ : int
        Number of columns of X, if X has columns.

    See Also
    --------
    FineTuneClassifier : Trains the upper stages as well.
    TextFeaturizer : Featurizer of texts.

    Notes
    -----
    The features of an image do not depend on its batch. They are float32 for every input type.

    The channels of arrays are read as RGB. OpenCV gives BGR: pass `x[..., ::-1]`. uint8 is divided by 255 and uint16 by
    65535. Divide values of other ranges yourself, for example `x / 4095` for 12 bits. Transparent pixels are shown on
    white, unless `preprocess` has another `background`.

    With `on_error="warn"` or `"nan"`, or `missing="nan"`, the next step must accept rows of NaN.
    `HistGradientBoostingClassifier` does, and `SimpleImputer` fills them. `fit` alone returns no features, so it does
    not warn. An image that cannot be used is not cached. Once its file is repaired, its features are computed.

    With y, `layer="auto"` runs all stages in one pass, on at most 1,000 samples at equal distances. Each layer is
    centred and divided by the root of its mean squared length. A ridge regression of y on each layer has leave-one-out
    errors in closed form [2]_. Samples of equal features count as one. The weight of a layer is its depth times
    exp(-z), where z is its error beyond that of the best layer, in standard errors. The last layer counts twice, and at
    least a twentieth. Averages over a 2x2 grid join them if `pooling="auto"` and the error falls by more than a
    standard error. The joined layers are multiplied so that `LogisticRegression()`, or `Ridge()` for numbers, needs
    neither a scaler nor another strength. If whole numbers are to be regressed, as by `Ridge` on stars or counts, set
    `target="numbers"`, because the features are otherwise scaled for a classifier. With a single label or fewer than
    three samples, layers count by their depth. Without y, `layer="auto"` is `layer=-1`. `fit` sees only the samples of
    a fold, so a search chooses inside each fold.

    References
    ----------
    .. [1] J. Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS 2014.
    .. [2] R. Rifkin and R. Lippert, "Notes on Regularized Least Squares", MIT-CSAIL-TR-2007-025.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import ImageFeaturizer
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 = 8 x 8 grey pixels from 0 to 16
    >>> clf = make_pipeline(ImageFeaturizer("tiny/cnn"), LogisticRegression(max_iter=1000)).fit(X[:100] / 16, y[:100])
    >>> bool(clf.score(X[100:300] / 16, y[100:300]) > 0.85), clf[0].layer_.idxmax()
    (True, ('block3', 'grid2'))
    >>> featurizer = ImageFeaturizer("tiny/cnn", layer="block4", pooling="grid2")
    >>> clf = make_pipeline(featurizer, LogisticRegression(max_iter=1000)).fit(X[:100] / 16, y[:100])
    >>> bool(clf.score(X[100:300] / 16, y[100:300]) > 0.8)
    True
    """

    _modality = "image"
    _missing_options = ("on_error", "nan")
    preprocess: str | ImageTransform | Mapping[str, Any]
    image_shape: tuple[int, ...] | None

    def _load(self) -> Backbone:
        return load_backbone(self.backbone, weights=self.weights, preprocess=self.preprocess)
