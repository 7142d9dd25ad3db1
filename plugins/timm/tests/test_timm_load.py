"""Weights from files, preprocessing against timm's own, and errors that say what to do."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from sktransfer import ImageFeaturizer, config_context, load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import PluginError, WeightsError
from sktransfer_timm.load import load, preprocess
from sktransfer_timm.weights import weights_file

NAME = "timm/test_resnet.r160_in1k"


def network(name=NAME, **options):
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(11)
        return timm.create_model(name.removeprefix("timm/"), **options).eval()


def images(n=2):
    return torch.randn(n, 3, 160, 160, generator=torch.Generator().manual_seed(5))


@torch.no_grad()
def logits(backbone):
    *_, last = backbone.run(images())
    return backbone.head(last)


def assert_same(found, expected):
    assert torch.allclose(found, expected, rtol=0, atol=1e-5 * float(expected.detach().abs().max()))


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "ckpt"])
def test_load_backbone_weights_may_be_a_local_file(tmp_path, suffix):
    expected, path = network(), tmp_path / f"weights.{suffix}"
    if suffix == "pth":
        torch.save(expected.state_dict(), path)
    elif suffix == "ckpt":
        state = {f"model.{name}": tensor for name, tensor in expected.state_dict().items()}
        torch.save({"state_dict": state | {"loss.weight": torch.zeros(2)}, "epoch": 3}, path)
    else:
        save_file(expected.state_dict(), path)
    backbone = load_backbone(NAME, weights=path)
    assert_same(logits(backbone), expected(images()))
    assert len(backbone.categories) == 1000
    assert backbone.categories[0].startswith("tench")


def test_load_backbone_takes_a_cached_hub_folder(tmp_path, monkeypatch):
    expected = network()
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    snapshot = folder / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    snapshot.mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(snapshot.name)
    (snapshot / "config.json").write_text("{}")
    save_file(expected.state_dict(), snapshot / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with config_context(download="never"):
        backbone = load_backbone(NAME)
    assert backbone.pretrained
    assert_same(logits(backbone), expected(images()))


def test_load_backbone_reports_missing_weights_with_download_never(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with config_context(download="never"), pytest.raises(WeightsError, match=r"download='never'.*weights=<path"):
        load_backbone(NAME)


def test_load_backbone_converts_original_names_by_timm(tmp_path):
    expected = network("timm/test_vit.r160_in1k")
    strange = {name.replace(".", "_"): tensor for name, tensor in expected.state_dict().items()}
    save_file(strange, tmp_path / "strange.safetensors")
    with pytest.raises(WeightsError, match="does not fit timm's test_vit"):
        load_backbone("timm/test_vit.r160_in1k", weights=tmp_path / "strange.safetensors")
    convnext = network("timm/convnext_atto.d2_in1k")
    theirs = {_official(name): tensor for name, tensor in convnext.state_dict().items()}
    theirs = {name: tensor.clone() for name, tensor in theirs.items()}
    save_file(theirs, tmp_path / "official.safetensors")
    backbone = load_backbone("timm/convnext_atto.d2_in1k", weights=tmp_path / "official.safetensors")
    assert_same(logits(backbone), convnext(images()))


def _official(name):
    """Return the name that the authors of ConvNeXt use for a tensor."""
    for ours, theirs in (("stem.", "downsample_layers.0."), ("head.norm.", "norm."), ("head.fc.", "head.")):
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    if ".downsample." in name:
        stage = name.split(".")[1]
        return name.replace(f"stages.{stage}.downsample.", f"downsample_layers.{stage}.")
    name = name.replace(".blocks.", ".").replace(".conv_dw.", ".dwconv.")
    return name.replace(".mlp.fc1.", ".pwconv1.").replace(".mlp.fc2.", ".pwconv2.")


@pytest.mark.parametrize("kind", ["no head", "a head of 7 classes"])
def test_load_backbone_weights_without_the_head_give_no_head(tmp_path, kind):
    other = network(num_classes=0 if kind == "no head" else 7)
    save_file(other.state_dict(), tmp_path / "own.safetensors")
    backbone = load_backbone(NAME, weights=tmp_path / "own.safetensors")
    assert (backbone.head, backbone.categories) == (None, ())
    *_, last = backbone.run(images())
    assert_same(last, other.forward_features(images()).detach())


def test_load_backbone_refuses_weights_of_another_network(tmp_path):
    save_file(network("timm/test_vit.r160_in1k").state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="does not fit timm's test_resnet"):
        load_backbone(NAME, weights=tmp_path / "other.safetensors")


def test_load_backbone_opens_no_pickle_of_other_objects(tmp_path):
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "whole.pth")
    with pytest.raises(WeightsError, match="contains more than tensors"):
        load_backbone(NAME, weights=tmp_path / "whole.pth")


def test_weights_file_lists_several_files_of_a_folder(tmp_path):
    for name in ("a.safetensors", "b.safetensors"):
        (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=r"contains .'a.safetensors', 'b.safetensors'."):
        weights_file(tmp_path, None)
    assert weights_file(tmp_path, "b.safetensors").name == "b.safetensors"


def photos():
    """Pictures of several shapes, some with the artefacts of JPEG."""
    draw = np.random.default_rng(0)
    for height, width in ((48, 64), (301, 200), (240, 517), (160, 160)):
        coarse = Image.fromarray(draw.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
        picture = coarse.resize((width, height), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        picture.save(file, "jpeg")
        yield picture
        yield Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    "name",
    [
        "test_resnet.r160_in1k",  # bicubic, 0.95
        "resnet50.a1_in1k",
        "regnety_032.tv2_in1k",  # bilinear
        "vit_base_patch16_clip_384.laion2b_ft_in12k_in1k",  # squash
        "tf_efficientnet_b5.ns_jft_in1k",
        "swin_base_patch4_window12_384.ms_in1k",
    ],
)
def test_preprocess_equals_create_transform_of_timm(name):
    config = timm.models.get_pretrained_cfg(name).to_dict()
    ours, theirs = preprocess(config), create_transform(**resolve_data_config(config), is_training=False)
    for picture in photos():
        expected = theirs(picture)
        (found,) = ours([picture])
        assert found.shape == expected.shape
        assert float((found - expected).abs().max()) <= 1e-5


def test_preprocess_refuses_an_unsupported_crop_mode():
    config = timm.models.get_pretrained_cfg("resnet50").to_dict() | {"crop_mode": "border"}
    with pytest.raises(PluginError, match="crop_mode='border', which is not supported"):
        preprocess(config)


def test_load_reports_a_table_of_another_timm():
    spec = registry().find(NAME)
    other = dataclasses.replace(spec, stages={**spec.stages, "layer5": 3})
    with pytest.raises(PluginError, match="Install matching versions of timm and of sktransfer-timm"):
        load(other, None)


def test_imagefeaturizer_takes_a_timm_backbone():
    features = ImageFeaturizer("timm/test_vit.r160_in1k", weights="random").fit_transform(list(photos())[:3])
    assert features.shape == (3, 64)
    assert features.dtype == np.float32
