"""Plugin of pytest for an environment without extras: a test that needs an extra is skipped and names the package.

A package that sktransfer itself imports without a message that says what to install is a failure.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def innermost(paths: list[Path]) -> str:
    """Return the top folder of the last of some paths that lies in the repository."""
    inside = [path.relative_to(ROOT).parts[0] for path in paths if path.is_relative_to(ROOT)]
    own = [part for part in inside if not part.startswith(".")]  # without the environment .venv
    return own[-1] if own else ""


def missing_package(error: BaseException, paths: list[Path]) -> str | None:
    """Return the package for whose absence an error was raised, or None if the error is a failure.

    Parameters
    ----------
    error : exception
        Error of a test.
    paths : list of Path
        Files of its traceback, the innermost last.
    """
    cause = error.__cause__  # sktransfer raises errors that say what to install from those of an import
    while cause is not None:
        if isinstance(cause, ModuleNotFoundError):
            return cause.name
        cause = cause.__cause__
    if isinstance(error, ImportError) and innermost(paths) != "sktransfer":
        return error.name or str(error)
    return None


def missing_in_report(text: str) -> str | None:
    """Return the package whose import failed while a test module was collected, or None if sktransfer imported it."""
    found = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", text)
    paths = [ROOT / path for path in re.findall(r"^(\S+\.py):\d+: in ", text, re.MULTILINE)]
    return found.group(1) if found and innermost(paths) != "sktransfer" else None


def missing_in_examples(output: str) -> str | None:
    """Return the package whose import failed in the first failure of docstring examples, or None."""
    first = output.partition("Failed example:")[2].partition("Failed example:")[0]
    found = re.search(r"ModuleNotFoundError: No module named '([\w.]+)'", first)
    if found is None:
        return None
    is_explained = "the direct cause of the following exception" in first
    paths = [Path(path) for path in re.findall(r'File "([^"]+)", line', first[: found.start()])]
    return found.group(1) if is_explained or innermost(paths) != "sktransfer" else None


def skip(report: pytest.TestReport | pytest.CollectReport, path: str, package: str) -> None:
    report.outcome = "skipped"
    report.longrepr = (path, 0, f"Skipped: needs {package}")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    package = missing_in_report(str(report.longrepr)) if report.failed else None
    if package is not None:
        skip(report, str(collector.path), package)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed and call.excinfo is not None:
        paths = [Path(str(entry.path)) for entry in call.excinfo.traceback]
        package = missing_package(call.excinfo.value, paths) or missing_in_examples(report.capstdout)
        if package is not None:
            skip(report, str(item.path), package)
    return report
