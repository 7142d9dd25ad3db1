"""Cache policy: which layer outputs are cached, under which namespace and in which type, and what is prefetched.

Every caller that reads or writes a store decides here. A layer output is given by plain values: the number of stages
that ran (`stop`), its pooling, and its size in bytes. How long entries stay is up to each store.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from sktransfer.cache.types import CacheNamespace

__all__ = [
    "cache_namespace",
    "fits",
    "is_cacheable",
    "is_small",
    "prefetch_for_depths",
    "prefetch_for_layers",
    "resume_stops",
    "select_prefetch",
    "stored_dtype",
]

Key = TypeVar("Key", bound=Hashable)

_SHARE = 0.5  # of the free room is for prefetched outputs; the rest stays free for the next request


def is_cacheable(stop: int, cacheable_stages: int, *, cheap_input: bool = False) -> bool:
    """Return whether the output of `stages[:stop]` may be cached.

    Parameters
    ----------
    stop : int
        Number of stages that ran. 0 is the preprocessed sample.
    cacheable_stages : int
        Number of first stages whose outputs may be cached: those that are frozen. Outputs of trained stages belong to
        one estimator, and no other would read them.
    cheap_input : bool, default=False
        Whether preprocessing a sample takes less time than a lookup, as for token ids.

    Examples
    --------
    >>> from sktransfer.cache.policy import is_cacheable
    >>> [is_cacheable(stop, 2) for stop in range(4)]
    [True, True, True, False]
    """
    return stop <= cacheable_stages and not (stop == 0 and cheap_input)


def resume_stops(lowest_missing: int, cacheable_stages: int, *, cheap_input: bool = False) -> Iterable[int]:
    """Return the stops whose cached values a pass may resume from, highest first.

    Parameters
    ----------
    lowest_missing : int
        Lowest stop among the layer outputs that are missing. The pass must not start above it.
    cacheable_stages, cheap_input
        As in `is_cacheable`.

    Examples
    --------
    >>> from sktransfer.cache.policy import resume_stops
    >>> list(resume_stops(5, 3, cheap_input=True))
    [3, 2, 1]
    """
    return range(min(lowest_missing, cacheable_stages), 0 if cheap_input else -1, -1)


def prefetch_for_layers(stop: int, pooling: str | None, n_stages: int, *, cheap: bool) -> list[tuple[int, str | None]]:
    """Return the outputs that a search over layers requests next, as (stop, pooling).

    Vectors of the lower stages come from the same pass. Values of the highest stage are where a pass to a higher layer
    resumes.

    Parameters
    ----------
    stop, pooling
        Highest layer output that is requested.
    n_stages : int
        Number of stages of the backbone.
    cheap : bool
        Whether to prefetch the lower stages: vectors of this pooling are small at any stage, or a search asks for the
        values themselves, as for features per word.

    Examples
    --------
    >>> from sktransfer.cache.policy import prefetch_for_layers
    >>> prefetch_for_layers(3, "average", 5, cheap=True)
    [(1, 'average'), (2, 'average'), (3, None)]
    """
    lower = [(below, pooling) for below in range(1, stop)] if cheap else []
    return [*lower, *([(stop, None)] if stop < n_stages else [])]


def prefetch_for_depths(n_stages: int) -> list[tuple[int, None]]:
    """Return the outputs that a search over freezing depths resumes from, as (stop, pooling).

    The highest stage comes first, because it saves most.

    Examples
    --------
    >>> from sktransfer.cache.policy import prefetch_for_depths
    >>> prefetch_for_depths(3)
    [(2, None), (1, None)]
    """
    return [(stop, None) for stop in range(n_stages - 1, 0, -1)]


def select_prefetch(
    prefetch: Sequence[Key], sizes: Mapping[Key, float], requested_size: float, room: int | None
) -> list[Key]:
    """Return the outputs to prefetch that fit into half of the room which the requested outputs leave.

    Parameters
    ----------
    prefetch : sequence
        Candidates, most valuable first.
    sizes : mapping
        Size of each candidate for all samples of the pass, in bytes.
    requested_size : float
        Size of all requested outputs, in bytes.
    room : int or None
        Free room of the store in bytes; None if it is not limited.

    Examples
    --------
    >>> from sktransfer.cache.policy import select_prefetch
    >>> select_prefetch(["high", "low"], {"high": 30, "low": 30}, requested_size=20, room=100)
    ['high']
    """
    left = float("inf") if room is None else (room - requested_size) * _SHARE
    selected = []
    for key in prefetch:
        left -= sizes[key]
        if left >= 0:
            selected.append(key)
    return selected


def is_small(pooling: str | None) -> bool:
    """Return whether the input of a pretrained head is worth caching: vectors are, values of a whole stage are not.

    Values of the last stage are up to hundreds of times as large, and only the head of one backbone reads them.
    """
    return pooling is not None


def fits(n_bytes: float, limit: int | None) -> bool:
    """Return whether a store can hold values that are read again and again; otherwise they would evict each other."""
    return limit is None or n_bytes < limit


def stored_dtype(dtype: str, cache_dtype: str) -> str:
    """Return the type in which floats are stored, which is their own unless `cache_dtype` is smaller.

    Parameters
    ----------
    dtype : {"float32", "bfloat16", "float16"}
        Type of the values.
    cache_dtype : {"auto", "float16", "bfloat16"}
        As `set_config` takes it.

    Examples
    --------
    >>> from sktransfer.cache.policy import stored_dtype
    >>> stored_dtype("float32", "float16"), stored_dtype("bfloat16", "float16")
    ('float16', 'bfloat16')
    """
    return cache_dtype if dtype == "float32" and cache_dtype != "auto" else dtype


def cache_namespace(
    *,
    fingerprint: str,
    preprocess: str,
    pooling: str | None,
    prefix_tokens: int,
    precision: str,
    dtype: str,
    backbone: str,
    stage: str,
) -> CacheNamespace:
    """Return the namespace of a layer output, whose digest covers everything that its values depend on.

    Parameters
    ----------
    fingerprint : str
        Hash of the weights and code of the stages that ran.
    preprocess : str
        Key of the preprocessing.
    pooling : str or None
        Pooling; None for the values themselves.
    prefix_tokens : int
        Number of tokens that pooling skips.
    precision : str
        Device, precision and processor of the computation.
    dtype : str
        Type in which values are stored.
    backbone, stage : str
        Names for people.
    """
    parts = (fingerprint, preprocess, f"{pooling} {prefix_tokens}", f"{precision} {dtype}")
    digest = hashlib.blake2b("\n".join(parts).encode(), digest_size=16).digest()
    return CacheNamespace(digest, backbone, stage, pooling or "", dtype)
