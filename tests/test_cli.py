from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from importlib.metadata import EntryPoint

import pytest
from sklearn.ensemble import RandomForestClassifier

import sktransfer
import sktransfer.backbones.registry as home
from sktransfer.backbones.plugins import Plugin
from sktransfer.backbones.registry import COLUMNS
from sktransfer.cli import main
from sktransfer.exceptions import SktransferWarning
from tests.helpers.plugin_zoo import BROKEN, ROOT, WORKING, distribution, install, offers, python, spec


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder with working, slow, printing and broken plugins."""
    chosen = [distribution(name, WORKING[name]) for name in ("good", "slow", "loud", "open")]
    wrong = {"stem": 4, "top": 5}  # the width of the network is 6
    chosen += [
        distribution("wrong", offers(spec("wrong/width", stages=wrong))),
        distribution("leaves", BROKEN["leaves"][0]),
    ]
    return install(tmp_path_factory.mktemp("site"), chosen)


def cli(*arguments, site, **options):
    return python("-m", "sktransfer", *arguments, path=[site], check=False, **options)


def rows_of(table):
    """Return the cells of an aligned table, split where its column names begin."""
    lines = table.splitlines()
    starts = [at for at, letter in enumerate(lines[0]) if letter != " " and (at == 0 or lines[0][at - 2 : at] == "  ")]
    ends = [*starts[1:], None]
    return [[line[start:end].strip() for start, end in zip(starts, ends)] for line in lines]


def test_main_is_the_entry_point_of_the_command():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert EntryPoint("sktransfer", scripts["sktransfer"], "console_scripts").load() is main


@pytest.mark.process
def test_backbones_prints_an_aligned_table(site):
    done = cli("backbones", "good/*", site=site)
    assert done.returncode == 0
    header, *rows = rows_of(done.stdout)
    assert tuple(header) == COLUMNS
    assert rows == [
        ["good/small", "image", "2", "6", "16x16", "-", "-", "-", "-", "-", "none", "unknown"],
        ["good/wide", "image", "2", "7", "16x16", "-", "-", "-", "-", "-", "none", "unknown"],
    ]
    assert "plugins that failed: 1" in done.stderr
    (note,) = [line for line in done.stderr.splitlines() if "and not listed" in line]
    assert {"hf/...", "open/..."} <= set(re.findall(r"[\w-]+/\.\.\.", note))  # other plugins may be installed


@pytest.mark.process
def test_backbones_json(site):
    done = cli("backbones", "--modality", "image", "--json", site=site)
    rows = json.loads(done.stdout)
    assert {tuple(row) for row in rows} == {COLUMNS}
    assert {row["modality"] for row in rows} == {"image"}
    small = next(row for row in rows if row["name"] == "good/small")
    assert (small["n_stages"], small["width"], small["input_size"]) == (2, 6, [16, 16])
    installed = set(sktransfer.list_backbones("image")["name"])  # this process does not have the plugins above
    assert {row["name"] for row in rows} - installed == {"good/small", "good/wide", "slow/a", "loud/a", "wrong/width"}


@pytest.mark.process
def test_backbones_pattern_without_a_match_prints_a_hint(site):
    done = cli("backbones", "smal", site=site)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert "no backbone matches 'smal'" in done.stderr
    assert "'*smal*'" in done.stderr
    assert json.loads(cli("backbones", "smal", "--json", site=site).stdout) == []


@pytest.mark.process
def test_plugins_prints_errors_and_slow_imports(site):
    done = cli("plugins", site=site)
    assert done.returncode == 0
    header, *rows = rows_of(done.stdout)
    assert header == ["name", "status", "backbones", "seconds", "from", "module", "note"]
    table = {row[0]: dict(zip(header, row)) for row in rows}
    assert table["leaves"]["status"] == "failed"
    assert table["leaves"]["note"] == "SystemExit: no licence"
    assert table["good"]["from"] == "zoo-good 1.2"
    assert (table["good"]["backbones"], table["good"]["note"]) == ("2", "")
    assert table["slow"]["note"].startswith("slow: more than 0.2 s")
    assert float(table["slow"]["seconds"]) > 0.25
    assert table["open"]["backbones"] == "0 and more by name"
    assert "hello from a plugin" in done.stderr  # output of plugins is not part of the table


@pytest.mark.process
def test_plugins_json(site):
    plugins = json.loads(cli("plugins", "--json", site=site, SKTRANSFER_PLUGINS="good,leaves").stdout)
    assert {tuple(plugin) for plugin in plugins} == {tuple(field.name for field in fields(Plugin))}
    expected = {
        **dict.fromkeys(["tiny", "torchvision", "hf", "good"], "loaded"),
        **dict.fromkeys(["slow", "loud", "open", "wrong"], "not allowed"),
        "leaves": "failed",
    }
    status = {plugin["name"]: plugin["status"] for plugin in plugins}
    assert {name: status[name] for name in expected} == expected
    others = set(status) - set(expected)  # other installed plugins
    assert {status[name] for name in others} <= {"not allowed"}


@pytest.mark.process
@pytest.mark.parametrize("arguments", [["plugins"], ["plugins", "--json"], ["backbones"], ["backbones", "--json"]])
def test_backbones_and_plugins_do_not_import_torch(arguments, site):
    code = f"import sys; from sktransfer.cli import main; main({arguments!r}); "
    code += "print(sorted({'torch', 'numpy', 'pandas', 'sklearn', 'transformers'} & set(sys.modules)))"
    assert python("-c", code, path=[site]).stdout.splitlines()[-1] == "[]"


@pytest.mark.process
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "tiny/cnm"], "there is no backbone 'tiny/cnm'. Did you mean 'tiny/cnn'"),
        (["check", "good/smal"], "Did you mean 'good/small'"),
        (["check", "leaves/a"], "leaves = zoo_leaves of zoo-leaves 1.2: SystemExit: no licence"),
        (["check", "open/text"], "must return BackboneSpec objects, not str"),
    ],
)
def test_check_of_an_unknown_name_prints_one_line_to_stderr(arguments, says, site):
    done = cli(*arguments, site=site)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = [line for line in done.stderr.splitlines() if line != "hello from a plugin"]
    assert line.startswith("sktransfer: error: ")
    assert says in line


@pytest.mark.process
def test_plugins_in_strict_mode_fails_with_the_error_of_a_plugin(site):
    done = cli("plugins", site=site, SKTRANSFER_STRICT="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "leaves = zoo_leaves of zoo-leaves 1.2 could not be loaded: SystemExit: no licence" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["nonsense"], ["backbones", "--modality", "sound"], ["check"]])
def test_main_exits_with_2_for_invalid_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: sktransfer" in capsys.readouterr().err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert (caught.value.code, capsys.readouterr().out) == (0, f"sktransfer {sktransfer.__version__}\n")


@pytest.mark.process
def test_main_is_silent_for_a_broken_pipe():
    command = [sys.executable, "-m", "sktransfer", "backbones", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "SKTRANSFER_PLUGINS": ""}
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, env=environ, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.process
def test_main_escapes_characters_that_stderr_cannot_encode(site):
    done = cli("check", "tiny/caf\u00e9", site=site, PYTHONIOENCODING="ascii")
    assert done.returncode == 2
    assert r"tiny/caf\xe9" in done.stderr


@pytest.fixture
def here(site, monkeypatch):
    """Install two of the plugins in the process of the tests."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("SKTRANSFER_PLUGINS", "good,wrong")
    monkeypatch.setattr(home, "_registry", None)
    yield
    for name in [name for name in sys.modules if name.startswith("zoo_")]:
        del sys.modules[name]


@pytest.mark.process
def test_check_of_a_valid_backbone_exits_with_0(here, capsys):
    status = main(["check", "good/small"])
    *lines, summary = capsys.readouterr().out.splitlines()
    assert status == 0, lines
    assert summary.startswith("good/small: ")
    assert ", 0 failed, " in summary
    statuses = {line.split()[0]: " ".join(line.split()[1:]) for line in lines}
    assert statuses["check_widths"] == "passed"
    assert statuses["check_tampered_weights"].startswith("not run")


@pytest.mark.process
def test_check_of_an_invalid_backbone_exits_with_1_and_reasons(here, capsys):
    assert main(["check", "wrong/width", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["name", "passed", "failed", "not run", "results"]
    assert {tuple(result) for result in report["results"]} == {("name", "status", "reason")}
    failed = {result["name"]: result["reason"] for result in report["results"] if result["status"] == "failed"}
    assert "5" in failed["check_widths"]
    assert "6" in failed["check_widths"]
    assert report["failed"] == len(failed)
    assert report["passed"] + report["failed"] + report["not run"] == len(report["results"])


def test_card_trusts_types_that_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(SktransferWarning, match="trusted="):
        sktransfer.save(RandomForestClassifier(1, random_state=0).fit([[0], [1]], [0, 1]), "trees.skt")
    assert main(["card", "trees.skt"]) == 2
    assert "Here this is --trusted TYPE" in capsys.readouterr().err
    assert main(["card", "trees.skt", "--trusted", "sklearn.tree._tree.Tree"]) == 0
    assert "load('trees.skt', trusted=['sklearn.tree._tree.Tree'])" in capsys.readouterr().out


def test_card_prints_or_writes_a_model_card(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sktransfer.save(sktransfer.PretrainedClassifier("tiny/cnn"), "photos.skt")
    capsys.readouterr()
    assert main(["card", "photos.skt"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("# PretrainedClassifier")
    assert "load('photos.skt')" in text
    assert main(["card", "photos.skt", "README.md"]) == 0
    written = (tmp_path / "README.md").read_text()
    assert written.strip() == text.strip()
    assert capsys.readouterr().out == f"README.md: {len(written.encode()):,} bytes\n"
    assert main(["card", "photos.skt", "README.md"]) == 2
    assert "README.md exists, and is not replaced" in capsys.readouterr().err
    assert main(["card", "photos.skt", "missing/README.md"]) == 2
    assert "cannot be written" in capsys.readouterr().err
    assert main(["card", "--json", "photos.skt"]) == 0
    assert json.loads(capsys.readouterr().out)["card"].strip() == text.strip()
    sktransfer.save(sktransfer.FineTuneClassifier("tiny/cnn"), "unfitted.skt")
    assert main(["card", "unfitted.skt"]) == 2
    assert "is not fitted yet" in capsys.readouterr().err
