"""Installed plugins as distribution folders, most of them broken in one way each."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

ROOT = Path(__file__).parents[2]
HEAD = "from sktransfer import BackboneSpec, hookimpl\n"
HOOK = f"{HEAD}@hookimpl\ndef sktransfer_backbones():\n    "
FINDER = f"{HEAD}@hookimpl\ndef sktransfer_find_backbone(name):\n    "
MARK = "from pathlib import Path as _Path\n_Path(__file__).with_suffix('.imported').touch()\n"
STAGES = {"stem": 4, "top": 6}

NETWORK = """
import torch
from sktransfer.backbones import Backbone, ImageStage, ImageTransform, fill


def load(spec, path):
    stem, top = torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Conv2d(4, 6, 3, 2, 1)
    fill(torch.nn.ModuleDict({"stem": stem, "top": top}), path)
    return Backbone(
        name=spec.name,
        modality="image",
        stages=[("stem", ImageStage(stem)), ("top", ImageStage(top, torch.nn.ReLU()))],
        preprocess=ImageTransform(resize=(16, 16)),
        pooling="average",
    )


def load_with_a_missing_library(spec, path):
    import a_library_that_is_not_there


def load_with_a_broken_library(spec, path):
    raise RuntimeError("operator torchvision::nms does not exist")


def load_and_leave(spec, path):
    raise SystemExit("no licence")
"""


def spec(name, loader="zoo_network:load", stages=None, **more):
    """Return the code of a spec."""
    fields = {"name": name, "loader": loader, "modality": "image", "stages": stages or STAGES, "input_size": (16, 16)}
    return f"BackboneSpec({', '.join(f'{key}={value!r}' for key, value in (fields | more).items())})"


def toy_spec(name, **fields):
    """Return the code of a spec of the network in `toys.py`."""
    toy = {"loader": "tests.helpers.toys:load_image", "stages": {"stem": 4, "middle": 6, "top": 5}, "input_size": None}
    return spec(name, **(toy | fields))


def offers(*specs):
    """Return the code of a plugin that lists specs."""
    return f"{HOOK}return [{', '.join(specs)}]\n"


# entry point -> (code of its module, part of the error message)
BROKEN = {
    "missing": ("import a_library_that_is_not_there", "ModuleNotFoundError: No module named 'a_library_that_is_not"),
    "operator": (
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "RuntimeError: operator torchvision::nms does not exist",
    ),
    "library": ("import ctypes\nctypes.CDLL('libcudart.so.0')", "OSError: libcudart.so.0"),
    "syntax": ("def", "SyntaxError"),
    "leaves": ("import sys\nsys.exit('no licence')", "SystemExit: no licence"),
    "panics": (
        "class PanicException(BaseException): ...\nraise PanicException('called unwrap')",
        "PanicException: call",
    ),
    "speechless": ("class Mute(Exception):\n    __str__ = None\nraise Mute", "Mute: (its message cannot be shown)"),
    "typo": (f"{HEAD}@hookimpl\ndef sktransfer_backbone():\n    return []\n", "unknown hook 'sktransfer_backbone'"),
    "unmarked": (
        f"{HEAD}def sktransfer_backbones():\n    return []\n",
        "backbones is not marked with @hookimpl",
    ),
    "misspelt": (
        f"{HEAD}def sktransfer_bakbones():\n    return []\n",
        "offers no backbone. Did you mean 'sktransfer_",
    ),
    "empty": ("", "has no function marked with @hookimpl, so it offers no backbone"),
    "argument": (f"{HEAD}@hookimpl\ndef sktransfer_backbones(colour):\n    return []\n", "colour"),
    "late": (f"{HOOK}yield {spec('late/a')}\n    raise OSError('after the first')\n", "OSError: after the first"),
    "raises": (f"{HOOK}return 1 / 0\n", "ZeroDivisionError"),
    "prefix": (offers(spec("good/stolen")), "'good/stolen' lacks the prefix 'prefix/'"),
    "future": (offers(spec("future/a", contract=99)), "is written for contract 99; this sktransfer understands 1 to 1"),
    "field": (offers(spec("field/a", colour="red")), "TypeError: BackboneSpec has no field 'colour'"),
    "later": (offers(spec("later/a", colour="red", contract=99)), "is written for contract 99"),
    "twice": (offers(spec("twice/a"), spec("twice/a")), "declares several backbones of the name 'twice/a'"),
    "strings": (offers("'strings/a'"), "must return BackboneSpec objects, not str"),
    "single": (f"{HOOK}return {spec('single/a')}\n", "must return a list of BackboneSpec, not BackboneSpec"),
    "number": (f"{HOOK}return 3\n", "must return a list of BackboneSpec, not int"),
    "forgetful": (f"{HOOK}pass\n", "returned None"),
    "tiny": (offers(spec("tiny/cnn")), "'tiny' is taken by sktransfer.providers.tiny of sktransfer "),
}
WORKING = {
    "good": offers(spec("good/small"), spec("good/wide", stages={"stem": 4, "top": 7})),
    "slow": f"import time\ntime.sleep(0.25)\n{offers(spec('slow/a'))}",
    "loud": f"print('hello from a plugin')\n{offers(spec('loud/a'))}",
    "finder": f"{FINDER}raise (KeyError if name == 'key' else OSError if name == 'os' else SystemExit)(name)\n",
    "open": f"{FINDER}return None if name == 'absent' else 'open' if name == 'text' else {spec('open/found')}\n",
    "loaders": offers(
        spec("loaders/missing", "zoo_network:load_with_a_missing_library"),
        spec("loaders/broken", "zoo_network:load_with_a_broken_library"),
        spec("loaders/leaves", "zoo_network:load_and_leave"),
        spec("loaders/absent", "zoo_network:not_there"),
    ),
}


@dataclass
class Distribution:
    """Distribution as pip installs it: a module and a `*.dist-info` folder."""

    name: str
    code: str
    entry_points: str
    module: str
    version: str = "1.2"
    metadata: bool = True

    def write(self, folder: Path) -> None:
        """Install it in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.module}.py").write_text(MARK + self.code)
        info = folder / f"{self.name.replace('-', '_')}-{self.version}.dist-info"
        info.mkdir()
        (info / "entry_points.txt").write_text(self.entry_points)
        if self.metadata:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {self.name}\nVersion: {self.version}\n")


def distribution(entry, code, *, name=None, value=None, **more):
    """Return a distribution of one plugin."""
    name = f"zoo-{entry}" if name is None else name
    module = name.replace("-", "_")
    points = f"[console_scripts]\n{name} = {module}:main\n\n[sktransfer]\n{entry} = {value or module}\n"
    return Distribution(name, code, points, module, **more)


def zoo():
    """Return all distributions with a readable `entry_points.txt`."""
    return [
        *(distribution(entry, code) for entry, (code, _) in BROKEN.items()),
        *(distribution(entry, code) for entry, code in WORKING.items()),
        distribution("absent", "", value="zoo_module_that_is_not_there"),
        distribution("value", "", value="not a module!"),
        distribution("instance", "plugin = {}", value="zoo_instance:plugin"),
        distribution("nameless", offers(spec("nameless/a")), metadata=False),
        distribution("twin", offers(spec("twin/a")), name="zoo-twin-one", version="0.1"),
        distribution("twin", offers(spec("twin/b")), name="zoo-twin-two", version="0.2"),
    ]


def install(folder: Path, distributions=None) -> Path:
    """Write distributions into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zoo_network.py").write_text(NETWORK)
    for one in zoo() if distributions is None else distributions:
        one.write(folder)
    return folder


def imported(folder: Path) -> set[str]:
    """Return the modules in a folder that any process has imported."""
    return {path.stem for path in folder.glob("*.imported")}


# Plugins that are installed in the environment of the tests.
ELSEWHERE = {entry.name for entry in entry_points(group="sktransfer")}


def python(*arguments, path=(), check=True, **environ):
    """Run Python with distributions on its path and without SKTRANSFER_ variables of the environment."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SKTRANSFER_")}
    places = os.pathsep.join(map(str, (*path, ROOT)))
    return subprocess.run(
        [sys.executable, *arguments],
        env={**clean, "PYTHONPATH": places, **environ},
        capture_output=True,
        text=True,
        check=check,
    )
