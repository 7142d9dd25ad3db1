"""The classification networks of torchvision. Their specs are data: listing them imports neither torch nor torchvision.

The data (`torchvision_models.json`) is written by `benchmarks/spec_tables.py`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sktransfer.backbones.hooks import hookimpl
from sktransfer.backbones.spec import BackboneSpec, WeightsSource

if TYPE_CHECKING:
    from sktransfer.backbones.backbone import Backbone
    from sktransfer.backbones.preprocess import ImageTransform

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
        options={"weights": row["weights"]},
    )


def load(spec: BackboneSpec, path: Path | None) -> Backbone:
    """Build a network of torchvision, fill it, and cut it into stages.

    Parameters
    ----------
    spec : BackboneSpec
        Which network; `spec.options["weights"]` names the weights in torchvision's words ("IMAGENET1K_V1"). They say
        how images are prepared and what the head's logits stand for.
    path : Path or None
        The weights' file, in torchvision's names; None leaves the weights that torchvision draws.

    Returns
    -------
    backbone : Backbone
        Without a head if the file has none, or one of another number of classes.

    Raises
    ------
    WeightsError
        If the file cannot be read, or does not fit the network.
    """
    from torchvision.models import get_model_weights

    from sktransfer.backbones.backbone import Backbone
    from sktransfer.providers.torchvision_stages import build, cut
    from sktransfer.weights.reading import fill

    name = spec.name.partition("/")[2]
    weights = get_model_weights(name)[spec.options["weights"]]
    parts = cut(build(name, weights))
    whole = fill(parts.model, path, head=parts.head_prefix, rename=own_name)
    return Backbone(
        name=spec.name,
        modality="image",
        stages=parts.stages,
        preprocess=preprocess(weights),
        pooling=parts.pooling,
        head=parts.head if whole else None,
        categories=weights.meta["categories"] if whole else (),
        prefix_tokens=parts.prefix_tokens,
        definition=spec.name,
    )


def preprocess(weights: Any) -> ImageTransform:
    """Return what `weights.transforms()` does to images.

    Parameters
    ----------
    weights : torchvision.models.WeightsEnum
        Weights of a classification network.
    """
    from sktransfer.backbones.preprocess import ImageTransform

    theirs = weights.transforms()
    height, width = _pair(theirs.crop_size)
    return ImageTransform(
        resize=theirs.resize_size[0] if len(theirs.resize_size) == 1 else _pair(theirs.resize_size),
        crop=(height, width),
        mean=tuple(theirs.mean),
        std=tuple(theirs.std),
        interpolation=theirs.interpolation.value,
    )


def _pair(size: list[int]) -> tuple[int, int]:
    return size[0], size[-1]  # torchvision writes a square as a list of one


def own_name(name: str) -> str | None:
    """Return a tensor's name in today's torchvision, given the name it has in a file of torchvision's.

    Files of DenseNet and VisionTransformer are older than the names in use. Those of GoogLeNet and Inception v3 hold
    classifiers on lower layers that only helped to train them: nothing here runs them, so they are left out.

    Parameters
    ----------
    name : str
        As the file has it.

    Returns
    -------
    own : str or None
        None where the tensor is left out.

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
