"""Tests in environments of the supported versions of Python and of the dependencies.

`python -m release.matrix` runs all, `python -m release.matrix oldest core --tests tests/words` some of them. Continuous
integration runs one environment per job. The environments are made by uv, each in a folder that is deleted after its
tests. The table at the end has one row per environment.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

__all__ = ["ENVIRONMENTS", "Environment", "Result", "counts", "has_failed", "main", "requirements", "run", "table"]

ROOT = Path(__file__).parents[1]
PLUGINS = (
    "plugins/clip",
    "plugins/historic",
    "plugins/onnxruntime",
    "plugins/openvino",
    "plugins/sentence_transformers",
    "plugins/timm",
)
WITHOUT_EXTRAS = "tests.helpers.without_extras"  # plugin of pytest
# What pytest itself needs. The pins of the extra `test` are those of the other environments.
RUNNERS = ("pytest", "pytest-xdist")


@dataclasses.dataclass(frozen=True)
class Environment:
    """Versions to install and to test.

    Parameters
    ----------
    name : str
        Name in the table and in the workflow.
    python : str
        Version of Python, such as "3.11".
    extras : tuple of str, default=("demo", "test", "words")
        Extras to install. Without any, plugins are not installed, and tests that need an extra are skipped.
    resolution : {"highest", "lowest-direct"}, default="highest"
        "lowest-direct" installs the oldest versions that pyproject.toml allows.
    """

    name: str
    python: str
    extras: tuple[str, ...] = ("demo", "test", "words")
    resolution: str = "highest"


ENVIRONMENTS = (
    Environment("py311", "3.11"),
    Environment("py312", "3.12"),
    Environment("py313", "3.13"),
    Environment("py314", "3.14"),
    Environment("oldest", "3.11", resolution="lowest-direct"),
    Environment("core", "3.13", extras=()),
    # Extras require newer versions of some dependencies than sktransfer does.
    Environment("oldest-core", "3.11", extras=(), resolution="lowest-direct"),
)


@dataclasses.dataclass(frozen=True)
class Result:
    """Outcome of one environment.

    Parameters
    ----------
    environment : Environment
        Environment of the tests.
    status : {"passed", "failed", "not installed", "no Python"}
        "no Python" if this machine has no interpreter of that version.
    versions : str
        Versions of some packages, separated by commas.
    n_passed, n_failed : int
        Number of tests. Errors in a fixture count as failed.
    seconds : float
        Time of the tests.
    """

    environment: Environment
    status: str
    versions: str = ""
    n_passed: int = 0
    n_failed: int = 0
    seconds: float = 0.0


def requirements(environment: Environment, root: Path = ROOT) -> list[str]:
    """Return what an environment installs in addition to the distributions of this repository.

    Parameters
    ----------
    environment : Environment
        Its extras decide.
    root : Path, default=ROOT
        Folder of the repository.

    Examples
    --------
    >>> from release.matrix import Environment, requirements
    >>> "peft>=0.18" in requirements(Environment("one", "3.13"))
    True
    >>> "peft>=0.18" in requirements(Environment("one", "3.13", extras=()))
    False
    """
    projects = [tomllib.loads((root / "pyproject.toml").read_text())["project"]]
    optional = projects[0]["optional-dependencies"]
    if environment.extras:
        projects += [tomllib.loads((root / path / "pyproject.toml").read_text())["project"] for path in PLUGINS]
    chosen = {one for extra in environment.extras for one in optional[extra]}
    chosen |= {one for one in optional["test"] if re.match(r"[\w.-]+", one)[0] in RUNNERS}  # type: ignore[index]
    chosen |= {one for project in projects for one in project["dependencies"] if not one.startswith("sktransfer")}
    return sorted(chosen)


def run(environment: Environment, tests: Sequence[str], workers: int) -> Result:
    """Install an environment into a temporary folder and run tests in it.

    Parameters
    ----------
    environment : Environment
        Environment to install.
    tests : sequence of str
        Arguments of pytest. None means all tests.
    workers : int
        Number of processes of pytest.

    Returns
    -------
    result : Result
        One row of the table.
    """
    with tempfile.TemporaryDirectory(prefix=f"sktransfer-{environment.name}-") as name:
        folder = Path(name)
        python = folder / "venv" / "bin" / "python"
        if _uv("venv", "--quiet", "--seed", "--python", environment.python, folder / "venv"):
            return Result(environment, "no Python")
        (folder / "requirements.txt").write_text("\n".join(requirements(environment)))
        # Tests start many processes, each of which would compile the libraries anew.
        install = ("pip", "install", "--quiet", "--compile-bytecode", "--python", python)
        own = [part for path in (".", *(PLUGINS if environment.extras else ())) for part in ("--editable", path)]
        if _uv(*install, "--resolution", environment.resolution, "--requirements", folder / "requirements.txt"):
            return Result(environment, "not installed")
        if _uv(*install, "--no-deps", *own):
            return Result(environment, "not installed")
        versions = _versions(python)
        print(f"{environment.name}: {versions}", flush=True)
        start = time.monotonic()
        status, summary = _pytest(python, environment, tests, workers, folder)
        seconds = time.monotonic() - start
        return Result(environment, status, versions, *counts(summary), seconds)


def counts(summary: str) -> tuple[int, int]:
    """Return how many tests passed and failed by the last line of pytest.

    Parameters
    ----------
    summary : str
        The line.

    Examples
    --------
    >>> from release.matrix import counts
    >>> counts("1 failed, 12 passed, 3 skipped, 2 errors in 4.50s")
    (12, 3)
    """
    found = {name: int(n) for n, name in re.findall(r"(\d+) (passed|failed|error)", summary)}
    return found.get("passed", 0), found.get("failed", 0) + found.get("error", 0)


def _uv(*arguments: str | Path) -> int:
    command = ["uv", *map(str, arguments)]
    print("+", shlex.join(command), flush=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def _versions(python: Path) -> str:
    shown = ("numpy", "scikit-learn", "skorch", "torch", "transformers")
    code = f"import platform, importlib.metadata as m; print(platform.python_version(), *map(m.version, {shown}))"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return ", ".join(f"{name} {version}" for name, version in zip(("Python", *shown), done.stdout.split()))


def _pytest(
    python: Path, environment: Environment, tests: Sequence[str], workers: int, folder: Path
) -> tuple[str, str]:
    options = ["-p", "no:cacheprovider", "--basetemp", str(folder / "tests")]
    options += ["-n", str(workers), "--dist", "worksteal"] if workers > 1 else []
    options += [] if environment.extras else ["-p", WITHOUT_EXTRAS]
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    variables |= {
        "OMP_NUM_THREADS": "1",
        "SCIPY_ARRAY_API": "1",
        "PYTHONDONTWRITEBYTECODE": "",
        "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
    }
    command = [str(python), "-m", "pytest", "-q", *options, *(tests or (() if environment.extras else ("tests",)))]
    with subprocess.Popen(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, text=True) as process:
        last = ""
        for line in process.stdout or ():
            print(line, end="", flush=True)
            last = line.strip(" =\n") or last
    return ("failed" if process.returncode else "passed"), last


def table(results: Sequence[Result]) -> str:
    """Return the results as a table in Markdown.

    Parameters
    ----------
    results : sequence of Result
        One per environment.

    Examples
    --------
    >>> from release.matrix import Environment, Result, table
    >>> print(table([Result(Environment("new", "3.14"), "no Python")]))
    | environment | Python | status | passed | failed | seconds | versions |
    |---|---|---|---|---|---|---|
    | new | 3.14 | no Python | 0 | 0 | 0 |  |
    """
    lines = [
        "| environment | Python | status | passed | failed | seconds | versions |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        cells = (
            one.environment.name,
            one.environment.python,
            one.status,
            str(one.n_passed),
            str(one.n_failed),
            f"{one.seconds:.0f}",
            one.versions,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def has_failed(results: Sequence[Result], *, named: bool) -> bool:
    """Return whether an environment has failed.

    Parameters
    ----------
    results : sequence of Result
        One per environment.
    named : bool
        Whether the environments were asked for by name. Otherwise a version of Python may be missing.
    """
    allowed = {"passed"} if named else {"passed", "no Python"}
    return any(one.status not in allowed for one in results)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the environments that are named, or all of them, and print the table.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments. None takes those of the process.

    Returns
    -------
    status : int
        1 if an environment failed, or was named and has no interpreter here.
    """
    names = [one.name for one in ENVIRONMENTS]
    parser = argparse.ArgumentParser(prog="python -m release.matrix", description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"environments, by default all: {', '.join(names)}")
    parser.add_argument("--tests", nargs="*", default=[], help="arguments of pytest, by default all tests")
    parser.add_argument("--workers", type=int, default=2, help="processes of pytest (default: 2)")
    arguments = parser.parse_args(argv)
    if unknown := set(arguments.names) - set(names):
        parser.error(f"there is no environment {sorted(unknown)[0]!r}; choose from {', '.join(names)}")
    chosen = [one for one in ENVIRONMENTS if one.name in arguments.names or not arguments.names]
    results = [run(one, arguments.tests, arguments.workers) for one in chosen]
    print(f"\n{table(results)}")
    return int(has_failed(results, named=bool(arguments.names)))


if __name__ == "__main__":
    sys.exit(main())
