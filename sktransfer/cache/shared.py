"""Shared store: cache entries below a URL, in write-once segments that any number of machines read and write."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sktransfer.cache.segments import (
    LAYOUT,
    DamagedSegmentError,
    Segment,
    decode,
    encode,
    find_segments,
    header_end,
    read_header,
    written_at,
)
from sktransfer.cache.types import CacheInfo, CacheNamespace, NamespaceInfo
from sktransfer.cache.urls import Location, without_secrets
from sktransfer.exceptions import StoreError, StoreWarning, warn

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SharedStore", "shared_store"]

N_VALUES = 1024  # values of a namespace at which they are written
N_BYTES = 64 * 1024**2  # bytes of a namespace at which its values are written
N_BYTES_ALL = 4 * N_BYTES  # bytes of all namespaces at which all values are written
REFRESH = 15.0  # seconds before a missing value leads to another look for new segments
PAUSE = 60.0  # seconds without reading or writing after it failed
CHECK_SECONDS = 30.0  # that a storage has to answer when it is first used
DAY = 86400.0
_AT_ONCE = 4  # segments that are read together
_WORTH = 8  # a segment that was read before is read again for an eighth of its values

# Held while a store changes or reads its index, and during a fork, so that a child inherits no lock of a lost thread.
_lock = threading.Lock()


def _after_fork() -> None:
    """Leave the entries that were collected before a fork to the parent."""
    for store in _stores.values():
        store._take(list(store._pending))
    _lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_after_fork)


class SharedStore:
    """Cache entries below a URL.

    Entries are collected and written as segments of about a thousand. Segments are never changed, so there are no
    locks. A process that is killed loses the entries that it had not written. Two processes that write the same entry
    at the same time store it twice, which does no harm.

    A process lists the segments once, and reads the headers of those of the stages that it needs. It looks for new
    segments if an entry is missing and the last look is older than `refresh`, and before it writes. Segments are read
    whole and verified against the hash in their name.

    Parameters
    ----------
    location : Location
        Folder of the store. The first write creates it.
    refresh : float, default=15.0
        Seconds before a missing entry leads to another look for new segments.

    Warns
    -----
    StoreWarning
        Once per cause: the storage cannot be read or written, or a segment is damaged. Values are then computed.
    """

    def __init__(self, location: Location, *, refresh: float = REFRESH) -> None:
        self.location, self.refresh = location, refresh
        self._warned: set[str] = set()
        self._pending: dict[CacheNamespace, dict[bytes, Tensor]] = {}
        self._sizes: Counter[CacheNamespace] = Counter()  # bytes of the pending entries
        self._reset()

    def _reset(self) -> None:
        self.hits = self.misses = 0
        self.n_read = self.n_written = 0  # bytes
        self._looked = -float("inf")  # when segments were last listed
        self._listed: dict[bytes, dict[str, Segment]] = {}  # by digest and path, those that are not indexed yet
        self._segments: dict[bytes, dict[str, Segment]] = {}  # by digest and path, those that are indexed
        self._index: dict[bytes, dict[bytes, Segment]] = {}  # by digest and key
        self._n_left = 0  # segments that were damaged or deleted
        self._read: set[str] = set()  # paths of segments that were read
        self._known: set[str] = set()  # paths of all segments
        self._paused_until: dict[str, float] = {}  # "read" and "written"

    def check(self) -> None:
        """Raise if the storage cannot be reached, or its folder cannot be listed.

        Raises
        ------
        StoreError
            The message names the URL and the reason.

        Warns
        -----
        StoreWarning
            If the folder holds data of another layout.
        """
        failures: list[BaseException] = []

        def connect() -> None:
            try:
                self.location.check()
            except Exception as error:  # clients of storages have exceptions of their own
                failures.append(error)

        thread = threading.Thread(target=connect, daemon=True)
        thread.start()
        thread.join(CHECK_SECONDS)
        if thread.is_alive():
            raise StoreError(
                f"cache={self.location.url!r} does not answer within {CHECK_SECONDS:.0f} seconds. {_CHECK}"
            )
        if failures:
            raise StoreError(
                f"cache={self.location.url!r} cannot be used: {_reason(failures[0])}. {_CHECK}"
            ) from failures[0]
        if others := self.other_layouts():
            self._warn(
                f"{self.location.url} holds data of another version of sktransfer ({', '.join(others)}), which is not "
                "read. Delete it if no other version needs it",
                "other layouts",
            )

    def other_layouts(self) -> list[str]:
        """Return the names of subfolders that other versions of sktransfer have written."""
        prefix = LAYOUT.rpartition("-")[0] + "-"
        return [name for name in self.location.names() if name.startswith(prefix) and name != LAYOUT]

    def fetch(self, namespace: CacheNamespace, keys: Sequence[bytes], *, counted: bool = True) -> dict[bytes, Tensor]:
        """Return the entries of all segments that hold some of the keys, without those that cannot be read.

        Parameters
        ----------
        namespace : CacheNamespace
        keys : sequence of bytes
            Keys of the samples.
        counted : bool, default=True
            Whether this is the first look at these keys, which counts as hits and misses.

        Returns
        -------
        entries : dict of bytes to Tensor
            Entries by key, others than the requested ones included.
        """
        entries: dict[bytes, Tensor] = {}
        with _lock:
            if not self._is_paused("read"):
                try:
                    self._fetch(namespace.digest, keys, entries)
                except Exception as error:  # clients of storages have exceptions of their own
                    self._pause("read", error)
            pending = self._pending.get(namespace, {})
            entries |= {key: pending[key] for key in keys if key in pending}
            n_hits = sum(key in entries for key in keys)
            self.hits += n_hits * counted
            self.misses += (len(keys) - n_hits) * counted
        return entries

    def _fetch(self, digest: bytes, keys: Sequence[bytes], entries: dict[bytes, Tensor]) -> None:
        while True:
            n_left = self._n_left
            index = self._indexed(digest, keys)
            wanted = Counter(index[key] for key in keys if key in index and key not in entries)
            for segment, content in self._contents([one for one in wanted if self._is_worth(one, wanted)]):
                entries.update(self._decoded(segment, content))
            if n_left == self._n_left:
                return  # otherwise another segment may hold the entries of one that was damaged or deleted

    def _is_worth(self, segment: Segment, wanted: Counter[Segment]) -> bool:
        return segment.path not in self._read or wanted[segment] * _WORTH >= segment.n_entries

    def _look(self) -> None:
        """List the segments."""
        self._looked = time.monotonic()
        for segment in find_segments(self.location.find(LAYOUT)):
            if segment.path not in self._known:
                self._known.add(segment.path)
                self._listed.setdefault(segment.digest, {})[segment.path] = segment

    def _indexed(self, digest: bytes, keys: Sequence[bytes]) -> dict[bytes, Segment]:
        """Return the segment of each known key of a namespace, after another look if some are missing."""
        index = self._read_headers(digest)
        if time.monotonic() - self._looked >= self.refresh and not all(key in index for key in keys):
            self._look()
            index = self._read_headers(digest)
        return index

    def _read_headers(self, digest: bytes) -> dict[bytes, Segment]:
        new = list(self._listed.pop(digest, {}).values())
        ends = {segment.path: header_end(segment) for segment in new}
        while new:
            longer = []
            parts = self.location.fs.cat_ranges(
                [segment.path for segment in new], 0, [ends[segment.path] for segment in new], on_error="return"
            )
            for segment, part in zip(new, parts, strict=True):
                try:
                    header = read_header(self._received(part), segment)
                except DamagedSegmentError as error:
                    self._leave(segment, f"segment {segment.path} is not used: {error}")
                    continue
                except FileNotFoundError:
                    self._leave(segment)
                    continue
                if isinstance(header, int):
                    ends[segment.path] = header
                    longer.append(segment)
                else:
                    self._add(segment, header[1])
            new = longer
        return self._index.setdefault(digest, {})

    def _add(self, segment: Segment, keys: Iterable[bytes]) -> None:
        self._segments.setdefault(segment.digest, {})[segment.path] = segment
        index = self._index.setdefault(segment.digest, {})
        for key in keys:
            index.setdefault(key, segment)

    def _received(self, part: Any) -> bytes:
        if isinstance(part, BaseException):
            raise part
        self.n_read += len(part)
        return bytes(part)

    def _contents(self, segments: Sequence[Segment]) -> Iterator[tuple[Segment, bytes]]:
        for start in range(0, len(segments), _AT_ONCE):
            some = segments[start : start + _AT_ONCE]
            contents = self.location.fs.cat([segment.path for segment in some], recursive=False, on_error="return")
            for segment in some:
                self._read.add(segment.path)
                try:
                    yield segment, self._received(contents[segment.path])
                except FileNotFoundError:
                    self._leave(segment)

    def _decoded(self, segment: Segment, content: bytes) -> dict[bytes, Tensor]:
        try:
            return decode(content, segment)
        except DamagedSegmentError as error:
            self._leave(segment, f"segment {segment.path} is not used: {error}. Its values are computed again")
            return {}

    def _leave(self, segment: Segment, reason: str | None = None) -> None:
        """Forget a segment that is damaged or was deleted, and index the others of its namespace again."""
        self._n_left += 1
        others = self._segments.pop(segment.digest, {})
        others.pop(segment.path, None)
        self._index.pop(segment.digest, None)
        self._listed.setdefault(segment.digest, {}).update(others)
        self._listed[segment.digest].pop(segment.path, None)
        if reason is not None:
            self._warn(reason, reason)

    def put(self, namespace: CacheNamespace, keys: Sequence[bytes], values: Sequence[Tensor] | Tensor) -> None:
        """Collect entries, and write those of a namespace if there are about a thousand.

        Parameters
        ----------
        namespace : CacheNamespace
        keys : sequence of bytes
            Keys of the samples.
        values : sequence of Tensor, or Tensor of shape (n, ...)
            CPU tensors. The caller must not change them afterwards.
        """
        with _lock:
            index = self._index.get(namespace.digest, {})
            pending = self._pending.setdefault(namespace, {})
            for key, value in zip(keys, values, strict=True):
                if key not in index and key not in pending:
                    is_view = value.untyped_storage().nbytes() > value.nbytes
                    pending[key] = value.clone() if is_view else value  # a view would keep the other values alive
                    self._sizes[namespace] += value.nbytes
            if self._sizes.total() >= N_BYTES_ALL:
                due = self._take(list(self._pending))
            else:
                is_due = len(pending) >= N_VALUES or self._sizes[namespace] >= N_BYTES
                due = self._take([namespace] if is_due else [])
        self._write(due)

    def flush(self) -> None:
        """Write the entries that were collected."""
        with _lock:
            due = self._take(list(self._pending))
        self._write(due)

    def _take(self, namespaces: Sequence[CacheNamespace]) -> dict[CacheNamespace, dict[bytes, Tensor]]:
        for namespace in namespaces:
            self._sizes.pop(namespace, None)
        return {namespace: self._pending.pop(namespace) for namespace in namespaces}

    def _write(self, due: dict[CacheNamespace, dict[bytes, Tensor]]) -> None:
        if not any(due.values()) or self._is_paused("written"):
            return
        try:
            with _lock:
                self._look()
                for namespace, entries in due.items():
                    index = self._read_headers(namespace.digest)
                    for key in [key for key in entries if key in index]:
                        del entries[key]  # another process has written it meanwhile
            for namespace, entries in due.items():
                if entries:
                    self._write_segment(namespace, entries)
        except Exception as error:  # clients of storages have exceptions of their own
            self._pause("written", error)

    def _write_segment(self, namespace: CacheNamespace, entries: dict[bytes, Tensor]) -> None:
        name, content = encode(namespace, entries)
        folder = self.location.path(LAYOUT, namespace.digest.hex())
        self.location.write(folder, name, content)
        path = f"{folder}/{name}"
        info = {path: {"size": len(content), "mtime": time.time()}}
        with _lock:
            self.n_written += len(content)
            self._known.add(path)
            self._read.add(path)
            for segment in find_segments(info):
                self._add(segment, entries)

    def _pause(self, what: str, error: Exception) -> None:
        """Suspend reading, or writing, for a minute."""
        self._paused_until[what] = time.monotonic() + PAUSE
        self._warn(
            f"the shared store {self.location.url} cannot be {what} ({_reason(error)}): going on without it", what
        )

    def _is_paused(self, what: str) -> bool:
        return time.monotonic() < self._paused_until.get(what, 0.0)

    def _warn(self, text: str, cause: str) -> None:
        if cause not in self._warned:
            self._warned.add(cause)
            warn(text, StoreWarning)

    def segments(self) -> list[Segment]:
        """Return the segments that the store holds now.

        Raises
        ------
        StoreError
            If the storage cannot be reached.
        """
        with _failures(self.location.url, "listed"):
            return find_segments(self.location.find(LAYOUT))

    def entries(self, segments: Sequence[Segment]) -> Iterator[tuple[CacheNamespace, dict[bytes, Tensor]]]:
        """Yield namespace and entries of each segment that is not damaged.

        Parameters
        ----------
        segments : sequence of Segment

        Raises
        ------
        StoreError
            If the storage cannot be reached.
        """
        with _failures(self.location.url, "read"):
            for segment, content in self._contents(segments):
                if values := self._decoded(segment, content):
                    header = read_header(content, segment)
                    assert not isinstance(header, int)  # the whole file was read
                    yield header[0], values

    def namespaces(self) -> list[NamespaceInfo]:
        """Return the namespaces, the most recently written first. An entry that was written twice counts twice.

        Raises
        ------
        StoreError
            If the storage cannot be reached.
        """
        by_digest: dict[bytes, list[Segment]] = {}
        for segment in self.segments():
            by_digest.setdefault(segment.digest, []).append(segment)
        infos = []
        for segments in by_digest.values():
            if namespace := self._namespace_of(segments):
                n_entries, n_bytes = sum(one.n_entries for one in segments), sum(one.n_bytes for one in segments)
                infos.append(NamespaceInfo(namespace, n_entries, n_bytes, max(one.written for one in segments)))
        return sorted(infos, key=lambda info: -info.used)

    def _namespace_of(self, segments: Sequence[Segment]) -> CacheNamespace | None:
        """Return the namespace that the first readable header of some segments names."""
        for segment in segments:
            with _failures(self.location.url, "read"):
                start, end = b"", header_end(segment)
                try:
                    while len(start) < end:
                        start = self.location.fs.cat_file(segment.path, start=0, end=end)
                        header = read_header(start, segment)
                        if not isinstance(header, int):
                            return header[0]
                        end = header
                except (DamagedSegmentError, FileNotFoundError):
                    continue
        return None

    def prune(self, days: float) -> list[Segment]:
        """Delete segments that were written before some days, and parts that killed processes left for a day.

        Parameters
        ----------
        days : float
            Age in days.

        Returns
        -------
        deleted : list of Segment

        Raises
        ------
        StoreError
            If the storage cannot be reached, or files cannot be deleted.
        """
        now = time.time()
        with _failures(self.location.url, "pruned"):
            files = self.location.find(LAYOUT)
            deleted = [segment for segment in find_segments(files) if segment.written <= now - days * DAY]
            parts = [path for path, info in files.items() if path.endswith(".part") and written_at(info) < now - DAY]
            self._delete([*(segment.path for segment in deleted), *parts])
        return deleted

    def clear(self) -> None:
        """Delete all segments, those of other machines included.

        Raises
        ------
        StoreError
            If the storage cannot be reached, or files cannot be deleted.
        """
        with _lock:
            self._take(list(self._pending))
        with _failures(self.location.url, "cleared"):
            self._delete(list(self.location.find(LAYOUT)))
        with _lock:
            self._reset()

    def _delete(self, paths: Sequence[str]) -> None:
        fs = self.location.fs
        for path in paths:
            try:
                fs.rm_file(path)
            except FileNotFoundError:  # another process has deleted it
                continue

    def info(self) -> CacheInfo:
        """Return the hits and misses of this process and the entries of all processes.

        Raises
        ------
        StoreError
            If the storage cannot be reached.
        """
        segments = self.segments()
        n_entries, n_bytes = sum(one.n_entries for one in segments), sum(one.n_bytes for one in segments)
        return CacheInfo(self.location.url, self.hits, self.misses, n_entries, n_bytes, None)


_CHECK = "Check the address, the network, the credentials and that the bucket exists"


class _failures:
    """Context in which errors of a storage become a `StoreError`."""

    def __init__(self, url: str, what: str) -> None:
        self.url, self.what = url, what

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        if isinstance(error, Exception):
            raise StoreError(f"the shared store {self.url} cannot be {self.what}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return without_secrets(f"{type(error).__name__}: {text}" if text else type(error).__name__)


_stores: dict[str, SharedStore] = {}


def shared_store(url: str) -> SharedStore:
    """Return the store of a URL, one per process, after its storage was reached once.

    Parameters
    ----------
    url : str

    Raises
    ------
    InvalidParameterError
        If the URL is not valid.
    StoreError
        If the storage cannot be reached.
    """
    location = Location(url)
    store = _stores.get(location.url)
    if store is None:
        store = SharedStore(location)
        store.check()
        _stores[location.url] = store
    return store
