from __future__ import annotations

import hashlib
from importlib.resources import files

import pytest
import torch
from PIL import Image

from sktransfer import list_backbones, load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.engine.inputs import collate
from sktransfer.providers.tiny_cnn import CATEGORIES
from sktransfer.weights.reading import read_state

SPECS = [spec for spec in registry().specs.values() if spec.provider == "tiny"]


def images(backbone, n=3):
    colours = [(250, 20, 20), (20, 250, 20), (20, 20, 250)][:n]
    gradients = [Image.linear_gradient("L").resize((40, 50)).convert("RGB"), Image.radial_gradient("L").convert("RGB")]
    return collate(backbone.preprocess([*gradients, *(Image.new("RGB", (40, 40), c) for c in colours)]), "image")[0]


def test_list_backbones_shows_both_tiny_networks():
    assert [spec.name for spec in SPECS] == ["tiny/cnn", "tiny/bert"]
    assert "tiny/cnn" in set(list_backbones("image")["name"])
    assert "tiny/bert" in set(list_backbones("text")["name"])


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_sha256_and_licence_of_the_shipped_weights(spec):
    scheme, _, rest = spec.weights.location.partition(":")
    module, _, file = rest.partition("/")
    content = files(module).joinpath(file).read_bytes()
    assert scheme == "package"
    assert hashlib.sha256(content).hexdigest().startswith(spec.weights.sha256)
    assert len(content) < 5_100_000  # both, the word pieces and all code are to fit into a wheel of 9 MB
    assert spec.licence != "unknown"


@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_load_backbone_tiny_cnn_agrees_with_its_spec(weights):
    spec, backbone = registry().find("tiny/cnn"), load_backbone("tiny/cnn", weights=weights)
    values = images(backbone)
    assert tuple(values.shape[2:]) == spec.input_size
    assert backbone.stage_names == tuple(spec.stages)
    widths = [out.shape[1] for out in backbone.run(values)]
    assert widths == list(spec.stages.values())
    assert backbone.modality == spec.modality


def test_categories_of_tiny_cnn_have_names():
    categories = load_backbone("tiny/cnn").categories
    assert len(set(categories)) == CATEGORIES
    assert {"goldfish", "Egyptian cat", "school bus"} <= set(categories)


def test_load_backbone_tiny_cnn_works_offline_and_separates_images():
    backbone = load_backbone("tiny/cnn")
    *_, last = backbone.run(images(backbone))
    features = last.mean((2, 3))
    assert torch.isfinite(features).all()
    assert torch.cdist(features, features)[~torch.eye(len(features), dtype=bool)].min() > 0.1
    assert backbone.head(last).shape == (len(features), CATEGORIES)


def test_load_backbone_tiny_cnn_has_the_weights_of_the_file():
    backbone = load_backbone("tiny/cnn")
    path = files("sktransfer.providers").joinpath("shipped/tiny_cnn.safetensors")
    state = read_state(path)
    stem = dict(backbone.stages[0].named_parameters())
    assert torch.equal(stem["body.0.0.weight"], state["stages.stem.0.weight"].float())
    assert torch.equal(backbone.head.layers.weight, state["head.weight"].float())
    assert {p.dtype for p in backbone.stages.parameters()} == {torch.float32}


def test_load_backbone_random_has_a_head():
    assert load_backbone("tiny/cnn", weights="random").head is not None
    assert load_backbone("tiny/cnn", weights="random").fingerprint() != load_backbone("tiny/cnn").fingerprint()


def test_load_backbone_weights_without_head_give_no_head(tmp_path):
    from safetensors.torch import save_file

    path = files("sktransfer.providers").joinpath("shipped/tiny_cnn.safetensors")
    state = {name: tensor for name, tensor in read_state(path).items() if not name.startswith("head.")}
    save_file(state, tmp_path / "w.safetensors")
    backbone = load_backbone("tiny/cnn", weights=tmp_path / "w.safetensors")
    assert backbone.head is None
    assert backbone.fingerprint() == load_backbone("tiny/cnn").fingerprint()
