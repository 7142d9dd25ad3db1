"""A frozen text backbone as a transformer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from sklearn.preprocessing import normalize

from sktransfer.backbones.loading import load_backbone
from sktransfer.featurizers.base import Featurizer

if TYPE_CHECKING:
    import torch

    from sktransfer.backbones.backbone import Backbone

__all__ = ["TextFeaturizer"]


class TextFeaturizer(Featurizer):
    """Turn texts into features by a pretrained language model that stays as it is.

    Each text goes through the backbone's stages up to the one that `layer` names (0 is the embeddings, k the k-th
    layer); what that stage gives for the text's tokens is pooled into one vector.

    Parameters
    ----------
    backbone : str or Backbone, default="tiny/bert"
        "tiny/bert" is shipped; `"hf/<hub id>"` or `"hf/<local folder>"` of a model of transformers, or a loaded
        backbone, such as `clf.backbone_` of a fitted `FineTuneClassifier`.
    weights : {"pretrained", "random"} or path, default="pretrained"
        "random" is the honest control: the same network, untrained.
    max_length : int, default=None
        Tokens that are read of a text; None for as many as the model takes. Longer texts are cut, with a warning that
        counts them.
    layer : int, str or list of these, default=-1
        Which stage gives the features: an index (-1 is the last), a name, a list (concatenated), or "all".
    pooling : {"auto", "mean", "class_token", "max", "last_token", "mean+max"}, default="auto"
        How the vectors of a text's tokens become one. "auto" is the mean for encoders and the last token for decoders.
    normalize : bool, default=False
        Scale each text's features to length 1.
    batch_size : int or "auto", default="auto"
        Texts that go through the network at once: "auto" is what fills a core's caches, or a GPU, counted in tokens.
    device : str or torch.device, default="auto"
        "auto" is a GPU where there is one.
    precision : {"float32", "bfloat16", "float16", "auto"}, default="float32"
        In which the network computes: "auto" is bfloat16 where the processor or the GPU has it natively, else float32.
        Features are float32 in any case.
    cache : "memory", path or None, default="memory"
        Keeps the features of each text, by its content, for whoever asks again: folds, candidates and clones. "memory"
        lasts as long as the process, a folder is shared by processes and sessions; `set_config` sets their size,
        `cache_info` tells what they hold.
    verbose : int, default=0
        1 shows a progress bar.

    Attributes
    ----------
    backbone_ : Backbone
        The network, shared and never changed.

    See Also
    --------
    FineTuneClassifier : Trains the upper stages, too.
    ImageFeaturizer : The same for images.

    Notes
    -----
    Features do not depend on the batch that a text is in, nor on the lengths of its neighbours. They are float32.

    Examples
    --------
    >>> from sktransfer import TextFeaturizer
    >>> TextFeaturizer().fit_transform(["a good film", "a bad one"]).shape
    (2, 160)
    >>> featurizer = TextFeaturizer("hf/distilbert-base-uncased", layer=4)  # nothing is loaded before fit
    """

    _modality = "text"

    def __init__(
        self,
        backbone: str | Backbone = "tiny/bert",
        *,
        weights: str | os.PathLike[str] = "pretrained",
        max_length: int | None = None,
        layer: int | str | Sequence[int | str] = -1,
        pooling: str = "auto",
        normalize: bool = False,
        batch_size: int | str = "auto",
        device: str | torch.device = "auto",
        precision: str = "float32",
        cache: str | os.PathLike[str] | None = "memory",
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.max_length = max_length
        self.layer = layer
        self.pooling = pooling
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device
        self.precision = precision
        self.cache = cache
        self.verbose = verbose

    def _load(self) -> Backbone:
        return load_backbone(self.backbone, weights=self.weights, max_length=self.max_length)

    def _finish(self, features: np.ndarray) -> np.ndarray:
        return normalize(features, copy=False) if self.normalize else features
