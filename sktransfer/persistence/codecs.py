"""All kinds of objects that a file may hold beside those of skops. What is not in this list is not loaded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.exceptions import SaveError
from sktransfer.persistence import callbacks, estimators, values, word_vectors
from sktransfer.persistence.backbones import BACKBONE
from sktransfer.persistence.frames import FRAME
from sktransfer.persistence.heads import HEAD
from sktransfer.persistence.parts import Codec
from sktransfer.training.heads import Head

__all__ = ["CODECS", "find_codec"]

_ONE_BY_ONE = {Backbone: BACKBONE, Head: HEAD, pd.DataFrame: FRAME}
_ALL = (
    *_ONE_BY_ONE.values(),
    *estimators.CODECS,
    *callbacks.CODECS,
    *values.CODECS,
    *word_vectors.CODECS,
)
CODECS = {codec.kind: codec for codec in _ALL}
_FINDERS = (estimators.find_estimator, values.find_value, word_vectors.find_words, callbacks.find_callback)


def find_codec(obj: Any) -> Codec | None:
    """Return how an object is written; None where skops is to say.

    Raises
    ------
    SaveError
        If it is of a kind that skops would keep in a form that is not loaded.
    """
    if type(obj) in _ONE_BY_ONE:
        return _ONE_BY_ONE[type(obj)]
    for find in _FINDERS:
        codec = find(obj)
        if codec is not None:
            return codec
    if isinstance(obj, (nn.Module, np.random.Generator)):
        raise SaveError(f"a {type(obj).__module__}.{type(obj).__qualname__} cannot be saved without pickle")
    return None
