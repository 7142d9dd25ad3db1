"""Provider `torchvision/*`: the classification networks of torchvision.

Their specs are data, so listing them imports neither torch nor torchvision. `benchmarks/spec_tables.py` writes the data
to `torchvision_models.json`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer.backbones import BackboneSpec, WeightsSource, hookimpl

if TYPE_CHECKING:
    from sktransfer.backbones import Backbone, ImageTransform

TABLE = Path(__file__).with_name("torchvision_models.json")

_AUXILIARY = re.compile(r"(aux1|aux2|AuxLogits)\.")
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),  # DenseNet: norm.1.weight -> norm1.weight
    (re.compile(r"(\.mlp)\.linear_1\."), r"\1.0."),  # VisionTransformer
    (re.compile(r"(\.mlp)\.linear_2\."), r"\1.3."),
)


@hookimpl
def sktransfer_backbones() -> list[BackboneSpec]:
    """Return the specs of `torchvision/*`."""
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return [_spec(name, row) for name, row in table.items()]


def _spec(name: str, row: dict[str, Any]) -> BackboneSpec:
    return BackboneSpec(
        name=f"torchvision/{name}",
        loader="sktransfer.providers.torchvision:load",
        modality="image",
        stages=row["stages"],
        input_size=tuple(row["input_size"]),
        weights=WeightsSource(location=row["url"], sha256=row["sha256"], size=row["size"]),
        licence=row["licence"],
        n_parameters=row["n_parameters"],
        accuracy=row["accuracy"],
        options={"weights": row["weights"]},
    )


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build a network of torchvision, fill it, and divide it into stages.

    Parameters
    ----------
    spec : BackboneSpec
        Spec of the network. `spec.options["weights"]` is torchvision's name of the weights ("IMAGENET1K_V1"), which
        determines preprocessing and categories.
    path : Path or None
        File of weights, with torchvision's parameter names. None for random weights.

    Returns
    -------
    backbone : Backbone
        Without a head if the file has none, or one with another number of classes.

    Raises
    ------
    WeightsError
        If the file cannot be read, or does not fit the network.
    """
    from torchvision.models import get_model_weights

    from sktransfer.backbones import Backbone, fill
    from sktransfer.providers.torchvision_stages import build, cut

    name = spec.name.partition("/")[2]
    weights = get_model_weights(name)[spec.options["weights"]]
    parts = cut(build(name, weights))
    complete = fill(parts.model, path, head=parts.head_prefix, rename=own_name)
    return Backbone(
        name=spec.name,
        modality="image",
        stages=parts.stages,
        preprocess=preprocess(weights),
        pooling=parts.pooling,
        head=parts.head if complete else None,
        categories=weights.meta["categories"] if complete else (),
        prefix_tokens=parts.prefix_tokens,
        definition=spec.name,
    )


def preprocess(weights: Any) -> ImageTransform:
    """Return the preprocessing of `weights.transforms()`.

    Parameters
    ----------
    weights : torchvision.models.WeightsEnum
        Weights of a classification network.
    """
    from sktransfer.backbones import ImageTransform

    transforms = weights.transforms()
    height, width = _pair(transforms.crop_size)
    return ImageTransform(
        resize=transforms.resize_size[0] if len(transforms.resize_size) == 1 else _pair(transforms.resize_size),
        crop=(height, width),
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def _pair(size: list[int]) -> tuple[int, int]:
    return size[0], size[-1]  # torchvision writes a square as a list of one


def own_name(name: str) -> str | None:
    """Return the current parameter name for a name in a file of torchvision.

    Files of DenseNet and VisionTransformer use older names. Files of GoogLeNet and Inception v3 contain auxiliary
    classifiers, which are used only in training from scratch and are skipped.

    Parameters
    ----------
    name : str
        Name in the file.

    Returns
    -------
    own : str or None
        Current name, or None for a skipped tensor.

    Examples
    --------
    >>> from sktransfer.providers.torchvision import own_name
    >>> own_name("features.denseblock1.denselayer1.norm.1.weight")
    'features.denseblock1.denselayer1.norm1.weight'
    """
    if _AUXILIARY.match(name):
        return None
    for old, new in _OLD_NAMES:
        name = old.sub(new, name)
    return name
