"""The promises of SECURITY.md, checked against the code: no file that is read can choose which code runs."""

from __future__ import annotations

import ast
import functools
import json
from contextlib import suppress
from pathlib import Path

import pytest

import sktransfer
from sktransfer import load_backbone
from sktransfer.exceptions import WeightsError
from tests.helpers.huggingface_folders import make_folder

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "sktransfer").rglob("*.py"), *ROOT.glob("plugins/*/sktransfer_*/**/*.py")])

BUILT_IN = ("eval", "exec", "compile", "__import__", "breakpoint")
DANGEROUS = (
    *("os.system", "os.popen", "os.execv", "os.spawnv", "pty.spawn", "code.interact", "runpy.run_path"),
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "joblib.load", "dill.load", "dill.loads", "cloudpickle.load"),
    *("cloudpickle.loads", "marshal.load", "marshal.loads", "shelve.open", "pandas.read_pickle", "pd.read_pickle"),
    *("yaml.load", "yaml.unsafe_load", "yaml.full_load", "torch.hub.load", "torch.jit.load", "torch.export.load"),
    *("KeyedVectors.load", "Word2Vec.load", "FastText.load", "skops.io.get_untrusted_types", "tempfile.mktemp"),
    *("ssl._create_unverified_context", "importlib.util.spec_from_file_location", "zipfile.ZipFile.extractall"),
)
# (file, fault) -> the reason why it is safe.
EXCUSED = {
    (
        "sktransfer/persistence/skops_bridge.py",
        "pickle.loads",
    ): "unpickles an object that it pickled on the lines before",
    (
        "sktransfer/persistence/skops_bridge.py",
        "skops.io.get_untrusted_types",
    ): "names the types of the object that is being saved",
    (
        "sktransfer/testing/checks_language.py",
        "pickle.loads",
    ): "a check unpickles a backbone that it pickled on the same line",
    (
        "sktransfer/testing/checks_loading.py",
        "pickle.loads",
    ): "a check unpickles an object that it pickled on the same line",
    (
        "sktransfer/testing/checks_training.py",
        "pickle.loads",
    ): "a check unpickles an object that it pickled on the same line",
    (
        "sktransfer/testing/estimator_checks.py",
        "pickle.loads",
    ): "a check unpickles an object that it pickled on the same line",
    (
        "sktransfer/testing/runtime_checks.py",
        "pickle.loads",
    ): "a check unpickles an object that it pickled on the same line",
    (
        "sktransfer/testing/backbone_process.py",
        "pickle.loads",
    ): "exchanges data with its own child process in a private folder",
    ("sktransfer/__init__.py", "importlib.import_module(?)"): "module names come from a table in the file",
    ("sktransfer/backbones/__init__.py", "importlib.import_module(?)"): "module names come from a table in the file",
    ("sktransfer/testing/__init__.py", "importlib.import_module(?)"): "module names come from a table in the file",
    (
        "sktransfer/persistence/context.py",
        "importlib.import_module(?)",
    ): "module names come from a table in the file",
    (
        "sktransfer/testing/processes.py",
        "importlib.import_module(?)",
    ): "imports libraries and functions that checks name, in its own child process",
    (
        "sktransfer/backbones/loading.py",
        "importlib.import_module(?)",
    ): "imports the loader that the spec of an installed plugin names",
}


def full_names(tree: ast.Module) -> dict[str, str]:
    """Map the imported names of a module to their full names."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.partition(".")[0]: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def called(node: ast.expr, names: dict[str, str]) -> str:
    """Return the full name of a called function, with `?` for parts that are computed."""
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{called(node.value, names)}.{node.attr}"
    return "?"


def is_constant(node: ast.expr | None, *values: object) -> bool:
    return isinstance(node, ast.Constant) and any(node.value is value for value in values)


def faults_of_call(node: ast.Call, names: dict[str, str]) -> list[str]:
    name, keywords = called(node.func, names), {keyword.arg: keyword.value for keyword in node.keywords}
    result = [name] if name in BUILT_IN or name in DANGEROUS or name.endswith((".extractall", ".load_model")) else []
    if name == "torch.load" and not is_constant(keywords.get("weights_only"), True):
        result.append("torch.load without weights_only=True")
    if name.startswith("importlib.import_module") and not isinstance(node.args[0], ast.Constant):
        result.append("importlib.import_module(?)")
    allowed = {
        "trust_remote_code": (False,),
        "shell": (False,),
        "allow_pickle": (False,),
        "weights_only": (True,),
        "verify": (True,),
    }
    result += [
        f"{key}=?" for key, values in allowed.items() if key in keywords and not is_constant(keywords[key], *values)
    ]
    if name.endswith("Tokenizer.from_pretrained") and "trust_remote_code" not in keywords:
        result.append("from_pretrained without trust_remote_code=False")  # transformers would ask at the terminal
    return result


def faults(code: str) -> list[str]:
    """Return the calls of a module that could run code chosen by a file."""
    tree = ast.parse(code)
    names = full_names(tree)
    return [fault for node in ast.walk(tree) if isinstance(node, ast.Call) for fault in faults_of_call(node, names)]


@functools.cache
def all_faults() -> set[tuple[str, str]]:
    """Return the faults of all sources as pairs of file and fault."""
    return {(path.relative_to(ROOT).as_posix(), fault) for path in SOURCES for fault in faults(path.read_text())}


def test_sources_never_run_code_chosen_by_a_file():
    offenders = all_faults() - EXCUSED.keys()
    assert not offenders, sorted(offenders)


def test_excused_faults_still_exist():
    stale = EXCUSED.keys() - all_faults()
    assert not stale, sorted(stale)


@pytest.mark.parametrize(
    "code",
    [
        "eval(text)",
        "exec(text)",
        "import pickle\npickle.load(file)",
        "from pickle import loads as read\nread(b)",
        "import pickle as p\np.Unpickler(file).load()",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=given)",
        "from torch import load\nload(path)",
        "import joblib\njoblib.load(path)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoTokenizer.from_pretrained(name)",
        "import yaml\nyaml.load(text)",
        "import numpy as np\nnp.load(path, allow_pickle=True)",
        "import subprocess\nsubprocess.run(command, shell=True)",
        "import importlib\nimportlib.import_module(settings['module'])",
        "from importlib import import_module\nimport_module(name)",
        "import os\nos.system('ls')",
        "archive.extractall(folder)",
        "client.get(url, verify=False)",
    ],
)
def test_faults_finds_dangerous_calls(code):
    assert faults(code)


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "import torch\ntorch.load(path, weights_only=True)",
        "import pickle\npickle.dumps(a)",
        "import importlib\nimportlib.import_module('fasttext_pybind')",
        "AutoTokenizer.from_pretrained(name, trust_remote_code=False)",
        "re.compile(pattern)",
    ],
)
def test_faults_accepts_harmless_calls(code):
    assert faults(code) == []


def test_names_in_security_md_exist():
    text = (ROOT / "SECURITY.md").read_text()
    for name in ("save", "load"):
        assert f"`sktransfer.{name}`" in text
        assert callable(getattr(sktransfer, name))
    assert "SKTRANSFER_PLUGINS" in text
    assert "SKTRANSFER_PLUGINS" in (ROOT / "sktransfer" / "backbones" / "plugins.py").read_text()


REMOTE_CODE = """
from pathlib import Path
Path({mark!r}).touch()
class Config: ...
class Model: ...
class Tokenizer: ...
"""


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
def test_load_backbone_never_runs_code_of_a_model_folder(where, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: "yes")
    folder, mark = tmp_path / "model", tmp_path / "executed"
    make_folder("bert", folder)
    (folder / "evil.py").write_text(REMOTE_CODE.format(mark=str(mark)))
    settings = json.loads((folder / where).read_text()) if (folder / where).exists() else {}
    classes = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model", "AutoTokenizer": ["evil.Tokenizer", None]}
    settings |= {"auto_map": classes, "tokenizer_class": "Tokenizer"}
    (folder / where).write_text(json.dumps(settings))
    with suppress(WeightsError):  # Loading may fail, or build the model without its code. Both are safe.
        load_backbone(f"hf/{folder}")
    assert not mark.exists()
