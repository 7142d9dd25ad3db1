"""Finding of towers by name: light, offline, and with an error without their scripts."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import huggingface_hub.constants
import pytest
from clip_folders import POSITIONS, SIDE, SPACE, build, folder, save

import sktransfer
from sktransfer import load_backbone
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, WeightsError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def copied(tmp_path) -> Path:
    return Path(shutil.copytree(folder(), tmp_path / "model"))


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """Give the hub's client an empty cache, and forbid fetching."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with sktransfer.config_context(download="never"):
        yield tmp_path / "cache"


def changed(folder, **settings):
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return f"clip/{folder}"


@pytest.mark.process
def test_find_imports_nothing_heavy():
    code = (
        f"from sktransfer.backbones.registry import registry; registry().find('clip/{folder()}#text')\n"
        "import sys; print([name for name in ('torch', 'numpy', 'transformers', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_find_gives_specs_that_describe_both_towers():
    images, words = (registry().find(f"clip/{folder()}{end}") for end in ("", "#text"))
    layers = ["layer1", "layer2", "layer3"]
    assert dict(images.stages) == dict.fromkeys(["embeddings", *layers], 24) | {"projection": SPACE}
    assert dict(words.stages) == dict.fromkeys(["embeddings", *layers], 32) | {"projection": SPACE}
    assert (images.modality, images.input_size) == ("image", (SIDE, SIDE))
    assert (words.modality, words.input_size) == ("text", (POSITIONS,))
    assert words.name == f"{images.name}#text" == f"clip/{Path(folder()).resolve()}#text"


def test_load_backbone_finds_a_cached_hub_model_offline(cache):
    place = cache / "models--someone--clip"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder(), place / "snapshots" / COMMIT)
    for end in ("", "#text"):
        backbone = load_backbone(f"clip/someone/clip{end}")
        assert backbone.fingerprint() == load_backbone(f"clip/{folder()}{end}").fingerprint()
        assert backbone.shared_space.texts == "clip/someone/clip#text"
    with pytest.raises(WeightsError, match=r"'clip/someone/other': looked for its config\.json"):
        load_backbone("clip/someone/other")


def test_find_takes_a_folder_with_the_mark_in_its_name(copied):
    named = copied.rename(f"{copied}#text")
    assert registry().find(f"clip/{named}").modality == "image"
    assert registry().find(f"clip/{named}#text").modality == "text"


def test_find_reads_text_config_dict_as_transformers_does(copied):
    settings = json.loads((copied / "config.json").read_text())
    own = settings["text_config"]
    name = changed(copied, text_config_dict=own, text_config={**own, "hidden_size": 8, "num_hidden_layers": 1})
    assert load_backbone(f"{name}#text").fingerprint(4) != ""
    assert registry().find(f"{name}#text").stages["layer3"] == 32


def test_load_backbone_refuses_another_model_type(copied):
    with pytest.raises(BackboneNotFoundError, match=r"has model_type 'siglip', and only 'clip' is supported"):
        load_backbone(changed(copied, model_type="siglip"))


def test_load_backbone_reports_a_missing_or_incomplete_folder(copied, tmp_path):
    with pytest.raises(BackboneNotFoundError, match="does not exist"):
        load_backbone(f"clip/{tmp_path}/nothing")
    (copied / "preprocessor_config.json").unlink()
    load_backbone(f"clip/{copied}#text")
    with pytest.raises(WeightsError, match=r"lacks preprocessor_config\.json"):
        load_backbone(f"clip/{copied}")
    (copied / "config.json").write_text("[]")
    with pytest.raises(WeightsError, match="contains a list"):
        load_backbone(f"clip/{copied}")
    (copied / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="cannot be read as JSON"):
        load_backbone(f"clip/{copied}")
    (copied / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"lacks config\.json"):
        load_backbone(f"clip/{copied}")


def test_load_backbone_weights_must_contain_the_tower(copied, tmp_path):
    from safetensors.torch import load_file, save_file

    state = load_file(copied / "model.safetensors")
    only = {name: value for name, value in state.items() if not name.startswith(("text_model", "logit"))}
    save_file(only, tmp_path / "images.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lack \d+ tensors"):
        load_backbone(f"clip/{copied}#text", weights=tmp_path / "images.safetensors")
    with pytest.raises(WeightsError, match="lack logit_scale"):
        load_backbone(f"clip/{copied}", weights=tmp_path / "images.safetensors")
    save_file(state, tmp_path / "all.safetensors", metadata={"format": "pt"})
    loaded = load_backbone(f"clip/{copied}", weights=tmp_path / "all.safetensors")
    assert loaded.fingerprint() == load_backbone(f"clip/{copied}").fingerprint()


def test_load_backbone_refuses_a_tokenizer_with_another_end_token(tmp_path):
    name = f"clip/{save(tmp_path, build(), end='garden')}#text"
    with pytest.raises(WeightsError, match=r"ends texts with token \d+, its network projects token \d+"):
        load_backbone(name)
