"""The process that trains: settings in, a model out, memory clean."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from sktransfer.words import train_process
from sktransfer.words.fasttext import read_fasttext
from tests.helpers.word_files import texts_file

pytestmark = pytest.mark.process


def train(folder, **environment):
    arguments = {"input": str(texts_file()), "dim": 40, "epoch": 0, "minCount": 1, "thread": 1, "verbose": 0}
    arguments |= {"bucket": 3000, "minn": 3, "maxn": 6, "output": ""}
    settings = {"path": sys.path, "arguments": arguments, "model": "skipgram", "save": str(folder / "model.bin")}
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [sys.executable, "-P", train_process.__file__, str(folder / "settings.json")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return np.array(read_fasttext(folder / "model.bin").rows)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone fills memory as MALLOC_PERTURB_ says")
def test_memory_starts_as_the_environment_says(tmp_path):
    tenth = 3000 * 40 // 10
    zeros = train(tmp_path, MALLOC_PERTURB_="255").ravel()
    assert 0 < np.abs(zeros[:tenth]).max() <= 1 / 40  # what fastText draws
    assert not zeros[2 * tenth :].any()
    dirt = train(tmp_path, MALLOC_PERTURB_="1", MALLOC_MMAP_THRESHOLD_="1000000000").ravel()
    assert dirt[2 * tenth :].any()  # the same without zeros: fastText leaves memory as it finds it
