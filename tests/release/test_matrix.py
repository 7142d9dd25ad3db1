from __future__ import annotations

import pytest

from release.matrix import ENVIRONMENTS, Environment, Result, counts, has_failed, main, requirements, table

BY_NAME = {one.name: one for one in ENVIRONMENTS}


def test_requirements_have_dependencies_extras_and_those_of_plugins():
    found = requirements(BY_NAME["oldest"])
    names = {one.partition(">")[0].partition("=")[0] for one in found}
    assert {"torch", "timm", "h5py", "fasttext", "peft", "pytest"} <= names
    assert not [name for name in names if name.startswith("sktransfer")]


def test_requirements_without_extras_are_those_of_a_plain_installation_and_of_pytest():
    found = {one.partition(">")[0] for one in requirements(BY_NAME["core"])}
    assert {"torch", "pytest", "pytest-xdist"} <= found
    assert not {"timm", "peft", "matplotlib", "hypothesis"} & found


def test_main_refuses_an_unknown_environment(capsys):
    with pytest.raises(SystemExit):
        main(["py27"])
    assert "there is no environment 'py27'; choose from py311, py312" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("status", "named", "failed"),
    [("passed", True, False), ("no Python", False, False), ("no Python", True, True), ("failed", False, True)],
)
def test_has_failed_allows_a_missing_python_only_if_all_are_run(status, named, failed):
    assert has_failed([Result(BY_NAME["core"], "passed"), Result(BY_NAME["py314"], status)], named=named) == failed


def test_table_has_a_row_per_environment():
    one = Result(Environment("core", "3.13"), "failed", "torch 2.6.0", 12, 3, 90.4)
    assert table([one]).splitlines()[-1] == "| core | 3.13 | failed | 12 | 3 | 90 | torch 2.6.0 |"


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("12 passed in 3.4s", (12, 0)),
        ("2 failed, 7 passed, 4 skipped, 1 xfailed, 1 error in 61.00s (0:01:01)", (7, 3)),
        ("no tests ran in 0.01s", (0, 0)),
    ],
)
def test_counts_reads_the_last_line_of_pytest(summary, expected):
    assert counts(summary) == expected
