from __future__ import annotations

from pathlib import Path

import pytest

from sktransfer.cache.disk import refuse_network
from sktransfer.cache.mounts import network_mount
from sktransfer.exceptions import InvalidParameterError

LOCAL = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,errors=remount-ro"


def mounts(kind, point="/mnt/far", source="server:/export", options="rw,relatime shared:5 master:2"):
    return f"{LOCAL}\n41 22 0:51 / {point} {options} - {kind} {source} rw,vers=4.2"


@pytest.mark.parametrize(
    "kind",
    [
        *("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "lustre", "gpfs", "glusterfs", "beegfs", "afs"),
        *("fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.gcsfuse", "fuse.ceph-fuse", "fuse.rclone"),
    ],
)
def test_network_mount_names_type_and_point(kind):
    assert network_mount("/mnt/far/a/b", mounts(kind)) == (kind, "/mnt/far")
    assert network_mount("/mnt/far", mounts(kind)) == (kind, "/mnt/far")
    assert network_mount("/mnt/farther", mounts(kind)) is None


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "fuse.ntfs-3g", "fuse"])
def test_network_mount_of_file_systems_of_this_machine(kind):
    assert network_mount("/mnt/far/a", mounts(kind, source="disk")) is None


def test_network_mount_reads_the_source_of_a_nameless_fuse_mount():
    assert network_mount("/mnt/far", mounts("fuse", source="mountpoint-s3")) == ("fuse", "/mnt/far")


def test_network_mount_takes_the_innermost_mount_and_of_these_the_last():
    text = f"{mounts('nfs4', '/mnt')}\n50 41 8:2 / /mnt/disk rw - xfs /dev/sdb1 rw"
    assert network_mount("/mnt/disk/run", text) is None
    assert network_mount("/mnt/run", text) == ("nfs4", "/mnt")
    assert network_mount("/mnt/run", f"{text}\n51 41 8:3 / /mnt rw - ext4 /dev/sdc1 rw") is None


def test_network_mount_reads_escaped_spaces():
    assert network_mount("/mnt/far away/run", mounts("nfs", r"/mnt/far\040away")) == ("nfs", "/mnt/far away")


@pytest.mark.parametrize("text", ["", "nonsense", "1 2 3 4\n - nfs", f"{LOCAL}\n\n"])
def test_network_mount_of_unreadable_text(text):
    assert network_mount("/mnt/far", text) is None


def test_network_mount_reads_the_mounts_of_this_machine(tmp_path):
    kind = network_mount(tmp_path)
    assert kind is None or kind[1] in Path("/proc/self/mountinfo").read_text()


def test_refuse_network_tells_the_way_out():
    with pytest.raises(InvalidParameterError, match=r"network file system \(nfs4, mounted at /mnt/far\)") as raised:
        refuse_network(Path("/mnt/far/run"), mounts("nfs4"))
    assert "cache='file:///mnt/far/run'" in str(raised.value)
    refuse_network(Path("/home/run"), mounts("nfs4"))
