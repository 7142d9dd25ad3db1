"""Rules of the repository: import layers, file sizes, names, documented parameters."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest

import sktransfer

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "sktransfer").rglob("*.py"))
PROSE = sorted(path for folder in ("plugins", "examples", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
# Lowest first: a package imports from itself and from the packages before it.
LAYERS = ["_version", "exceptions", "_deprecation", "_validation", "_parameters", "config", "_deferred"]
LAYERS += ["_cluster", "_utils", "html", "samples", "tagging"]
LAYERS += ["weights", "backbones", "towers", "providers", "cache", "kernels", "devices", "runtimes", "machine"]
LAYERS += ["engine", "pixels", "sentences", "words"]
LAYERS += [
    "featurizers",
    "pipelines",
    "streaming",
    "tasks",
    "objectives",
    "targets",
    "domains",
    "training",
    "callbacks",
    "finetuning",
    "classifiers",
    "language",
]
LAYERS += ["selection", "explain", "displays", "persistence", "mlflow", "testing", "tuning", "cli", "__main__"]
MAX_LINES, MAX_FILES = 600, 16
QUESTION = re.compile(r"(What|Which|Whose|Where|Whether|Who|How|Of|As)\b")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def package(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imported(path: Path) -> set[str]:
    """Return the modules of sktransfer that a file imports, at any depth of its code."""
    tree = ast.parse(path.read_text())
    if path.name == "__init__.py":  # `if TYPE_CHECKING:` lists the types of its lazy names
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ]
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("sktransfer.")}


def test_imports_point_downwards():
    upwards = []
    for path in SOURCES:
        module = module_name(path)
        if module == "sktransfer":
            continue  # the top-level package lists every public name
        layer = LAYERS.index(package(module))
        upwards += [f"{module} -> {name}" for name in imported(path) if LAYERS.index(package(name)) > layer]
    assert not upwards, upwards


def test_imports_have_no_circles():
    modules = {module_name(path): path for path in SOURCES}
    # An __init__ module imports lazily, so it cannot be part of a circle.
    edges = {
        name: imported(path) & modules.keys() - {name} for name, path in modules.items() if path.name != "__init__.py"
    }
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, f"import circle: {' -> '.join([*trail[trail.index(name) :], name])}"
        if name not in done:
            for target in sorted(edges.get(name, ())):
                visit(target, (*trail, name))
            done.add(name)

    for name in edges:
        visit(name, ())


def test_files_and_folders_are_small():
    sizes = {path: len(path.read_text().splitlines()) for path in SOURCES}
    long = [f"{path}: {size} lines, at most {MAX_LINES}" for path, size in sizes.items() if size > MAX_LINES]
    folders = Counter(path.parent for path in SOURCES if path.parent != ROOT / "sktransfer")
    full = [f"{folder}: {size} files, at most {MAX_FILES}" for folder, size in folders.items() if size > MAX_FILES]
    assert not long + full, long + full


def test_module_docstrings_name_the_thing():
    summaries = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in [*SOURCES, *PROSE]}
    questions = [f"{path}: {text.splitlines()[0]}" for path, text in summaries.items() if QUESTION.match(text)]
    assert not questions, questions


def test_public_names_are_sorted_and_exist():
    assert sktransfer.__all__ == sorted(sktransfer.__all__)
    for name in sktransfer.__all__:
        assert getattr(sktransfer, name).__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        sktransfer.nonsense  # noqa: B018


@pytest.mark.process
@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import sktransfer", ["torch", "sklearn", "transformers", "pandas", "numpy"]),
        ("import sktransfer; sktransfer.list_backbones()", ["torch", "torchvision", "transformers", "sklearn"]),
        (
            "import numpy, sktransfer; sktransfer.ImageFeaturizer().fit_transform(numpy.zeros((1, 8, 8)))",
            ["torchvision", "transformers", "tokenizers", "skorch", "skops", "openvino", "onnxruntime", "nncf"]
            + ["sktransfer.runtimes.stages"],
        ),
    ],
)
def test_import_of_heavy_libraries_is_lazy(code, heavy):
    report = f"{code}\nimport sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def documented() -> list[tuple[str, object]]:
    """Return the public functions and estimators."""
    public = [(name, getattr(sktransfer, name)) for name in sktransfer.__all__]
    return [(name, thing) for name, thing in public if inspect.isfunction(thing) or hasattr(thing, "get_params")]


def test_docstrings_state_every_parameter_and_its_default():
    faults = []
    for name, thing in documented():
        documentation = inspect.getdoc(thing)
        for parameter in inspect.signature(thing).parameters.values():
            entry = re.search(rf"^(?:\w+, |\*\*)*{parameter.name}(?:, \w+)* : (.+)$", documentation, re.MULTILINE)
            stated = entry and entry.group(1).partition("default=")[2].replace('"', "'")
            if entry is None or (
                parameter.default is not inspect.Parameter.empty and stated != repr(parameter.default)
            ):
                faults.append(f"{name}: {parameter.name} is stated as {stated!r}, its default is {parameter.default!r}")
    assert not faults, faults


def test_warnings_are_issued_by_one_function():
    offenders = []
    for path in [*SOURCES, *(path for path in PROSE if "plugins" in path.parts and "tests" not in path.parts)]:
        for node in ast.walk(ast.parse(path.read_text())):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if called.startswith("warnings.warn"):
                offenders.append(f"{path}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module == "warnings":
                offenders += [f"{path}:{node.lineno}" for alias in node.names if alias.name.startswith("warn")]
    assert [offender.partition(":")[0] for offender in offenders] == [str(ROOT / "sktransfer" / "exceptions.py")], (
        f"use sktransfer.exceptions.warn, which points to the user's line: {offenders}"
    )


def requirement_names() -> set[str]:
    """Return the normalized names of all requirements of this repository's distributions."""
    names = set()
    for file in (ROOT / "pyproject.toml", *(ROOT / "plugins").glob("*/pyproject.toml")):
        project = tomllib.loads(file.read_text())["project"]
        required = [*project["dependencies"], *chain.from_iterable(project.get("optional-dependencies", {}).values())]
        names |= {re.match(r"[\w.-]+", requirement).group().lower().replace("_", "-") for requirement in required}
    return {name for name in names if not name.startswith("sktransfer")}


def installed_targets(text: str) -> list[tuple[str, str]]:
    """Return what each `pip install` in a text installs, and its extras."""
    return re.findall(r"pip install\s+(?:-\S+\s+)*[\"']?([\w.][\w./-]*[\w/]|\.)(?:\[([\w,]+)\])?", text)


def test_installation_words_name_what_exists():
    # The distributions of this repository are not on PyPI: a folder is installed, or a requirement by its own name.
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    texts = {path: path.read_text() for path in ROOT.rglob("*.md") if not {".venv", "build"} & set(path.parts)}
    for path in [*SOURCES, *PROSE]:
        constants = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        texts[path] = "\n".join(value for value in constants if isinstance(value, str))
    assert installed_targets('run pip install "a-b[c,d]". Then pip install -e .') == [("a-b", "c,d"), (".", "")]
    found, false = 0, []
    for path, text in texts.items():
        for target, chosen in installed_targets(text):
            found += 1
            is_folder = target == "." or (target.removeprefix("./").startswith("plugins/") and (ROOT / target).is_dir())
            if not is_folder and target.lower() not in requirement_names():
                false.append(f"{path}: pip install {target}")
            false += [f"{path}: extra {extra}" for extra in chosen.split(",") if extra and extra not in extras]
    assert found > 10
    assert not false, false


@pytest.mark.process
def test_tracked_files_contain_no_path_of_a_machine():
    # Spelled in pieces, so that this file does not match itself.
    paths = ["/" + "work/", "/" + "tmp/lab", "../" + "shared", "/" + "farm/"]
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False).stdout.split()
    names = [name for name in tracked if name.endswith((".py", ".md", ".toml", "Makefile")) and (ROOT / name).exists()]
    offenders = [name for name in names if any(path in (ROOT / name).read_text() for path in paths)]
    assert not offenders, offenders
