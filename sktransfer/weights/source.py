"""Declaration of pretrained weights in a spec. Imports neither torch nor numpy."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from sktransfer.exceptions import PluginError, did_you_mean

__all__ = ["CONTRACT", "OLDEST_CONTRACT", "SCHEMES", "WeightsSource", "known_fields_only"]

CONTRACT, OLDEST_CONTRACT = 1, 1  # current version of the plugin contract, and the oldest supported one
SCHEMES = ("package", "https", "http", "hub", "file")
_SHA256 = re.compile("([0-9a-fA-F]{8,64})?")

_T = TypeVar("_T")


def known_fields_only(cls: type[_T]) -> type[_T]:
    """Decorate a dataclass so that the error for an unknown field says how to correct it.

    Parameters
    ----------
    cls : type
        Dataclass of the plugin contract.
    """
    plain = cls.__init__
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]

    @functools.wraps(plain)
    def init(self: _T, *args: Any, **given: Any) -> None:
        if "contract" in given:  # checked first, because a later contract may have fields that are unknown here
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
        outdated = "sktransfer" if contract > CONTRACT else "the plugin"
        raise PluginError(
            f"{name!r} is written for contract {contract}; this sktransfer understands {OLDEST_CONTRACT} to "
            f"{CONTRACT}. Upgrade {outdated}."
        )


@known_fields_only
@dataclass(frozen=True, kw_only=True)
class WeightsSource:
    """Location of pretrained weights, and the hash that verifies them.

    Parameters
    ----------
    location : str
        `https://...` or `http://...` (a file to download), `package:<module>/<file>` (in an installed package),
        `hub:<owner>/<model>[@revision]` (a folder of a Hugging Face hub) or `file:<path>` (on this machine).
    sha256 : str, default=""
        Hash of the file in hex, or its first digits (at least 8). It is checked before the file is parsed. "" if the
        source keeps hashes of its own (a hub) or the file is the user's.
    size : int, default=None
        Size in bytes, announced before a download. None if unknown.

    Raises
    ------
    PluginError
        If `location` or `sha256` is not valid.
    TypeError
        If a field is unknown.

    Examples
    --------
    >>> from sktransfer.backbones import WeightsSource
    >>> WeightsSource(location="hub:google-bert/bert-base-uncased").location
    'hub:google-bert/bert-base-uncased'
    """

    location: str
    sha256: str = ""
    size: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.location, str) or self.location.partition(":")[0] not in SCHEMES:
            raise PluginError(f"weights: location={self.location!r} must begin with one of {SCHEMES} and a colon")
        if not isinstance(self.sha256, str) or not _SHA256.fullmatch(self.sha256):
            raise PluginError(f"weights: sha256={self.sha256!r} must be 8 to 64 hexadecimal digits, or '' for none")
