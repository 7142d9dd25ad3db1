"""The way from the template to a plugin of one's own, as `plugins/README.md` tells it: its commands are run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import sktransfer.backbones.registry as home

pytestmark = pytest.mark.process

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "plugins" / "README.md").read_text()
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", TUTORIAL, re.DOTALL)
COPY, CHECK = re.findall(r"```bash\n(.*?)```", TUTORIAL, re.DOTALL)


def run(command, cwd, environment):
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """An environment of its own that has all of this one: what a tutorial installs must not stay here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder / "venv", symlinks=True)
    binaries = folder / "venv" / "bin"
    inside = sysconfig.get_path("purelib", vars={"base": str(folder / "venv")})
    ours = [path for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")} if Path(path).is_dir()]
    lines = [f"import site; site.addsitedir({path!r})" for path in ours]
    Path(inside, "ours.pth").write_text("\n".join([*lines, str(ROOT)]) + "\n")
    command = binaries / "sktransfer"  # as pip writes it for the entry of [project.scripts]
    command.write_text(f"#!{binaries / 'python'}\nimport sys\nfrom sktransfer.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SKTRANSFER_", "PYTEST_"))},
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it as the value of build_isolation
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="module")
def mine(environment, tmp_path_factory):
    """The folder that the tutorial's first commands make, and what they print."""
    checkout = tmp_path_factory.mktemp("work") / "sktransfer"
    left_behind = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", ".pytest_cache")
    shutil.copytree(ROOT / "plugins" / "template", checkout / "plugins" / "template", ignore=left_behind)
    printed = run(["bash", "-euc", COPY], checkout, environment)
    return checkout.parent / "mine", printed


def test_the_commands_give_a_plugin_that_is_listed(mine):
    folder, printed = mine
    line = next(line for line in printed.splitlines() if line.startswith("mine "))
    assert line.split()[1:3] == ["loaded", "1"]
    assert not [path for path in folder.rglob("*") if "template" in path.name]


def test_the_plugin_passes_the_kit_by_the_commands(mine, environment):
    printed = run(["bash", "-euc", CHECK], mine[0], environment)
    assert re.search(r"mine/small: \d+ passed, 0 failed", printed), printed
    assert re.search(r"^\d+ passed, \d+ skipped", printed, re.MULTILINE), printed


@pytest.fixture
def here(mine, environment, monkeypatch):
    """Install the plugin in the process of the tests: its modules, and its metadata from the environment."""
    folder = Path(environment["PATH"].partition(os.pathsep)[0]).parent
    monkeypatch.syspath_prepend(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    monkeypatch.syspath_prepend(mine[0])
    monkeypatch.setattr(home, "_registry", None)
    yield
    for name in [name for name in sys.modules if name.startswith("sktransfer_mine")]:
        del sys.modules[name]


def test_the_reference_of_the_tutorial_is_the_network(here):
    assert len(PYTHON_BLOCKS) == 1
    exec(compile(PYTHON_BLOCKS[0], "plugins/README.md", "exec"), {"__name__": "__main__"})


def test_installed_as_a_wheel_it_is_found_and_conforms(mine, tmp_path):
    folder, target = tmp_path / "mine", tmp_path / "target"
    shutil.copytree(mine[0], folder, ignore=shutil.ignore_patterns("*.egg-info", "build"))
    quiet = ["--quiet", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "install", *quiet, "--no-deps", "--no-build-isolation", "--no-index"]
    run([*install, "--target", str(target), str(folder)], tmp_path, dict(os.environ))
    environment = {**os.environ, "PYTHONPATH": f"{target}{os.pathsep}{ROOT}", "PYTEST_ADDOPTS": ""}
    listed = run([sys.executable, "-m", "sktransfer", "plugins", "--json"], tmp_path, environment)
    plugin = next(one for one in json.loads(listed) if one["name"] == "mine")
    assert (plugin["distribution"], plugin["status"], plugin["n_backbones"]) == ("sktransfer-mine", "loaded", 1)
    shutil.rmtree(folder / "sktransfer_mine")  # what runs below is the installed one
    chosen = ["-k", "check_widths or check_offline or check_reload", str(folder / "tests")]  # all ran from the folder
    printed = run([sys.executable, "-m", "pytest", "-q", *chosen], tmp_path, environment)
    assert re.search(r"^3 passed, \d+ deselected", printed, re.MULTILINE), printed
