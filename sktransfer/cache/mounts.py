"""Detection of network file systems, on which LMDB must not lie."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

__all__ = ["network_mount"]

_NETWORK = re.compile(
    r"9p|afs|beegfs|ceph|cifs|coda|davfs|gfs2|glusterfs|gpfs|lustre|ncpfs|nfs|nfs4|ocfs2|orangefs"
    r"|panfs|pvfs2|smb3|smbfs|vboxsf|wekafs"
)
# File systems that processes provide: those of these names reach other machines.
_FUSE = re.compile(
    r"sshfs|s3fs|gcsfuse|rclone|gluster|ceph|juicefs|seaweedfs|mountpoint-s3|davfs|smb|goofys"
    r"|blobfuse|moosefs|mfs|lizardfs|cvmfs|beegfs|hdfs|alluxio|curlftpfs"
)


def network_mount(path: str | os.PathLike[str], mountinfo: str | None = None) -> tuple[str, str] | None:
    """Return type and mount point of the network file system that a path lies on, None if it lies on another one.

    Parameters
    ----------
    path : str or path
        Absolute path without symbolic links. It need not exist.
    mountinfo : str, default=None
        Mounts, in the format of `/proc/self/mountinfo`. None reads that file. A system without it has no answer, and
        the result is None.

    Examples
    --------
    >>> from sktransfer.cache.mounts import network_mount
    >>> mounts = "35 27 0:51 / /mnt/nfs rw,relatime - nfs4 server:/export rw"
    >>> network_mount("/mnt/nfs/run", mounts), network_mount("/home/run", mounts)
    (('nfs4', '/mnt/nfs'), None)
    """
    if mountinfo is None:
        with suppress(OSError):
            mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
    found: tuple[str, str] | None = None
    source: list[str] = []
    for line in (mountinfo or "").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), fields[4])  # spaces are escaped
        inside = os.path.commonpath([point, path]) == point
        if inside and (found is None or len(point) >= len(found[1])):  # a later mount hides an earlier one
            found, source = (after.split(" ")[0], point), after.split(" ")[1:2]
    return found if found is not None and _is_network(found[0], *source) else None


def _is_network(kind: str, source: str = "") -> bool:
    if _NETWORK.fullmatch(kind):
        return True
    name = source if kind == "fuse" else kind.removeprefix("fuse.")
    return kind.startswith("fuse") and _FUSE.match(name) is not None
