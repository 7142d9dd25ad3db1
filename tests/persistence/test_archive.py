from __future__ import annotations

import io
import json
import os
import zipfile

import pytest

from sktransfer import ImageFeaturizer, load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence import archive
from sktransfer.persistence.archive import ESTIMATOR, FORMAT, WEIGHTS, read_archive, write_archive
from tests.helpers.forged_files import MANIFEST, forge, members_of, packed


@pytest.fixture
def saved(tmp_path):
    save(ImageFeaturizer(), tmp_path / "one.skt")
    return tmp_path / "one.skt"


def refused(path):
    with pytest.raises(LoadError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_the_file_says_what_it_was_made_with(saved):
    manifest, members = read_archive(saved)
    assert manifest["format_version"] == FORMAT
    assert {"python", "numpy", "scikit-learn", "skops", "torch"} <= manifest["versions"].keys()
    assert (manifest["weights"], manifest["parts"]) == ("reference", ["ImageFeaturizer"])
    assert set(members) == {ESTIMATOR, WEIGHTS}


@pytest.mark.parametrize("name", [ESTIMATOR, WEIGHTS])
def test_a_changed_byte_is_found_in_each_member(saved, name):
    members = members_of(saved.read_bytes())
    members[name] = bytes([*members[name][:-1], members[name][-1] ^ 1])
    saved.write_bytes(packed(members))
    assert f"its member {name} was changed" in refused(saved)


def test_every_cut_is_found(saved):
    content = saved.read_bytes()
    for stop in range(0, len(content), 97):
        saved.write_bytes(content[:stop])
        assert "cut short" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"\x80\x04.", b"PK\x05\x06" + bytes(18)])
def test_what_is_no_such_file_is_said_so(tmp_path, content):
    (tmp_path / "one").write_bytes(content)
    refused(tmp_path / "one")


def test_what_is_not_there_or_no_file_is_said_so(tmp_path):
    assert "there is no such file" in refused(tmp_path / "one")
    assert "no regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "no regular file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "schema.json", "C:\\evil", "weights.safetensors/x"])
def test_members_of_other_names_are_refused(saved, name):
    saved.write_bytes(packed({**members_of(saved.read_bytes()), name: b"x"}))
    assert "do not belong there" in refused(saved)


@pytest.mark.parametrize("name", [MANIFEST, ESTIMATOR, WEIGHTS])
def test_missing_and_double_members_are_refused(saved, name):
    members = members_of(saved.read_bytes())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for member, content in members.items():
            file.writestr(member, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr(name, b"x")
    saved.write_bytes(out.getvalue())
    assert "twice" in refused(saved)
    saved.write_bytes(packed({member: content for member, content in members.items() if member != name}))
    assert f"lacks {name}" in refused(saved)


def test_what_would_grow_is_refused_before_it_is_unpacked(saved):
    members = members_of(saved.read_bytes())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in {**members, ESTIMATOR: bytes(archive.MOST_COMPRESSED + 1)}.items():
            file.writestr(member, content)
    saved.write_bytes(out.getvalue())
    assert "claims 16777217 bytes" in refused(saved)


def test_other_ways_of_packing_are_refused(saved):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as file:
        for member, content in members_of(saved.read_bytes()).items():
            file.writestr(member, content)
    saved.write_bytes(out.getvalue())
    assert "packed in another way" in refused(saved)


def test_a_size_that_is_not_true_is_refused(saved):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        size = file.getinfo(WEIGHTS).file_size.to_bytes(4, "little")
    place = content.rfind(size + size)  # in the list at the end: packed and unpacked size
    content[place : place + 8] = (2**31).to_bytes(4, "little") * 2
    saved.write_bytes(content)
    refused(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT + 1}, "pip install --upgrade sktransfer"),
        ({"format_version": 0}, "no sktransfer writes"),
        ({"format_version": "1"}, "no sktransfer writes"),
        ({"format": "other"}, "does not say that it is of sktransfer.save"),
        ({"members": {}}, "has no hash"),
    ],
)
def test_other_formats_are_refused(saved, change, message):
    members = members_of(saved.read_bytes())
    members[MANIFEST] = json.dumps(json.loads(members[MANIFEST]) | change).encode()
    saved.write_bytes(packed(members))
    assert message in refused(saved)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000])
def test_a_manifest_that_is_none_is_refused(saved, text):
    saved.write_bytes(packed({**members_of(saved.read_bytes()), MANIFEST: text}))
    assert MANIFEST in refused(saved)


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "one"
    path.write_text("old")

    def fail(written):
        assert written.parent == tmp_path
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(path, {}, {ESTIMATOR: b"x", WEIGHTS: b"y"}, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "one"]


def test_the_place_must_be_one_to_write_to(tmp_path):
    members = {ESTIMATOR: b"x", WEIGHTS: b"y"}
    with pytest.raises(SaveError, match=r"is a folder; give the path of a file, such as .*model\.skt"):
        write_archive(tmp_path, {}, members, str)
    with pytest.raises(SaveError, match="there is no folder"):
        write_archive(tmp_path / "none" / "one", {}, members, str)


def test_a_full_disk_is_said_so(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    (tmp_path / "one").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match=r"No space left on device\. Nothing was changed"):
        write_archive(tmp_path / "one", {}, {ESTIMATOR: b"x", WEIGHTS: b"y"}, str)
    assert list(tmp_path.iterdir()) == [tmp_path / "one"]


def test_rights_and_links_stay(tmp_path):
    save(ImageFeaturizer(), tmp_path / "real")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "real").stat().st_mode == plain.stat().st_mode  # those of any new file
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    save(ImageFeaturizer(layer=1), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert load(tmp_path / "real").layer == 1


def test_forging_leaves_a_file_that_is_loaded(saved):
    forge(saved)
    assert load(saved).layer == -1
