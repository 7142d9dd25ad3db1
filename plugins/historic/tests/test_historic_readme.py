"""The README's code runs, on small networks in place of published ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from historic_folders import write_elmo, write_safe_awd

README = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")  # a small vocabulary
def test_readme_code_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_safe_awd(tmp_path / "wt103")
    write_elmo(tmp_path / "elmo_small")
    names = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    assert names["classifier"].stages_["trained"].all()
    assert names["tagger_input"] == (2, 12)
