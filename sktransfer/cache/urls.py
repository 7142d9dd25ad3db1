"""URLs of shared stores: syntax, file systems of fsspec, and reasons why one cannot be used."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sktransfer.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Location", "is_url", "without_secrets"]

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:(?=//)")
_SECRETS = re.compile(r"(?<=:/)(/?)[^/@\s'\"]*@|\?[^\s'\"]*")  # a Path has one slash
_READ_ONLY = ("http", "https", "data", "github", "git", "zip", "tar", "libarchive", "reference")
# File systems on which a file that is written in place can be seen half written, and can be renamed.
_RENAMES = ("file", "local", "ftp", "hdfs", "webhdfs", "sftp", "ssh", "smb")


def is_url(cache: Any) -> bool:
    """Return whether a `cache` parameter is the URL of a shared store.

    Examples
    --------
    >>> from sktransfer.cache.urls import is_url
    >>> is_url("s3://bucket/run"), is_url("memory"), is_url("C:/run")
    (True, False, False)
    """
    return isinstance(cache, str) and _URL.match(cache) is not None


def without_secrets(text: str) -> str:
    """Return a text in which names, passwords and queries of URLs are replaced.

    Examples
    --------
    >>> from sktransfer.cache.urls import without_secrets
    >>> without_secrets("s3://key:secret@bucket/run?token=1")
    's3://***@bucket/run?***'
    """
    return _SECRETS.sub(lambda match: "?***" if match[1] is None else f"{match[1]}***@", text)


class Location:
    """Folder of a shared store, named by a URL.

    Parameters
    ----------
    url : str
        URL with the protocol of a file system of fsspec. The folder need not exist.

    Attributes
    ----------
    url : str
        The URL in one spelling.
    protocol : str
    root : str
        Path of the folder, as the file system takes it.
    renames : bool
        Whether files are written under another name and then renamed. Object stores show an object when it is complete.

    Raises
    ------
    InvalidParameterError
        If the URL is not valid, holds credentials, names a file system that is unknown, read-only or not installed.

    Examples
    --------
    >>> from sktransfer.cache.urls import Location
    >>> Location("memory://run/").url
    'memory://run'
    """

    def __init__(self, url: str) -> None:
        shown = without_secrets(url)
        protocol, _, rest = url.partition("://")
        self.protocol = protocol.lower()
        url = f"{self.protocol}://{rest}"
        _check_syntax(url, self.protocol, f"cache={shown!r}")
        kind = _file_system(self.protocol, f"cache={shown!r}")
        self.root: str = kind._strip_protocol(url).rstrip("/")
        if not self.root.strip("/") and self.protocol not in ("memory", *_RENAMES):
            raise InvalidParameterError(
                f"cache={shown!r} names no bucket. Give one, as in '{self.protocol}://bucket/run'"
            )
        if self.protocol in ("file", "local"):
            _check_path(rest, f"cache={shown!r}")
        self.url = f"{self.protocol}://{self.root.lstrip('/') if self.protocol == 'memory' else self.root}"
        if self.protocol in ("sftp", "ssh", "ftp", "smb", "hdfs", "webhdfs"):  # the host is not part of the path
            self.url = url.rstrip("/")
        self.renames = self.protocol in _RENAMES
        self._fs: AbstractFileSystem | None = None
        self._inherited: list[AbstractFileSystem] = []
        self._pid = 0

    @property
    def fs(self) -> AbstractFileSystem:
        """File system, a new one after a fork."""
        import fsspec

        if self._fs is None or self._pid != os.getpid():
            if self._fs is not None:
                self._inherited.append(self._fs)  # its connections belong to the parent, and must not be closed here
            self._fs, _ = fsspec.url_to_fs(self.url)
            self._pid = os.getpid()
        return self._fs

    def path(self, *names: str) -> str:
        """Return a path below the folder.

        Parameters
        ----------
        *names : str
            Names of folders and of a file.
        """
        return "/".join([self.root, *names])

    def find(self, name: str) -> dict[str, dict[str, Any]]:
        """Return details of all files below a subfolder, by path. Empty if there is none.

        Parameters
        ----------
        name : str
            Name of the subfolder.
        """
        fs = self.fs
        fs.invalidate_cache()
        found = fs.find(self.path(name), detail=True)
        return {path: info for path, info in found.items() if info.get("type", "file") == "file"}

    def names(self) -> list[str]:
        """Return the names of the files and folders in the folder. Empty if there is none, or it cannot be listed."""
        try:
            found = self.fs.ls(self.root, detail=False)
        except (OSError, NotImplementedError):
            return []
        return sorted(path.rstrip("/").rpartition("/")[2] for path in found)

    def check(self) -> None:
        """Raise if the folder cannot be listed, or cannot be created.

        Raises
        ------
        OSError, or another exception of the file system
        """
        fs = self.fs
        fs.invalidate_cache()
        if self.protocol in ("file", "local"):
            existing = self.root
            while existing and not os.path.lexists(existing):
                existing = os.path.dirname(existing)  # noqa: PTH120, a path of fsspec
            if not os.path.isdir(existing or "/"):  # noqa: PTH112
                raise NotADirectoryError(f"{existing} is a file")
            if not os.access(existing or "/", os.R_OK | os.X_OK | (0 if existing == self.root else os.W_OK)):
                raise PermissionError(f"no permission for {existing or '/'}")
        elif self.protocol not in ("memory", *_RENAMES):
            try:
                fs.ls(self.root)
            except FileNotFoundError:  # an empty folder of an object store does not exist either
                with suppress(PermissionError):  # that of the bucket is not needed
                    fs.info(self.root.partition("/")[0])

    def write(self, folder: str, name: str, content: bytes) -> None:
        """Write a file that appears when it is complete.

        Parameters
        ----------
        folder : str
            Path of its folder, which is created.
        name : str
            Name of the file.
        content : bytes
        """
        fs, path = self.fs, f"{folder}/{name}"
        if not self.renames:
            fs.pipe_file(path, content)
            return
        part = f"{folder}/{os.urandom(8).hex()}.part"
        fs.makedirs(folder, exist_ok=True)
        try:
            fs.pipe_file(part, content)
            fs.mv(part, path)
        except BaseException:
            if fs.exists(part):
                fs.rm_file(part)
            raise


def _check_syntax(url: str, protocol: str, shown: str) -> None:
    authority = url.partition("://")[2].partition("/")[0]
    if ":" in authority.rpartition("@")[0] or "?" in url or (protocol in ("s3", "gs", "az") and "@" in authority):
        raise InvalidParameterError(
            f"{shown} holds credentials or options, which would be shown and stored with the estimator. Give them by "
            "variables of the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by the files of the "
            "storage's own client, or by fsspec's configuration"
        )
    if "::" in url or re.search(r"[\s*\[\]]", url):
        raise InvalidParameterError(f"{shown} must be a URL of one folder, without spaces, '::', '*', '[' and ']'")
    if protocol in _READ_ONLY:
        raise InvalidParameterError(
            f"{shown} cannot be written. For a server with the interface of S3 set AWS_ENDPOINT_URL_S3 to its address, "
            "and give 's3://bucket/run'"
        )


def _check_path(path: str, shown: str) -> None:
    if not path.strip("/"):
        raise InvalidParameterError(f"{shown} names no folder. Give one, as in 'file:///mnt/folder/run'")
    if not path.startswith("/"):  # would be relative to the working directory, another one on each machine
        raise InvalidParameterError(
            f"{shown} has a relative path. Give an absolute one after three slashes, as in 'file:///{path}'"
        )


def _file_system(protocol: str, shown: str) -> type[AbstractFileSystem]:
    import fsspec
    from fsspec.registry import known_implementations

    try:
        kind: type[AbstractFileSystem] = fsspec.get_filesystem_class(protocol)
    except ValueError as error:
        raise InvalidParameterError(
            f"{shown} has the unknown scheme {protocol!r}. Give a folder, or a URL such as 's3://bucket/run', "
            "'gs://bucket/run' or 'file:///mnt/folder/run'"
        ) from error
    except ImportError as error:
        module = known_implementations.get(protocol, {}).get("class", protocol).partition(".")[0]
        missing = {"fsspec": getattr(error, "name", None) or "its client"}.get(module, module)
        raise InvalidParameterError(f"{shown} needs the package {missing}: `pip install {missing}`") from error
    return kind
