from __future__ import annotations

import dataclasses
import inspect
import pickle
import subprocess
import sys

import pytest

from sktransfer import BackboneSpec
from sktransfer.exceptions import PluginError
from sktransfer.weights.source import CONTRACT, OLDEST_CONTRACT, WeightsSource

GOOD = {"name": "mine/small", "loader": "mine.networks:load", "modality": "image", "stages": {"stem": 16, "top": 32}}


def test_backbonespec_provider_and_defaults():
    spec = BackboneSpec(**GOOD)
    assert spec.provider == "mine"
    assert (spec.input_size, spec.weights, spec.licence, dict(spec.options)) == (None, None, "unknown", {})
    assert spec.contract == CONTRACT


@pytest.mark.parametrize(("modality", "expected"), [("image", "ImageNet-1k"), ("text", "MTEB English classification")])
def test_benchmark_follows_from_the_modality(modality, expected):
    assert BackboneSpec(**GOOD | {"modality": modality, "accuracy": 0.7}).benchmark == expected
    assert BackboneSpec(**GOOD | {"modality": modality}).benchmark is None


def test_provider_is_the_part_before_the_first_slash():
    spec = BackboneSpec(**GOOD | {"name": "hf/owner/model"})
    assert spec.provider == "hf"


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("name", "small", "name='small'"),
        ("name", "/small", "name='/small'"),
        ("name", "mine/", "name='mine/'"),
        ("name", None, "name=None"),
        ("loader", "mine.networks", "loader='mine.networks'"),
        ("loader", "a:b:c", "loader='a:b:c'"),
        ("loader", "mine:", "loader='mine:'"),
        ("loader", ":load", "loader=':load'"),
        ("loader", print, "loader="),
        ("modality", "sound", "modality='sound'"),
        ("stages", {}, "stages={}"),
        ("stages", {"stem": 0}, "stages="),
        ("stages", {"stem": "wide"}, "stages="),
        ("stages", {"stem": True}, "stages="),
        ("stages", {1: 16}, "stages="),
        ("stages", {"all": 16}, "stages="),
        ("stages", ["stem"], "stages="),
        ("input_size", (0, 32), "input_size="),
        ("input_size", (32.5, 32), "input_size="),
        ("input_size", 32, "input_size=32"),
        ("n_parameters", -1, "n_parameters=-1"),
        ("n_parameters", 1.5, "n_parameters=1.5"),
        ("n_embedding_parameters", -1, "n_embedding_parameters=-1"),
        ("accuracy", 76.1, "accuracy=76.1"),
        ("accuracy", "0.7", "accuracy='0.7'"),
        ("language", "", "language=''"),
        ("language", 3, "language=3"),
        ("contract", "1", "contract='1'"),
        ("contract", True, "contract=True"),
        ("weights", "file.safetensors", "weights='file.safetensors'"),
        ("contract", CONTRACT + 1, f"contract {CONTRACT + 1}"),
        ("contract", OLDEST_CONTRACT - 1, f"contract {OLDEST_CONTRACT - 1}"),
    ],
)
def test_backbonespec_names_a_field_that_is_not_allowed(field, value, says):
    with pytest.raises(PluginError) as caught:
        BackboneSpec(**GOOD | {field: value})
    assert says in str(caught.value)
    if field != "name":
        assert "mine/small" in str(caught.value)


def test_backbonespec_and_weightssource_name_an_unknown_field():
    with pytest.raises(TypeError, match=r"no field 'colour'; contract 1 has name, loader.* upgrade sktransfer"):
        BackboneSpec(**GOOD, colour="red")
    with pytest.raises(TypeError, match=r"no field 'wieghts'.* Did you mean 'weights'"):
        BackboneSpec(**GOOD, wieghts=None)
    with pytest.raises(TypeError, match="WeightsSource has no field 'sha1'"):
        WeightsSource(location="file:/x", sha1="")


def test_contract_is_checked_before_the_fields():
    with pytest.raises(PluginError, match=r"contract 2; this sktransfer understands 1 to 1. Upgrade sktransfer"):
        BackboneSpec(**GOOD, colour="red", contract=CONTRACT + 1)
    with pytest.raises(PluginError, match="Upgrade the plugin"):
        BackboneSpec(**GOOD, contract=OLDEST_CONTRACT - 1)


def test_backbonespec_signature_has_its_fields():
    assert list(inspect.signature(BackboneSpec).parameters) == [
        field.name for field in dataclasses.fields(BackboneSpec)
    ]
    with pytest.raises(TypeError, match="missing 3 required keyword-only arguments"):
        BackboneSpec(name="a/b")
    with pytest.raises(TypeError, match="positional"):
        BackboneSpec("a/b")


@pytest.mark.parametrize("location", ["resnet.pth", "ftp://somewhere/x", "", None])
def test_location_must_begin_with_a_known_scheme(location):
    with pytest.raises(PluginError, match=r"location=.*'package', 'https', 'http', 'hub', 'file'"):
        WeightsSource(location=location)


@pytest.mark.parametrize("sha256", ["abc", "x" * 64, "a" * 65, None])
def test_sha256_that_is_too_short_or_not_hexadecimal_is_refused(sha256):
    with pytest.raises(PluginError, match="sha256="):
        WeightsSource(location="https://example.org/x", sha256=sha256)


@pytest.mark.parametrize("sha256", ["", "0676ba61", "AB" * 32])
def test_sha256_may_be_absent_or_its_first_digits(sha256):
    assert WeightsSource(location="https://example.org/x", sha256=sha256).sha256 == sha256


def test_backbonespec_is_frozen_and_can_be_pickled():
    spec = BackboneSpec(**GOOD, weights=WeightsSource(location="file:/x"))
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.name = "mine/other"
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert dataclasses.replace(spec, name="mine/other").loader == spec.loader


@pytest.mark.process
def test_import_of_specs_plugins_and_providers_is_light():
    modules = [f"backbones.{name}" for name in ("spec", "hooks", "plugins", "registry", "loading")]
    modules += [f"providers.{name}" for name in ("tiny", "torchvision", "huggingface")]
    code = (
        "import importlib, sys\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'pandas', 'scipy', 'transformers', 'torchvision', 'PIL'}\n"
        f"for name in {modules}:\n"
        "    importlib.import_module(f'sktransfer.{name}')\n"
        "    assert not heavy & set(sys.modules), name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_registry_lists_specs_without_torch_and_transformers():
    code = (
        "import sys\nfrom sktransfer.backbones.registry import Registry\nRegistry(entry_points=list)\n"
        "print(sorted({'torch', 'numpy', 'sklearn', 'pandas', 'transformers', 'torchvision'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
