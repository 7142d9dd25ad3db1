"""Archive of a saved estimator: a zip of three members, written atomically and read within size limits."""

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

from sktransfer._version import __version__
from sktransfer.exceptions import LoadError, SaveError

__all__ = ["ESTIMATOR", "FORMAT", "WEIGHTS", "read_archive", "write_archive"]

FORMAT = 3
MANIFEST, ESTIMATOR, WEIGHTS = "manifest.json", "estimator.skops", "weights.safetensors"
# Larger members are not compressed, so the content read from a file is at most the size of the file plus three times
# this.
MAX_COMPRESSED = 16 * 2**20


def write_archive(
    path: Path, manifest: dict[str, Any], members: Mapping[str, bytes], check: Callable[[Path], Any]
) -> None:
    """Write an archive to a temporary file, check it, and move it into place. An old file stays until then.

    Parameters
    ----------
    path : Path
        File to write. A symbolic link is followed.
    manifest : dict
        Description of the file. Format, sizes and hashes of the members are added.
    members : mapping of str to bytes
        Content of the other members by name.
    check : callable
        Called with the path of the temporary file. If it raises, the old file stays.

    Raises
    ------
    SaveError
        If the file cannot be written.
    """
    path = Path(os.path.realpath(path))
    if path.is_dir():
        raise SaveError(f"path={str(path)!r} is a folder; give the path of a file, such as {str(path / 'model.skt')!r}")
    if not path.parent.is_dir():
        raise SaveError(f"path={str(path)!r}: there is no folder {str(path.parent)!r}; create it first")
    hashes = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in members.items()
    }
    text = json.dumps({"format": "sktransfer", "format_version": FORMAT, **manifest, "members": hashes}, indent=1)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    try:
        _write(temporary, {MANIFEST: text.encode(), **members})
        check(temporary)
        if path.exists():
            shutil.copymode(path, temporary)
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        if isinstance(error, LoadError):
            raise
        raise SaveError(f"path={str(path)!r} cannot be written: {error}. Nothing was changed") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _write(path: Path, members: Mapping[str, bytes]) -> None:
    # A file made by tempfile could only be read by its owner. This one has the permissions of any new file.
    with path.open("xb") as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # equal estimators give equal files
                small = len(content) <= MAX_COMPRESSED and name != WEIGHTS
                info.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
                info.external_attr = 0o644 << 16
                archive.writestr(info, content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Flush the new name to disk. Windows cannot open folders and flushes them itself."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read_archive(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return the manifest of an archive, and its other members after a check of their hashes.

    Parameters
    ----------
    path : Path
        File to read.

    Raises
    ------
    LoadError
        If the file is not an archive of `write_archive`, has another format, is truncated, changed, or too large.
    """
    size = _size(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = _check_members(archive, size)
            manifest = _manifest(_content(archive, infos, MANIFEST))
            unexpected = sorted(set(infos) - {MANIFEST, ESTIMATOR, WEIGHTS})
            if unexpected:
                raise LoadError(f"it holds unexpected members: {unexpected[:3]}")
            members = {name: _content(archive, infos, name) for name in (ESTIMATOR, WEIGHTS)}
    except LoadError:
        raise
    except Exception as error:  # changed bytes raise almost any exception in zipfile, zlib and struct
        raise LoadError(
            f"it is not a file of sktransfer.save, or it is truncated or damaged ({type(error).__name__}: {error}). "
            "Fetch or save it again"
        ) from error
    for name, content in members.items():
        _verify(name, content, manifest)
    return manifest, members


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except OSError as error:
        raise LoadError(f"there is no such file ({error.strerror or error})") from error
    if not stat.S_ISREG(status.st_mode):
        raise LoadError("it is not a regular file; give the path that was given to sktransfer.save")
    return status.st_size


def _check_members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    infos = {info.filename: info for info in archive.infolist()}
    if len(infos) < len(archive.infolist()) or len(infos) > 16:
        raise LoadError(f"it lists {len(archive.infolist())} members, which are too many or occur twice")
    for info in infos.values():
        if info.compress_type == zipfile.ZIP_STORED:
            fits = info.file_size == info.compress_size <= size
        else:
            fits = info.compress_type == zipfile.ZIP_DEFLATED and info.file_size <= MAX_COMPRESSED
        if not fits or info.flag_bits & 0x1:
            raise LoadError(
                f"its member {info.filename!r} claims {info.file_size} bytes in {info.compress_size}, or is compressed "
                f"in another way than by sktransfer.save (compressed members have at most {MAX_COMPRESSED} bytes)"
            )
    if sum(info.compress_size for info in infos.values()) > size:
        raise LoadError("its members overlap: together they are larger than the file")
    return infos


def _content(archive: zipfile.ZipFile, infos: Mapping[str, zipfile.ZipInfo], name: str) -> bytes:
    if name not in infos:
        raise LoadError(f"it lacks {name}, so it is not a file of sktransfer.save")
    with archive.open(infos[name]) as file:
        content = file.read(infos[name].file_size + 1)
    if len(content) != infos[name].file_size:
        raise LoadError(f"its member {name} does not have the size that it claims; the file is damaged")
    return content


def _manifest(content: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise LoadError(f"its {MANIFEST} cannot be read ({error}); the file is damaged") from error
    if not isinstance(manifest, dict) or manifest.get("format") != "sktransfer":
        raise LoadError(f"its {MANIFEST} does not name sktransfer.save")
    version = manifest.get("format_version")
    if isinstance(version, bool) or not isinstance(version, int) or version < 1:
        raise LoadError(f"its format_version is {version!r}, which no sktransfer writes")
    if version != FORMAT:
        author = manifest.get("sktransfer")
        older = "fit and save the estimator again, or load the file with the sktransfer that wrote it"
        advice = "install a newer sktransfer" if version > FORMAT else older
        raise LoadError(
            f"it has format {version}, written by sktransfer {author}, and this sktransfer {__version__} reads format "
            f"{FORMAT}: {advice}"
        )
    return manifest


def _verify(name: str, content: bytes, manifest: Mapping[str, Any]) -> None:
    hashes = manifest.get("members")
    expected = hashes.get(name) if isinstance(hashes, dict) else None
    if not isinstance(expected, dict) or not isinstance(expected.get("sha256"), str):
        raise LoadError(f"its {MANIFEST} has no hash of {name}; the file was changed")
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected["sha256"]:
        raise LoadError(
            f"its member {name} was changed since it was saved: its sha256 is {digest}, and was {expected['sha256']}. "
            "Fetch or save it again"
        )
