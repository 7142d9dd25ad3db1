from __future__ import annotations

import io
import json
import os
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from sktransfer import ImageFeaturizer, load, save
from sktransfer.exceptions import LoadError, SaveError
from sktransfer.persistence import archive
from sktransfer.persistence.archive import ESTIMATOR, FORMAT, WEIGHTS, read_archive, write_archive
from tests.helpers.forged_files import MANIFEST, forge, unzip, zip_members


@pytest.fixture
def saved(tmp_path):
    save(ImageFeaturizer(), tmp_path / "one.skt")
    return tmp_path / "one.skt"


def refused(path):
    with pytest.raises(LoadError) as error:
        load(path)
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


def test_save_writes_versions_and_kinds_to_manifest(saved):
    manifest, members = read_archive(saved)
    assert manifest["format_version"] == FORMAT
    assert {"python", "numpy", "scikit-learn", "skops", "torch"} <= manifest["versions"].keys()
    assert (manifest["weights"], manifest["kinds"]) == ("reference", ["ImageFeaturizer"])
    assert set(members) == {ESTIMATOR, WEIGHTS}


@pytest.mark.parametrize("name", [ESTIMATOR, WEIGHTS])
def test_read_archive_detects_a_changed_byte_in_each_member(saved, name):
    members = unzip(saved.read_bytes())
    members[name] = bytes([*members[name][:-1], members[name][-1] ^ 1])
    saved.write_bytes(zip_members(members))
    assert f"its member {name} was changed" in refused(saved)


def test_read_archive_detects_truncation_at_any_byte(saved):
    content = saved.read_bytes()
    for stop in range(0, len(content), 97):
        saved.write_bytes(content[:stop])
        assert "truncated" in refused(saved)


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"\x80\x04.", b"PK\x05\x06" + bytes(18)])
def test_load_refuses_content_that_is_not_an_archive(tmp_path, content):
    (tmp_path / "one").write_bytes(content)
    refused(tmp_path / "one")


def test_load_refuses_missing_and_irregular_files(tmp_path):
    assert "there is no such file" in refused(tmp_path / "one")
    assert "not a regular file" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "schema.json", "C:\\evil", "weights.safetensors/x"])
def test_read_archive_refuses_unexpected_member_names(saved, name):
    saved.write_bytes(zip_members({**unzip(saved.read_bytes()), name: b"x"}))
    assert "unexpected members" in refused(saved)


@pytest.mark.parametrize("name", [MANIFEST, ESTIMATOR, WEIGHTS])
def test_read_archive_refuses_missing_and_duplicate_members(saved, name):
    members = unzip(saved.read_bytes())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for member, content in members.items():
            file.writestr(member, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr(name, b"x")
    saved.write_bytes(out.getvalue())
    assert "twice" in refused(saved)
    saved.write_bytes(zip_members({member: content for member, content in members.items() if member != name}))
    assert f"lacks {name}" in refused(saved)


def test_read_archive_refuses_large_compressed_members_before_reading(saved):
    members = unzip(saved.read_bytes())
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in {**members, ESTIMATOR: bytes(archive.MAX_COMPRESSED + 1)}.items():
            file.writestr(member, content)
    saved.write_bytes(out.getvalue())
    assert "claims 16777217 bytes" in refused(saved)


def test_read_archive_refuses_other_compression_methods(saved):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_LZMA) as file:
        for member, content in unzip(saved.read_bytes()).items():
            file.writestr(member, content)
    saved.write_bytes(out.getvalue())
    assert "compressed in another way" in refused(saved)


def test_read_archive_refuses_false_member_sizes(saved):
    content = bytearray(saved.read_bytes())
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        size = file.getinfo(WEIGHTS).file_size.to_bytes(4, "little")
    position = content.rfind(size + size)  # in the zip's directory: compressed and uncompressed size
    content[position : position + 8] = (2**31).to_bytes(4, "little") * 2
    saved.write_bytes(content)
    refused(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": FORMAT + 1}, "install a newer sktransfer"),
        ({"format_version": FORMAT - 1}, "fit and save the estimator again"),
        ({"format_version": 0}, "no sktransfer writes"),
        ({"format_version": "1"}, "no sktransfer writes"),
        ({"format": "other"}, "does not name sktransfer.save"),
        ({"members": {}}, "has no hash"),
    ],
)
def test_read_archive_refuses_other_format_version(saved, change, message):
    members = unzip(saved.read_bytes())
    members[MANIFEST] = json.dumps(json.loads(members[MANIFEST]) | change).encode()
    saved.write_bytes(zip_members(members))
    assert message in refused(saved)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"[" * 100_000])
def test_read_archive_refuses_manifest_that_is_not_json_object(saved, text):
    saved.write_bytes(zip_members({**unzip(saved.read_bytes()), MANIFEST: text}))
    assert MANIFEST in refused(saved)


def test_write_archive_keeps_old_file_if_check_fails(tmp_path):
    path = tmp_path / "one"
    path.write_text("old")

    def fail(written):
        assert written.parent == tmp_path
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_archive(path, {}, {ESTIMATOR: b"x", WEIGHTS: b"y"}, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [tmp_path / "one"]


def test_write_archive_refuses_folders_and_missing_folders(tmp_path):
    members = {ESTIMATOR: b"x", WEIGHTS: b"y"}
    with pytest.raises(SaveError, match=r"is a folder; give the path of a file, such as .*model\.skt"):
        write_archive(tmp_path, {}, members, str)
    with pytest.raises(SaveError, match="there is no folder"):
        write_archive(tmp_path / "none" / "one", {}, members, str)


def test_write_archive_reports_full_disk(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    (tmp_path / "one").write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SaveError, match=r"No space left on device\. Nothing was changed"):
        write_archive(tmp_path / "one", {}, {ESTIMATOR: b"x", WEIGHTS: b"y"}, str)
    assert list(tmp_path.iterdir()) == [tmp_path / "one"]


def test_save_keeps_permissions_and_symbolic_links(tmp_path):
    save(ImageFeaturizer(), tmp_path / "real")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "real").stat().st_mode == plain.stat().st_mode  # the permissions of any new file
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    save(ImageFeaturizer(layer=1), tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    assert load(tmp_path / "real").layer == 1


def test_forge_without_changes_keeps_file_loadable(saved):
    forge(saved)
    assert load(saved).layer == "auto"


@pytest.mark.parametrize("name", ["pipeline", "fine_tuned"])
def test_load_refuses_format_1_and_names_the_version_that_wrote_it(name):
    path = Path(__file__).parent / "data" / f"format_1_{name}.skt"
    message = refused(path)
    assert "it has format 1, written by sktransfer 0.1.0, and this sktransfer" in message
    assert (
        f"reads format {FORMAT}: fit and save the estimator again, or load the file with the sktransfer that wrote it"
        in message
    )


@pytest.mark.filterwarnings("ignore:.*scikit-learn")  # the version that wrote the file is another one some day
@pytest.mark.parametrize(("name", "added"), [("pipeline", "precision"), ("fine_tuned", "label_smoothing")])
def test_load_reads_files_of_an_older_version_without_parameters_that_were_added_since(name, added):
    folder = Path(__file__).parent / "data"
    path = folder / f"format_3_{name}.skt"
    manifest = json.loads(unzip(path.read_bytes())[MANIFEST])
    assert (manifest["format_version"], manifest["sktransfer"]) == (3, "0.0.9")
    if manifest["versions"]["torch"] != version("torch"):
        pytest.skip("the file names its backbone by a hash, which other versions of torch change")
    estimator = load(path)
    step = estimator[0] if name == "pipeline" else estimator
    assert getattr(step, added) == getattr(type(step)(), added)
    X = np.random.default_rng(0).random((12, 8, 8))
    expected = json.loads((folder / "format_3.json").read_text())[name]
    np.testing.assert_allclose(estimator.predict_proba(X), expected, atol=1e-3)
