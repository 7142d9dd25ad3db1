"""The file itself: three members of a zip, written whole or not at all, read within stated sizes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sktransfer.exceptions import LoadError, SaveError

__all__ = ["ESTIMATOR", "FORMAT", "WEIGHTS", "read_archive", "write_archive"]

FORMAT = 1
MANIFEST, ESTIMATOR, WEIGHTS = "manifest.json", "estimator.skops", "weights.safetensors"
# Only what is smaller is ever compressed. All else lies in the file as it is, so that what is read of a file cannot be
# larger than the file and three times this.
MOST_COMPRESSED = 16 * 2**20


def write_archive(
    path: Path, manifest: dict[str, Any], members: Mapping[str, bytes], check: Callable[[Path], Any]
) -> None:
    """Write a file beside its place, look whether it can be read, and put it there: an old file stays until then.

    Parameters
    ----------
    path : Path
        Where it shall be; a link is followed.
    manifest : dict
        What the file says of itself; hashes of the members are added.
    members : mapping of str to bytes
        The rest.
    check : callable
        Gets the path of the new file before it takes the old one's place, and raises where it is not to be used.

    Raises
    ------
    SaveError
        If the place cannot be written to.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise SaveError(f"path={str(path)!r} is a folder; give the path of a file, such as {str(path / 'model.skt')!r}")
    if not path.parent.is_dir():
        raise SaveError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; make it first")
    hashes = {name: {"size": len(one), "sha256": hashlib.sha256(one).hexdigest()} for name, one in members.items()}
    text = json.dumps({"format": "sktransfer", "format_version": FORMAT, **manifest, "members": hashes}, indent=1)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write(beside, {MANIFEST: text.encode(), **members})
        check(beside)
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, LoadError):
            raise
        raise SaveError(f"path={str(path)!r} cannot be written: {error}. Nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    # Not a temporary file of the library, which nobody else may read: this one has the rights of any new file.
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # equal estimators give equal files
                small = len(content) <= MOST_COMPRESSED and name != WEIGHTS
                info.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make the new name last; where folders cannot be opened, as on Windows, the system sees to it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return what a file says of itself, and its other members, each as its hash says.

    Parameters
    ----------
    path : Path
        Where it is.

    Raises
    ------
    LoadError
        If it is no such file, of a newer format, cut short, changed, or larger than it may be.
    """
    size = _size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = _listed(archive, size)
            manifest = _manifest(_content(archive, infos, MANIFEST))
            strange = sorted(set(infos) - {MANIFEST, ESTIMATOR, WEIGHTS})
            if strange:
                raise LoadError(f"it holds members that do not belong there: {strange[:3]}")
            members = {name: _content(archive, infos, name) for name in (ESTIMATOR, WEIGHTS)}
    except LoadError:
        raise
    except Exception as error:  # of zipfile, zlib and struct: anything, where bytes were changed
        raise LoadError(
            f"it is no file of sktransfer.save, or it was cut short or damaged ({type(error).__name__}: {error}). "
            "Fetch or save it anew"
        ) from error
    for name, content in members.items():
        _verify(name, content, manifest)
    return manifest, members


def _size(path: Path) -> int:
    try:
        found = path.stat()
    except OSError as error:
        raise LoadError(f"there is no such file ({error.strerror or error})") from error
    if not stat.S_ISREG(found.st_mode):
        raise LoadError("it is no regular file; give the path that was given to sktransfer.save")
    return found.st_size


def _listed(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) < len(archive.infolist()) or len(infos) > 16:
        raise LoadError(f"it lists {len(archive.infolist())} members, some of them twice or too many")
    for info in infos.values():
        if info.compress_type == zipfile.ZIP_STORED:
            fits = info.file_size == info.compress_size <= size
        else:
            fits = info.compress_type == zipfile.ZIP_DEFLATED and info.file_size <= MOST_COMPRESSED
        if not fits or info.flag_bits & 0x1:
            raise LoadError(
                f"its member {info.filename!r} claims {info.file_size} bytes in {info.compress_size}, or is packed in "
                f"another way than sktransfer.save does (what is compressed has {MOST_COMPRESSED} bytes at most)"
            )
    if sum(info.compress_size for info in infos.values()) > size:
        raise LoadError("its members overlap: together they are larger than the file")
    return infos


def _content(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in infos:
        raise LoadError(f"it lacks {name}, so it is no file of sktransfer.save")
    with archive.open(infos[name]) as file:
        content = file.read(infos[name].file_size + 1)
    if len(content) != infos[name].file_size:
        raise LoadError(f"its member {name} has another size than it claims; the file is damaged")
    return content


def _manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"its {MANIFEST} cannot be read ({error}); the file is damaged") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "sktransfer":
        raise LoadError(f"its {MANIFEST} does not say that it is of sktransfer.save")
    version = manifest.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise LoadError(f"its format_version is {version!r}, which no sktransfer writes")
    if version > FORMAT:
        raise LoadError(
            f"it has format {version}, written by sktransfer {manifest.get('sktransfer')}, and this sktransfer reads "
            f"formats up to {FORMAT}: pip install --upgrade sktransfer"
        )
    return manifest


def _verify(name: str, content: bytes, manifest: Mapping[str, Any]) -> None:
    hashes = manifest.get("members")
    expected = hashes.get(name) if isinstance(hashes, dict) else None
    if not isinstance(expected, dict) or not isinstance(expected.get("sha256"), str):
        raise LoadError(f"its {MANIFEST} has no hash of {name}; the file was changed")
    found = hashlib.sha256(content).hexdigest()
    if found != expected["sha256"]:
        raise LoadError(
            f"its member {name} was changed since it was saved: its sha256 is {found}, and was {expected['sha256']}. "
            "Fetch or save it anew"
        )
