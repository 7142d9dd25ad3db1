"""Small values that skops has no way to keep, or keeps without looking at them when they come back."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.engine.layers import LayerOutput
from sktransfer.exceptions import LoadError
from sktransfer.persistence.parts import Codec, Loading, Saving, entry

__all__ = ["CODECS", "find_value"]


def _encode_path(path: PurePath, saving: Saving) -> dict[str, Any]:
    return {"path": str(path)}


def _decode_path(data: dict[str, Any], loading: Loading) -> Path:
    return Path(entry(data, "path", str))


def _encode_device(device: torch.device, saving: Saving) -> dict[str, Any]:
    return {"device": str(device)}


def _decode_device(data: dict[str, Any], loading: Loading) -> torch.device:
    return torch.device(entry(data, "device", str))


def _encode_transform(transform: ImageTransform, saving: Saving) -> dict[str, Any]:
    return asdict(transform)


def _decode_transform(data: dict[str, Any], loading: Loading) -> ImageTransform:
    return ImageTransform(**{field.name: entry(data, field.name, object) for field in fields(ImageTransform)})


def _encode_tap(tap: LayerOutput, saving: Saving) -> dict[str, Any]:
    return {"stop": int(tap.stop), "pooling": tap.pooling}


def _decode_tap(data: dict[str, Any], loading: Loading) -> LayerOutput:
    return LayerOutput(entry(data, "stop", int), entry(data, "pooling", (str, type(None))))


def _encode_optimizer(optimizer: type, saving: Saving) -> dict[str, Any]:
    return {"name": optimizer.__name__}


def _decode_optimizer(data: dict[str, Any], loading: Loading) -> type:
    name = entry(data, "name", str)
    if not _is_optimizer(vars(torch.optim).get(name)):
        raise LoadError(f"torch.optim has no optimizer {name!r}")
    return getattr(torch.optim, name)  # type: ignore[no-any-return]


def _is_optimizer(obj: Any) -> bool:
    if not isinstance(obj, type) or not issubclass(obj, torch.optim.Optimizer):
        return False
    return vars(torch.optim).get(obj.__name__) is obj


def _encode_random_state(state: np.random.RandomState, saving: Saving) -> dict[str, Any]:
    name, keys, place, has_gauss, gauss = state.get_state(legacy=True)
    return {"name": name, "keys": keys, "place": int(place), "has_gauss": int(has_gauss), "gauss": float(gauss)}


def _decode_random_state(data: dict[str, Any], loading: Loading) -> np.random.RandomState:
    keys = entry(data, "keys", np.ndarray)
    name, place = entry(data, "name", str, ("MT19937",)), entry(data, "place", int)
    if keys.shape != (624,) or keys.dtype != np.uint32 or not 0 <= place <= 624:
        raise LoadError(f"it holds no state of a generator: {keys.shape} keys, at place {place}")
    state = np.random.RandomState()
    state.set_state((name, keys, place, entry(data, "has_gauss", int, (0, 1)), entry(data, "gauss", float)))
    return state


def _decode_dict(data: dict[str, Any], loading: Loading) -> dict[Any, Any]:
    return dict(zip(entry(data, "keys", list), entry(data, "values", list), strict=True))


def _encode_dict(given: dict[Any, Any], saving: Saving) -> dict[str, Any]:
    return {"keys": list(given), "values": list(given.values())}


_BY_TYPE = {
    torch.device: Codec("Device", _encode_device, _decode_device),
    ImageTransform: Codec("ImageTransform", _encode_transform, _decode_transform),
    LayerOutput: Codec("LayerOutput", _encode_tap, _decode_tap),
    np.random.RandomState: Codec("RandomState", _encode_random_state, _decode_random_state),
}
_PATH = Codec("Path", _encode_path, _decode_path)
_OPTIMIZER = Codec("Optimizer", _encode_optimizer, _decode_optimizer)
DICT = Codec("Dict", _encode_dict, _decode_dict)
CODECS = (*_BY_TYPE.values(), _PATH, _OPTIMIZER, DICT)


def find_value(obj: Any) -> Codec | None:
    """Return the codec of a small value; None for all else."""
    if isinstance(obj, PurePath):
        return _PATH
    return _OPTIMIZER if _is_optimizer(obj) else _BY_TYPE.get(type(obj))
