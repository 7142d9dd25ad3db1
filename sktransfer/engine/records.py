"""The store's side of a pass: what is known of samples already, and what is kept of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from sktransfer.backbones.backbone import Backbone
from sktransfer.cache.types import CacheNamespace, Store
from sktransfer.config import get_config
from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput, kept_dtype

__all__ = ["Record", "Records"]


@dataclass(eq=False)
class Record:
    """One sample on its way.

    Parameters
    ----------
    rows : list of int
        Where it stands: several rows where samples are equal.
    key : bytes
        Of its content; empty where nobody needs it.
    """

    rows: list[int]
    key: bytes = b""
    found: dict[LayerOutput, Tensor] = field(default_factory=dict)
    start: int = 0  # the stage to go on from
    values: Tensor | None = None  # what that stage takes; None for the sample itself


class Records:
    """What a store knows of the samples of one pass.

    Parameters
    ----------
    store : Store
        Where values are looked up, and kept.
    backbone : Backbone
        Whose values they are.
    compute : Compute
        How they are computed.
    taps : sequence of LayerOutput
        What is wanted.
    keep : int
        Outputs of this many first stages may be kept; those above belong to one estimator alone.
    """

    def __init__(
        self, store: Store, backbone: Backbone, compute: Compute, taps: Sequence[LayerOutput], keep: int
    ) -> None:
        self.store, self._backbone, self._compute, self.keep = store, backbone, compute, keep
        self._taps = tuple(dict.fromkeys(taps))
        self._cache_dtype = get_config()["cache_dtype"]  # of the caller's thread: others work on the pass
        self._columns: dict[LayerOutput, CacheNamespace] = {}

    def may_keep(self, tap: LayerOutput) -> bool:
        """Return whether a tap's values are kept."""
        return tap.stop <= self.keep

    def look_up(self, records: Sequence[Record]) -> None:
        """Write into records what is known of them, and the highest stage that what is missing can go on from."""
        for tap in filter(self.may_keep, self._taps):
            for record, value in zip(records, self._get(tap, records)):
                if value is not None:
                    record.found[tap] = value
        # A tap above `start` is computed from there. One below it is not computed any more, so it must be known.
        waiting = {
            id(record): self._ceiling(record)
            for record in records
            if not all(tap in record.found for tap in self._taps)
        }
        lowest = 1 if self._backbone.modality == "text" else 0  # token ids are made faster than they are found
        for stop in range(max(waiting.values(), default=-1), lowest - 1, -1):
            if not self.may_keep(LayerOutput(stop)):
                continue
            asked = [one for one in records if one.values is None and waiting.get(id(one), -1) >= stop]
            for record, value in zip(asked, self._get(LayerOutput(stop), asked)):
                if value is not None:
                    record.start, record.values = stop, value

    def _ceiling(self, record: Record) -> int:
        return min(tap.stop for tap in self._taps if tap not in record.found)

    def keep_values(self, tap: LayerOutput, records: Sequence[Record], values: Sequence[Tensor]) -> None:
        """Store what a tap gave for some samples."""
        self.store.put(self._column(tap), [record.key for record in records], values)

    def rounded(self, tap: LayerOutput, values: Tensor) -> Tensor:
        """Return values as the store will give them back, so that they are the same the first time."""
        if not values.is_floating_point():
            return values
        return values.to(kept_dtype(tap.dtype(self._compute), self._cache_dtype))

    def _get(self, tap: LayerOutput, records: Sequence[Record]) -> list[Tensor | None]:
        if not records:
            return []
        return self.store.get(self._column(tap), [record.key for record in records])

    def _column(self, tap: LayerOutput) -> CacheNamespace:
        if tap not in self._columns:
            self._columns[tap] = tap.namespace(self._backbone, self._compute, self._cache_dtype)
        return self._columns[tap]
