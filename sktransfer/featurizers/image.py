"""A frozen image backbone as a transformer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sktransfer.backbones.loading import load_backbone
from sktransfer.featurizers.base import Featurizer

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform

__all__ = ["ImageFeaturizer"]


class ImageFeaturizer(Featurizer):
    """Turn images into features by a pretrained network that stays as it is.

    Each image goes through the backbone's stages up to the one that `layer` names; what that stage gives is pooled
    into one vector.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/cnn"
        A name (`list_backbones("image")` shows them) or a loaded backbone, such as `clf.backbone_` of a fitted
        `FineTuneClassifier`.
    weights : {"pretrained", "random"} or path, default="pretrained"
        "random" is the honest control: the same network, untrained. A path is a local safetensors file, or a state
        dict that `torch.load(weights_only=True)` takes.
    preprocess : "auto", ImageTransform or dict, default="auto"
        "auto" takes what the weights' file says of itself, else what belongs to the backbone. A dict changes single
        settings: `{"resize": 256, "crop": (224, 224)}`.
    image_shape : tuple of int, default=None
        (height, width) or (height, width, channels) of images that come as flat rows. None: a row of n * n values is
        a grey square, of 3 * n * n a colour square (rows, columns, channels); any other width is a strip one pixel
        high, with a warning.
    layer : int, str or list of these, default=-1
        Which stage gives the features: an index (-1 is the last), a name, a list (concatenated), or "all".
    pooling : {"auto", "average", "max", "class_token", "flatten", "grid2", "grid3"}, default="auto"
        How a stage's values become a vector. "grid2" averages over each cell of a 2x2 grid and concatenates; "auto" is
        what the network's own head does.
    batch_size : int or "auto", default="auto"
        Images that go through the network at once: "auto" is what fills a core's caches, or a GPU, counted in pixels.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the network computes: "auto" is bfloat16 where the processor or the GPU has it natively, else float32.
        Features are float32 in any case.
    cache : "memory", path or None, default="memory"
        Keeps the features of each image, by its content, for whoever asks again: folds, candidates and clones. "memory"
        lasts as long as the process, a folder is shared by processes and sessions; `set_config` sets their size,
        `cache_info` tells what they hold.
    on_error : {"raise", "warn", "nan"}, default="raise"
        What an image does that cannot be used, because its file is missing, empty, cut off or no image, say. "raise":
        it is an error that names row, path and reason. "warn" and "nan": its row of features is NaN, the other rows are
        as they would be without it; "warn" tells of all such rows in one `InvalidSampleWarning`, whose `failures` lists
        row, path and reason. `find_bad_images(X)` gives the same list beforehand.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    backbone_ : Backbone
        The network, shared and never changed.
    n_features_in_ : int
        Number of columns, where X has any.

    See Also
    --------
    FineTuneClassifier : Trains the upper stages, too.
    TextFeaturizer : The same for texts.

    Notes
    -----
    Features do not depend on the batch that an image is in. They are float32 whatever comes in.

    Where `on_error` lets rows of NaN through, what comes next must take them: `HistGradientBoostingClassifier` does,
    and `SimpleImputer` fills them. `fit` alone gives no features, and so no warning. Nothing is stored of an image that
    cannot be used: once its file is mended, so are its features.

    References
    ----------
    .. [1] J. Yosinski et al., "How transferable are features in deep neural networks?", NeurIPS 2014.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import ImageFeaturizer
    >>> X, y = load_digits(return_X_y=True)  # rows of 64 = 8 x 8 grey pixels from 0 to 16
    >>> featurizer = ImageFeaturizer("tiny/cnn", layer="block4", pooling="grid2")
    >>> clf = make_pipeline(featurizer, LogisticRegression(max_iter=1000)).fit(X[:100] / 16, y[:100])
    >>> bool(clf.score(X[100:300] / 16, y[100:300]) > 0.8)
    True
    """

    _modality = "image"

    def __init__(
        self,
        backbone: str | Backbone = "tiny/cnn",
        *,
        weights: str | os.PathLike[str] = "pretrained",
        preprocess: str | ImageTransform | Mapping[str, Any] = "auto",
        image_shape: tuple[int, ...] | None = None,
        layer: int | str | Sequence[int | str] = -1,
        pooling: str = "auto",
        batch_size: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        on_error: str = "raise",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.preprocess = preprocess
        self.image_shape = image_shape
        self.layer = layer
        self.pooling = pooling
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.on_error = on_error
        self.verbose = verbose

    def _load(self) -> Backbone:
        return load_backbone(self.backbone, weights=self.weights, preprocess=self.preprocess)
