from __future__ import annotations

import json

import pytest

from sktransfer.backbones.naming import name_hint

NAMES = [
    "tiny/cnn",
    "torchvision/resnet18",
    "torchvision/resnet50",
    "torchvision/vit_b_16",
    "other/vit_base_patch16_224",
]
PROVIDERS = ["tiny", "torchvision", "hf"]
ALL = [*PROVIDERS, "sentence-transformers", "timm", "clip"]


@pytest.mark.parametrize(
    ("name", "providers", "named"),
    [
        ("bert-base-uncased", ALL, ["'hf/bert-base-uncased'", "'sentence-transformers/bert-base-uncased'."]),
        (
            "all-MiniLM-L6-v2",
            PROVIDERS,
            ["'sentence-transformers/all-MiniLM-L6-v2', by the plugin sktransfer-"],
        ),
        ("sentence-transformers/all-MiniLM-L6-v2", PROVIDERS, ["'hf/sentence-transformers/all-MiniLM-L6-v2'"]),
        ("google/vit-base-patch16-224", ALL, ["'hf/google/vit-base-patch16-224'"]),
        ("openai/clip-vit-base-patch32", ALL, ["'clip/openai/clip-vit-base-patch32'."]),
        (
            "openai/clip-vit-base-patch32",
            PROVIDERS,
            ["'clip/openai/clip-vit-base-patch32', by the plugin"],
        ),
        ("resnet50.a1_in1k", PROVIDERS, ["'timm/resnet50.a1_in1k', by the plugin sktransfer-timm"]),
        ("microsoft/resnet-50", ALL, ["'hf/microsoft/resnet-50'"]),
        ("resnet-50", ALL, ["Did you mean 'torchvision/resnet50'"]),
        ("torchvison/resnet50", ALL, ["Did you mean 'torchvision/resnet50'"]),
        ("torchvision/resnet51", ALL, ["Did you mean 'torchvision/resnet50'"]),
        ("sentence-transformer/all-MiniLM-L6-v2", ALL, ["Did you mean 'sentence-transformers/all-MiniLM-L6-v2'?"]),
    ],
)
def test_name_hint_names_the_provider_and_no_other_family(name, providers, named):
    hint = name_hint(name, NAMES, providers)
    assert hint.startswith(" ")
    assert all(one in hint for one in named)
    if "Did you mean" not in named[0]:
        assert "Did you mean" not in hint


@pytest.mark.parametrize("name", ["", "/", " ", "tiny/zzzzzz"])
def test_name_hint_is_empty_if_nothing_is_similar(name):
    assert name_hint(name, NAMES, ALL) == ""


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"config.json": {"model_type": "bert"}}, ["'hf/{}'"]),
        ({"config.json": {"model_type": "bert"}, "modules.json": []}, ["'sentence-transformers/{}'", "'hf/{}'"]),
        ({"modules.json": []}, ["'sentence-transformers/{}'"]),
        ({"config.json": {"architecture": "resnet50"}}, ["backbone='timm/resnet50', weights='{}'"]),
        ({}, ["without config.json"]),
        (None, ["weights='{}'"]),
    ],
)
def test_name_hint_of_an_existing_path(files, named, tmp_path):
    path = tmp_path / "mine"
    if files is None:
        path.write_bytes(b"")
    else:
        path.mkdir()
        for name, content in files.items():
            (path / name).write_text(json.dumps(content))
    hint = name_hint(str(path), NAMES, PROVIDERS)
    assert all(one.format(path) in hint for one in named)


@pytest.mark.parametrize("name", ["tiny-cnn", "tiny_cnn", "Tiny cnn"])
def test_name_hint_of_another_sign_for_the_slash(name):
    assert name_hint(name, ["tiny/bert", "tiny/cnn"], ["hf", "tiny"]) == " Did you mean 'tiny/cnn'?"


@pytest.mark.parametrize("name", ["Tiny/bert", "tiny/BERT", "TINY/bert"])
def test_name_hint_corrects_capital_letters(name):
    assert name_hint(name, ["tiny/bert", "tiny/cnn"], ["hf", "tiny"]) == " Did you mean 'tiny/bert'?"
