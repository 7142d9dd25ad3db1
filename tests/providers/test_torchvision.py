"""The specs of torchvision's networks against torchvision itself, and loading them from files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torchvision import models

import sktransfer
from sktransfer import PretrainedClassifier
from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import InvalidParameterError, WeightsError
from sktransfer.providers.torchvision import TABLE, own_name, preprocess, sktransfer_backbones
from tests.helpers.random_weights import distinct_images, make_weights_matter

NAMES = models.list_models(module=models)
SPECS = {spec.name.partition("/")[2]: spec for spec in sktransfer_backbones()}
ROOT = Path(__file__).parents[2]


@pytest.fixture
def data():
    folder = os.environ.get("SKTRANSFER_TEST_DATA")
    if not folder:
        pytest.skip("SKTRANSFER_TEST_DATA is not set: it is the folder of real weights and images")
    return Path(folder)


def network(name, **options):
    with torch.random.fork_rng(devices=[]):
        model = models.get_model(name, weights=None, **options)
    make_weights_matter(model, distinct_images(8, 96))
    return model


@torch.inference_mode()
def logits(backbone, images):
    *_, values = backbone.run(images)
    return backbone.head(values)


@torch.inference_mode()
def assert_same(backbone, model):
    images = distinct_images(3, 96)
    expected = model(images)
    assert (logits(backbone, images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.process
def test_list_backbones_of_torchvision_imports_nothing_heavy():
    code = (
        "import sys, sktransfer; n = len(sktransfer.list_backbones(pattern='torchvision/*')); "
        "print(n, [name for name in ('torch', 'torchvision', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == f"{len(NAMES)} []"


def test_sktransfer_backbones_lists_every_classification_network():
    listed = {name.removeprefix("torchvision/") for name in registry().specs if name.startswith("torchvision/")}
    assert set(NAMES) == set(SPECS) == listed


def test_sktransfer_backbones_name_the_default_weights_of_torchvision():
    for name, spec in SPECS.items():
        weights = models.get_model_weights(name).DEFAULT
        assert spec.options["weights"] == weights.name
        assert spec.weights.location == weights.url
        assert re.fullmatch("[0-9a-f]{8,}", spec.weights.sha256)
        assert weights.url.endswith(f"-{spec.weights.sha256}.pth")
        assert abs(spec.weights.size / 2**20 - weights.meta["_file_size"]) < 0.001
        assert spec.licence == ("CC-BY-NC-4.0" if "SWAG" in weights.meta.get("license", "") else "BSD-3-Clause")
        assert spec.input_size == preprocess(weights).crop


def test_table_agrees_with_the_installed_torchvision(spec_tables):
    assert spec_tables.differences(json.loads(TABLE.read_text()), {name: spec_tables.row(name) for name in NAMES}) == []


def test_differences_finds_a_wrong_width_in_the_table(spec_tables):
    table = json.loads(TABLE.read_text())
    table["resnet18"]["stages"]["layer4"] = 513
    rows = {name: spec_tables.row(name) for name in ("resnet18", "resnet34")}
    assert spec_tables.differences(table, rows) == ["resnet18"]


def test_preprocess_equals_the_transforms_of_torchvision():
    rng = np.random.default_rng(0)
    sizes = [(301, 217), (97, 500), (640, 641), (33, 20)]
    images = [Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    transforms = {preprocess(weights): weights.transforms() for weights in map(_default, NAMES)}
    assert len(transforms) > 10
    for ours, theirs in transforms.items():
        for image, found in zip(images, ours(images), strict=True):
            torch.testing.assert_close(found, theirs(image), rtol=0, atol=1e-5)


def _default(name):
    return models.get_model_weights(name).DEFAULT


@pytest.mark.parametrize(
    "name",
    [
        "densenet121",
        "efficientnet_b0",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_small",
        "regnet_y_400mf",
        "resnet18",
        "shufflenet_v2_x0_5",
        "squeezenet1_1",
    ],
)
def test_load_backbone_reads_a_file_with_torchvision_names(name, tmp_path):
    model = network(name)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    backbone = sktransfer.load_backbone(f"torchvision/{name}", weights=tmp_path / "weights.safetensors")
    assert_same(backbone, model)
    assert backbone.stage_names == tuple(SPECS[name].stages)
    assert backbone.preprocess == preprocess(_default(name))
    assert backbone.categories == tuple(_default(name).meta["categories"])
    assert not any(parameter.requires_grad for parameter in backbone.stages.parameters())


def test_load_backbone_reads_a_state_dict_of_torch_save(tmp_path):
    model = network("mnasnet0_5")
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    assert_same(sktransfer.load_backbone("torchvision/mnasnet0_5", weights=tmp_path / "weights.pth"), model)


@pytest.mark.parametrize("auxiliary", [True, False])
@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_load_backbone_accepts_files_with_and_without_auxiliary_classifiers(name, auxiliary, tmp_path):
    model = network(name, transform_input=True, aux_logits=auxiliary, init_weights=False)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    assert_same(sktransfer.load_backbone(f"torchvision/{name}", weights=tmp_path / "weights.safetensors"), model)


def test_load_backbone_reads_old_files_of_densenet(tmp_path):
    model = network("densenet121")
    old = {re.sub(r"(denselayer\d+\.\w+)([12]\.)", r"\1.\2", name): t for name, t in model.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    save_file(old, tmp_path / "weights.safetensors")
    assert_same(sktransfer.load_backbone("torchvision/densenet121", weights=tmp_path / "weights.safetensors"), model)


def test_own_name_translates_old_names_of_vision_transformers():
    model = models.VisionTransformer(16, 8, num_layers=2, num_heads=1, hidden_dim=4, mlp_dim=8)
    new = model.state_dict()
    old = {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t for name, t in new.items()}
    assert len(set(old) - set(new)) == 8
    other = models.VisionTransformer(16, 8, num_layers=2, num_heads=1, hidden_dim=4, mlp_dim=8)
    other.load_state_dict(old)  # torchvision's own way of reading them
    for name, tensor in old.items():
        assert torch.equal(other.state_dict()[own_name(name)], tensor)


def test_own_name_keeps_current_names(spec_tables):
    for name in ("convnext_tiny", "inception_v3", "maxvit_t", "resnet18", "swin_v2_t", "vgg11_bn", "vit_b_16"):
        tensors = list(spec_tables.unallocated(name).model.state_dict())
        assert [own_name(tensor) for tensor in tensors] == tensors


@pytest.mark.parametrize("classes", [0, 7])
def test_load_backbone_weights_without_the_head_give_no_head(classes, tmp_path):
    model = network("resnet18")
    state = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("fc.")}
    if classes:
        state |= {"fc.weight": torch.zeros(classes, 512), "fc.bias": torch.zeros(classes)}
    save_file(state, tmp_path / "weights.safetensors")
    backbone = sktransfer.load_backbone("torchvision/resnet18", weights=tmp_path / "weights.safetensors")
    assert backbone.head is None
    assert backbone.categories == ()


@pytest.mark.parametrize(
    ("entry", "prefix"), [(None, "module."), ("state_dict", "model.backbone."), ("model_state_dict", "_orig_mod.")]
)
def test_load_backbone_weights_may_be_a_checkpoint_of_a_training(entry, prefix, tmp_path):
    model = network("densenet121")
    own = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items() if "classifier" not in name}
    own["model.head.weight"] = torch.zeros(7, 1024)  # a head of one's own, outside the network
    if entry is None:
        own.pop("model.head.weight")
    torch.save(own if entry is None else {entry: own, "epoch": 3}, tmp_path / "weights.ckpt")
    backbone = sktransfer.load_backbone("torchvision/densenet121", weights=tmp_path / "weights.ckpt")
    loaded = {tensor.sum().item() for tensor in backbone.stages.state_dict().values()}
    assert loaded == {tensor.sum().item() for name, tensor in model.features.state_dict().items()}
    with pytest.raises(InvalidParameterError, match=r"weights\.ckpt' holds no head .* or one with another number"):
        PretrainedClassifier("torchvision/densenet121", weights=tmp_path / "weights.ckpt").predict(
            [np.zeros((8, 8, 3))]
        )


def test_load_backbone_refuses_a_file_of_another_network(tmp_path):
    save_file(network("squeezenet1_1").state_dict(), tmp_path / "weights.safetensors")
    match = (
        r"does not fit the network.*; the file has [\d,]+ parameters, as many as 'torchvision/squeezenet1_1', so load"
    )
    with pytest.raises(WeightsError, match=match):
        sktransfer.load_backbone("torchvision/squeezenet1_0", weights=tmp_path / "weights.safetensors")


def test_load_backbone_names_the_missing_file_with_download_never(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    message = r"checkpoints/vgg19-dcbb9e9d\.pth, which does not exist.*\(575 MB\)"
    with sktransfer.config_context(download="never"), pytest.raises(WeightsError, match=message):
        sktransfer.load_backbone("torchvision/vgg19")


def test_pooling_and_prefix_tokens_of_a_vision_transformer():
    backbone = sktransfer.load_backbone("torchvision/vit_b_32", weights="random")
    assert (backbone.pooling, backbone.prefix_tokens) == ("class_token", 1)
    with torch.inference_mode():
        for values in backbone.run(torch.zeros(1, 3, 224, 224), stop=2):
            assert values.shape == (1, 1 + 7 * 7, 768)


def test_load_backbone_of_real_weights_recognizes_ants_and_bees(data):
    path = data / "weights" / "mobilenet_v2_imagenet1k.safetensors"
    backbone = sktransfer.load_backbone("torchvision/mobilenet_v2", weights=path)
    assert backbone.preprocess == ImageTransform(256, (224, 224), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "bilinear")
    for kind in ("ant", "bee"):
        files = sorted((data / "images" / "hymenoptera" / "val" / f"{kind}s").iterdir())[:12]
        images = backbone.preprocess([Image.open(file).convert("RGB") for file in files])
        found = logits(backbone, torch.stack(images)).argmax(1)
        assert sum(backbone.categories[k] == kind for k in found) >= 6


@torch.inference_mode()
def test_load_backbone_of_real_weights_is_independent_of_the_batch(data):
    path = data / "weights" / "mobilenet_v2_imagenet1k.safetensors"
    backbone = sktransfer.load_backbone("torchvision/mobilenet_v2", weights=path)
    images = distinct_images(4, 224)
    for together, alone in zip(backbone.run(images), backbone.run(images[2:3])):
        assert (together[2:3] - alone).abs().max() <= 1e-5 * together.abs().max()
