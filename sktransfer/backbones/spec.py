"""What a backbone says of itself before its code or its weights are touched. Imports neither torch nor numpy."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from sktransfer.exceptions import PluginError, did_you_mean

__all__ = ["CONTRACT", "OLDEST_CONTRACT", "BackboneSpec", "WeightsSource"]

CONTRACT, OLDEST_CONTRACT = 1, 1  # the contract that plugins write for, and the oldest that is still understood
MODALITIES = ("image", "text")
RESERVED = ("all", "mix")  # words of the parameter `layer`
SCHEMES = ("package", "https", "http", "hub", "file")
_SHA256 = re.compile("([0-9a-fA-F]{8,64})?")


_T = TypeVar("_T")


def _known_fields_only(cls: type[_T]) -> type[_T]:
    """Make a dataclass say what to do about a field that it does not have."""
    plain = cls.__init__
    known = [one.name for one in fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(plain)
    def init(self: _T, *args: Any, **given: Any) -> None:
        if "contract" in given:  # before the fields: a later contract may have some that are not known here
            _check_contract(given.get("name"), given["contract"])
        for name in given:
            if name not in known:
                raise TypeError(
                    f"{cls.__name__} has no field {name!r}; contract {CONTRACT} has {', '.join(known)}."
                    f"{did_you_mean(name, known)} If a later sktransfer has it, upgrade sktransfer; else the plugin's "
                    "author must correct it."
                )
        plain(self, *args, **given)

    cls.__init__ = init  # type: ignore[method-assign,assignment]
    return cls


def _check_contract(name: object, contract: object) -> None:
    if isinstance(contract, bool) or not isinstance(contract, int):
        raise PluginError(f"{name!r}: contract={contract!r} must be an int")
    if not OLDEST_CONTRACT <= contract <= CONTRACT:
        what = "sktransfer" if contract > CONTRACT else "the plugin"
        raise PluginError(
            f"{name!r} is written for contract {contract}; this sktransfer understands {OLDEST_CONTRACT} to "
            f"{CONTRACT}. Upgrade {what}."
        )


@_known_fields_only
@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Where pretrained weights come from, and how to know that they are the right ones.

    Parameters
    ----------
    location : str
        `https://...` or `http://...` (a file to fetch), `package:<module>/<file>` (in an installed package),
        `hub:<owner>/<model>[@revision]` (a folder of a Hugging Face hub) or `file:<path>` (on this machine).
    sha256 : str, default=""
        The hash of the file in hex, or its first digits (8 at least). Checked before the file is parsed; "" where the
        source keeps hashes of its own (a hub) or the file is the user's.
    size : int, default=None
        Bytes, announced before a download; None if not known.
    """

    location: str
    sha256: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.location, str) or self.location.partition(":")[0] not in SCHEMES:
            raise PluginError(f"weights: location={self.location!r} must begin with one of {SCHEMES} and a colon")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise PluginError(f"weights: sha256={self.sha256!r} must be 8 to 64 hexadecimal digits, or '' for none")


@_known_fields_only
@dataclass(frozen=True, kw_only=True)
class BackboneSpec:
    """All that can be known of a backbone without importing torch.

    Parameters
    ----------
    name : str
        `provider/model`; the provider is the name of the plugin's entry point.
    loader : str
        `"module:function"`, imported on first use and called as `function(spec, path)`, where `path` is the local file
        or folder of the weights, or None for random ones; returns a `Backbone`.
    modality : {"image", "text"}
        What its samples are.
    stages : mapping of str to int
        Stage name -> width (the number of channels that it gives), counted from the input.
    input_size : tuple of int, default=None
        (height, width) of images as the network gets them, or (max_tokens,) for text; None for any.
    weights : WeightsSource, default=None
        Where `weights="pretrained"` comes from; None if there are none.
    licence : str, default="unknown"
        SPDX identifier of the weights' licence, or words where there is none.
    options : mapping, default={}
        Data for the loader alone.
    contract : int, default=CONTRACT
        The version of the plugin contract it was written for.

    Raises
    ------
    PluginError
        If a field is not valid.
    TypeError
        If there is no such field.

    Examples
    --------
    >>> from sktransfer import BackboneSpec
    >>> spec = BackboneSpec(name="mine/small", loader="mine.networks:load", modality="image", stages={"stem": 16})
    >>> spec.provider
    'mine'
    """

    name: str
    loader: str
    modality: str
    stages: Mapping[str, int]
    input_size: tuple[int, ...] | None = None
    weights: WeightsSource | None = None
    licence: str = "unknown"
    options: Mapping[str, Any] = field(default_factory=dict)
    contract: int = CONTRACT

    def __post_init__(self) -> None:
        provider, _, model = self.name.partition("/") if isinstance(self.name, str) else ("", "", "")
        if not provider or not model:
            raise PluginError(f"name={self.name!r} must have the form 'provider/model'")
        parts = self.loader.split(":") if isinstance(self.loader, str) else []
        if len(parts) != 2 or not all(parts):
            raise PluginError(f"{self.name!r}: loader={self.loader!r} must have the form 'module:function'")
        if self.modality not in MODALITIES:
            raise PluginError(f"{self.name!r}: modality={self.modality!r} must be one of {MODALITIES}")
        if not isinstance(self.stages, Mapping) or not self.stages or not all(map(_is_stage, self.stages.items())):
            raise PluginError(
                f"{self.name!r}: stages={self.stages!r} must map at least one stage's name to its width, an int of at "
                f"least 1; no stage may be called one of {RESERVED}, which mean several"
            )
        if self.input_size is not None and not _is_size(self.input_size):
            raise PluginError(
                f"{self.name!r}: input_size={self.input_size!r} must be a tuple of ints of at least 1, or None for any"
            )
        if self.weights is not None and not isinstance(self.weights, WeightsSource):
            raise PluginError(f"{self.name!r}: weights={self.weights!r} must be a WeightsSource, or None for none")

    @property
    def provider(self) -> str:
        """The part of the name before the first slash."""
        return self.name.partition("/")[0]


def _is_size(size: object) -> bool:
    return isinstance(size, (tuple, list)) and all(isinstance(n, int) and n > 0 for n in size)


def _is_stage(item: tuple[Any, Any]) -> bool:
    name, width = item
    if not isinstance(name, str) or not name or name in RESERVED:
        return False
    return isinstance(width, int) and not isinstance(width, bool) and width > 0
