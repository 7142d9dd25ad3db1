from __future__ import annotations

import pytest

from release.matrix import ENVIRONMENTS, Environment, Result, has_failed, main, requirements, table

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
    one = Result(Environment("core", "3.13"), "passed", "torch 2.6.0", "12 passed, 3 skipped", 1.5)
    assert table([one]).splitlines()[-1] == "| core | 3.13 | passed | 1.5 | 12 passed, 3 skipped | torch 2.6.0 |"
