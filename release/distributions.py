"""Distributions, built from the last commit and checked as users install them.

`python -m release.distributions` builds the source distribution and the wheel of sktransfer and of each plugin into
`dist/`. It checks their metadata and their lists of files, installs the wheels into a new environment outside of the
repository, and runs the blocks of README.md there.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from release.matrix import PLUGINS, ROOT

__all__ = ["expected_files", "files_of", "main", "python_blocks"]

SCHEMAS = {
    "citation-file-format": ["CITATION.cff"],
    "dependabot": [".github/dependabot.yml"],
    "github-issue-config": [".github/ISSUE_TEMPLATE/config.yml"],
    "github-issue-forms": [f".github/ISSUE_TEMPLATE/{name}.yml" for name in ("bug", "documentation", "feature")],
    "github-workflows": [".github/workflows/tests.yml"],
}
GENERATED = re.compile(r"PKG-INFO|setup\.cfg|[\w.-]+\.egg-info/.*")
METADATA = re.compile(r"[\w.-]+\.dist-info/(METADATA|RECORD|WHEEL|entry_points\.txt|top_level\.txt|licenses/LICENSE)")


def expected_files(distribution: Path, tracked: Iterable[str]) -> set[str]:
    """Return the files that a distribution should have: a wheel those of the package, a source distribution all.

    Parameters
    ----------
    distribution : Path
        A wheel or a source distribution.
    tracked : iterable of str
        Files of the project's folder in the repository, relative to it.

    Examples
    --------
    >>> from pathlib import Path
    >>> from release.distributions import expected_files
    >>> expected_files(Path("one.whl"), ["sktransfer_timm/py.typed", "tests/test_timm.py", "README.md"])
    {'sktransfer_timm/py.typed'}
    """
    is_wheel = distribution.suffix == ".whl"
    return {path for path in tracked if not is_wheel or re.match(r"sktransfer\w*/", path)}


def files_of(distribution: Path) -> set[str]:
    """Return the files of a distribution without those that the build generates.

    Parameters
    ----------
    distribution : Path
        A wheel or a source distribution.
    """
    if distribution.suffix == ".whl":
        with zipfile.ZipFile(distribution) as wheel:
            return {name for name in wheel.namelist() if not METADATA.fullmatch(name)}
    with tarfile.open(distribution) as sdist:
        names = [member.name.partition("/")[2] for member in sdist.getmembers() if not member.isdir()]
    return {name for name in names if not GENERATED.fullmatch(name)}


def python_blocks(text: str) -> list[str]:
    """Return the Python blocks of a text in Markdown.

    Parameters
    ----------
    text : str
        Content of the document.
    """
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def _run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Run a command and return its output. PYTHONPATH is not set, so that nothing but what is installed is found."""
    print("+", *command, flush=True)
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=variables, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{done.stdout}\nrelease: {command[0]} failed with status {done.returncode}")
    return done.stdout


def _build(folder: Path, dist: Path) -> None:
    """Build the last commit of each project, and compare the files of its distributions with the tracked ones."""
    _run("git", "archive", "--format=tar", "--output", folder / "source.tar", "HEAD")
    source = folder / "source"
    with tarfile.open(folder / "source.tar") as archive:
        archive.extractall(source, filter="data")
    for path in (".", *PLUGINS):
        tracked = _tracked(source / path)
        before = set(dist.glob("*"))
        _run(sys.executable, "-m", "build", "--installer", "uv", "--outdir", dist, source / path)
        for distribution in sorted(set(dist.glob("*")) - before):
            files = files_of(distribution)
            if difference := files ^ expected_files(distribution, tracked):
                sys.exit(f"release: {distribution.name} lacks files of the repository or has others: {difference}")
            print(f"{distribution.name}: {len(files)} files, {distribution.stat().st_size:,} bytes")


def _tracked(project: Path) -> set[str]:
    paths = [path for path in project.rglob("*") if path.is_file()]
    return {path.relative_to(project).as_posix() for path in paths}


def _try(folder: Path, dist: Path) -> None:
    """Install all wheels into a new environment, and run README.md and the command of the shell in an empty folder."""
    python, empty = folder / "venv" / "bin" / "python", folder / "empty"
    empty.mkdir()
    _run("uv", "venv", "--quiet", "--python", sys.executable, folder / "venv")
    _run("uv", "pip", "install", "--quiet", "--python", python, *sorted(dist.glob("*.whl")))
    _run("uv", "pip", "check", "--python", python)
    place = _run(python, "-c", "import sktransfer; print(sktransfer.__file__)", cwd=empty)
    if not Path(place.strip()).is_relative_to(folder):
        sys.exit(f"release: {place.strip()} is imported, which is not the installed wheel")
    (empty / "readme.py").write_text("\n".join(python_blocks((ROOT / "README.md").read_text())))
    print(_run(python, "-W", "error::FutureWarning", "readme.py", cwd=empty))
    plugins = json.loads(_run(python.parent / "sktransfer", "plugins", "--json", cwd=empty))
    for plugin in plugins:
        print(f"{plugin['distribution']}, plugin {plugin['name']}: {plugin['status']}")
    if {plugin["status"] for plugin in plugins} != {"loaded"}:
        sys.exit("release: a plugin is not loaded")


def main() -> None:
    """Build and check all distributions."""
    dist = ROOT / "dist"
    shutil.rmtree(dist, ignore_errors=True)
    for schema, files in SCHEMAS.items():
        _run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)
    with tempfile.TemporaryDirectory(prefix="sktransfer-release-") as name:
        _build(Path(name), dist)
        _run(sys.executable, "-m", "twine", "check", "--strict", *sorted(dist.glob("*")))
        _try(Path(name), dist)


if __name__ == "__main__":
    main()
