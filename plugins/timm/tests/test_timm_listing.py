"""Listing without timm, and the truth of the table."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest
import timm

from sktransfer import list_backbones
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, PluginError
from sktransfer_timm import TABLE, sktransfer_backbones, specs_of
from sktransfer_timm.table import row_of

MODELS = json.loads(TABLE.read_text())["models"]
FAMILIES = ["resnet", "resnext", "regnet", "convnext", "efficientnet", "mobilenetv3", "densenet", "vit_", "deit"]
FAMILIES += ["beit", "eva02", "swin_", "swinv2", "maxvit", "nfnet", "repvgg"]


@pytest.mark.parametrize("family", FAMILIES)
def test_list_backbones_pattern_finds_families(family):
    shown = list_backbones(pattern=f"timm/{family}*")
    assert len(shown) >= 5
    assert set(shown["modality"]) == {"image"}


def test_models_cover_most_of_timm():
    assert len(MODELS) >= 0.75 * len(timm.list_models())


@pytest.mark.parametrize(
    "name", ["resnet10t", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "tf_efficientnet_b0", "pvt_v2_b0"]
)
def test_row_of_equals_the_table(name):
    assert json.loads(json.dumps(row_of(name)[2])) == MODELS[name]


@pytest.mark.process
def test_sktransfer_backbones_imports_nothing_heavy():
    code = "import sys; from sktransfer_timm import sktransfer_backbones; print(len(sktransfer_backbones()))"
    code += "; print([name for name in ('timm', 'torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n, heavy = done.stdout.splitlines()
    assert int(n) > 1000
    assert heavy == "[]"


def test_sktransfer_backbones_is_fast():
    start = time.process_time()  # of this process alone: others may keep the machine busy
    sktransfer_backbones()
    assert time.process_time() - start < 0.2


def test_find_without_a_tag_takes_the_default_weights():
    spec = registry().find("timm/resnet50")
    assert spec.name == f"timm/resnet50.{timm.models.get_pretrained_cfg('resnet50').tag}"
    assert spec.weights.location == f"hub:{spec.name}"


def test_find_names_owner_and_licence_of_the_weights():
    spec = registry().find("timm/fastvit_t8.apple_dist_in1k")
    known = timm.models.get_pretrained_cfg("fastvit_t8.apple_dist_in1k")
    assert (spec.weights.location, spec.licence) == (f"hub:{known.hf_hub_id}", known.license)


def test_specs_of_expands_runs_of_blocks():
    row = {"stages": [["stem", 8], ["blocks.{}", 0, 3, 8], ["top", 9]], "weights": {"": [[32, 32], "MIT", ""]}}
    (spec,) = specs_of("one", {**row, "n_parameters": 5})
    assert spec.stages == {"stem": 8, "blocks.0": 8, "blocks.1": 8, "blocks.2": 8, "top": 9}
    assert (spec.name, spec.weights, spec.n_parameters) == ("timm/one", None, 5)


def test_find_takes_a_network_registered_by_the_user():
    @timm.models.register_model
    def sktransfer_own_resnet(pretrained=False, **settings):  # the settings are those of timm's own builders
        cfg = {"input_size": (3, 64, 64), "fixed_input_size": False, "classifier": "fc", "crop_pct": 0.9}
        cfg |= {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic", "num_classes": 10}
        network = timm.models.resnet.ResNet(timm.models.resnet.BasicBlock, (1, 1, 1, 1), num_classes=10)
        network.pretrained_cfg = cfg
        return network

    sktransfer_own_resnet.__module__ = "timm.models.resnet"
    spec = registry().find("timm/sktransfer_own_resnet")
    assert spec.stages == {"stem": 64, "layer1": 64, "layer2": 128, "layer3": 256, "layer4": 512}
    assert (spec.input_size, spec.weights) == ((64, 64), None)


def test_find_refuses_a_network_that_cannot_be_cut():
    with pytest.raises(PluginError, match="cannot be cut into stages: it computes something between"):
        registry().find("timm/cait_xxs24_224")


def test_find_does_not_find_a_network_timm_lacks():
    with pytest.raises(BackboneNotFoundError, match="resnet50"):
        registry().find("timm/resnet500")
    with pytest.raises(BackboneNotFoundError, match="no backbone"):
        registry().find("timm/resnet50.no_such_weights")
