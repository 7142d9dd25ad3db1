"""Fuzz names of backbones, layers, depths, patterns and sizes: each is found or raises an error of sktransfer."""

from __future__ import annotations

from tests.fuzz.fuzzing import fuzz, instrumented

with instrumented(__name__, "sktransfer.backbones", "sktransfer.config", "sktransfer.engine.layers"):
    import sktransfer
    from sktransfer.backbones.registry import backbone_rows, registry
    from sktransfer.config import parse_size
    from sktransfer.engine.layers import resolve_layers
    from sktransfer.exceptions import BackboneNotFoundError, InvalidParameterError, SktransferError, WeightsError
    from sktransfer.weights.hub import split_revision

_backbone = sktransfer.load_backbone("tiny/cnn")
sktransfer.set_config(download="never")


def seeds() -> list[bytes]:
    """Return one text per kind."""
    names = ["tiny/cnn", "cnn", "torchvision/resnet50", "hf/./folder", "hf//etc", "hf/owner/model@v1", "timm/resnet18"]
    return [text.encode() for text in [*names, "block4", "-1", "0.5", "average", "grid2", "4 GB", "*/res[a-z]*", ""]]


def target(data: bytes) -> str:
    """Return the number of functions that accept a text."""
    text = data.decode("utf-8", "surrogateescape")
    outcomes = [
        _outcome(act, text) for act in (_find, backbone_pattern, _layer, _depth, _pooling, _size, split_revision)
    ]
    return f"{outcomes.count('found')} found"


def _outcome(act: object, text: str) -> str:
    try:
        act(text)  # type: ignore[operator]
    except (BackboneNotFoundError, InvalidParameterError, WeightsError) as error:
        if not isinstance(error, SktransferError) or not str(error):
            raise AssertionError("an error without a message") from error
        return "refused"
    return "found"


def _find(text: str) -> None:
    registry().find(text)


def backbone_pattern(text: str) -> None:
    """List the matching backbones."""
    backbone_rows(None, text)


def _layer(text: str) -> None:
    resolve_layers(_backbone, text, "average")


def _depth(text: str) -> None:
    _backbone.n_frozen(text)


def _pooling(text: str) -> None:
    resolve_layers(_backbone, -1, text)


def _size(text: str) -> None:
    parse_size("cache_memory", text)


if __name__ == "__main__":
    fuzz(target, seeds())
