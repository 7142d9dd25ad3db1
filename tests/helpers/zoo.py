"""Distributions of backbones with faulty specs or loaders, and one correct backbone."""

from __future__ import annotations

import contextlib
import hashlib
import socket

import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.stages import ImageStage, PooledHead
from sktransfer.weights.reading import fill
from tests.helpers.mutants import STAGES, Remembering, Skipping, image_modules

RIGHT = {"loader": "tests.helpers.zoo:load", "stages": STAGES, "input_size": (12, 12)}
# model -> what is other than right
SPECS = {
    "right": {},
    "right-random": {"weights": None},
    "width": {"stages": {**STAGES, "middle": 7}},
    "order": {"stages": {"stem": 6, "top": 5, "middle": 6}},
    "size": {"input_size": (16, 16)},
    "hash": {"sha256": ""},
    "wrong-hash": {"sha256": "0" * 64},
    "nondeterministic": {"loader": "tests.helpers.zoo:load_any", "weights": None},
    "shared": {"loader": "tests.helpers.zoo:load_shared", "weights": None},
    "in-turns": {"loader": "tests.helpers.zoo:load_with_a_variable", "weights": None},
    "network": {"loader": "tests.helpers.zoo:load_from_network"},
    "path": {"loader": "tests.helpers.zoo:load_without_path"},
    "dtype": {"loader": "tests.helpers.zoo:load_in_double"},
    "raises": {"loader": "tests.helpers.zoo:load_and_raise"},
}
# fault -> (the check that finds it, name of the backbone, a part of the message)
DECLARED = {
    "imports torch at listing": ("check_light_listing", "zooheavy/right", "torch"),
    "a width is wrong": ("check_widths", "zoo/width", "declares 7"),
    "the order of stages is wrong": ("check_stage_names", "zoo/order", "same order"),
    "the input size is wrong": ("check_input_size", "zoo/size", "(16, 16)"),
    "no hash is declared": ("check_tampered_weights", "zoo/hash", "sha256"),
    "the hash is wrong": ("check_tampered_weights", "zoo/wrong-hash", "sha256"),
    "each load has other weights": ("check_reload", "zoo/nondeterministic", "fingerprint"),
    "all loads share a network": ("check_beside_another", "zoo/shared", "fingerprint"),
    "all loads share a variable": ("check_beside_another", "zoo/in-turns", "in turns"),
    "the loader wants the network": ("check_offline", "zoo/network", "example.invalid"),
    "the loader ignores the file": ("check_pretrained_differs", "zoo/path", "same weights"),
    "the loader sets the default dtype": ("check_global_state", "zoo/dtype", "loading"),
    "the loader raises": ("check_values", "zoo/raises", "libcudart"),
}
_SHARED = []


def _built(spec, path):
    modules, head = image_modules()
    network = nn.ModuleDict({"stages": nn.ModuleDict(modules), "head": head})
    fill(network, path)
    return Backbone(
        name=spec.name,
        modality="image",
        stages=[(name, ImageStage(module)) for name, module in modules.items()],
        preprocess=ImageTransform(resize=(12, 12)),
        pooling="average",
        head=PooledHead(head, "average"),
        definition="zoo",
    )


def load(spec, path):
    return _built(spec, path)


def load_any(spec, path):
    torch.default_generator.seed()
    return _built(spec, path)


def load_shared(spec, path):
    if not _SHARED:
        _SHARED.append(_built(spec, path))
    return _SHARED[0]


def load_with_a_variable(spec, path):
    backbone = _built(spec, path)
    backbone.stages[1], backbone.stages[2] = Remembering(backbone.stages[1]), Skipping(backbone.stages[2])
    return backbone


def load_from_network(spec, path):
    with contextlib.suppress(OSError):  # some libraries only look for updates
        socket.getaddrinfo("example.invalid", 443)
    return _built(spec, path)


def load_without_path(spec, path):
    torch.default_generator.manual_seed(0)
    return _built(spec, None)


def load_in_double(spec, path):
    torch.set_default_dtype(torch.float64)
    backbone = _built(spec, None)
    backbone.stages.float()
    return backbone


def load_and_raise(spec, path):
    raise OSError("libcudart.so.12: cannot open shared object file")


def _spec(provider, model, changes, digest):
    fields = {**RIGHT, "weights": "shipped", "sha256": digest, **changes}
    sha256, weights = fields.pop("sha256"), fields.pop("weights")
    given = ", ".join(f"{name}={value!r}" for name, value in fields.items())
    source = f"WeightsSource(location='package:zoo_weights/network.safetensors', sha256={sha256!r})"
    return f"BackboneSpec(name='{provider}/{model}', modality='image', weights={weights and source}, {given})"


def _plugin(provider, models, digest, first=""):
    head = "from sktransfer import BackboneSpec, hookimpl\nfrom sktransfer.weights.source import WeightsSource\n"
    specs = ",\n        ".join(_spec(provider, model, SPECS[model], digest) for model in models)
    return f"{first}{head}\n\n@hookimpl\ndef sktransfer_backbones():\n    return [\n        {specs}\n    ]\n"


def _distribution(folder, provider, source):
    info = folder / f"{provider}-1.0.dist-info"
    info.mkdir()
    (folder / f"{provider}_plugin.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {provider}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[sktransfer]\n{provider} = {provider}_plugin\n")


def write_zoo(folder):
    """Write the distributions to a folder on sys.path. One of them imports torch when it is listed."""
    package = folder / "zoo_weights"
    package.mkdir()
    (package / "__init__.py").write_text("")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        modules, head = image_modules()
    weights = package / "network.safetensors"
    save_file(nn.ModuleDict({"stages": nn.ModuleDict(modules), "head": head}).state_dict(), weights)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    _distribution(folder, "zoo", _plugin("zoo", SPECS, digest))
    _distribution(folder, "zooheavy", _plugin("zooheavy", ["right"], digest, "import torch\n"))
