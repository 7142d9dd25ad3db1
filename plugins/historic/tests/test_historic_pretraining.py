"""The script that trains a small AWD-LSTM, and the benchmark that uses it, at a size of seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from historic_folders import folder

from sktransfer import load_backbone, perplexity

PRETRAINING = Path(__file__).parents[1] / "pretraining"
PASSAGES = ["a good film and a good plot", "a bad film and a bad plot", "what a clever story", "all said and more"]
SETTINGS = [
    *("--vocabulary", "20", "--width", "8", "--hidden", "10", "--held-out", "4", "--rows", "4", "--length", "8"),
    *("--drawn", "6", "--lr", "0.05"),
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(PRETRAINING))
    import train_awd_lstm

    return train_awd_lstm


def run(script, monkeypatch, corpus, out, n_steps, **settings):
    more = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    arguments = [str(corpus), "--out", str(out), *SETTINGS, "--tokens", str(n_steps * 32), *more]
    monkeypatch.setattr(sys, "argv", ["train_awd_lstm.py", *arguments])
    script.main()


def test_train_writes_a_backbone_and_resumes(tmp_path, script, monkeypatch):
    corpus, out = tmp_path / "texts.tsv", tmp_path / "network"
    corpus.write_text("".join(f"kind\t{PASSAGES[i % 4]}\n" for i in range(60)) + "other\tzebra\n")
    monkeypatch.setattr(script, "WARM_UP", 5)
    run(script, monkeypatch, corpus, out, 0, kinds="kind")
    before = load_backbone(f"historic/awd_lstm/{out}")
    assert "zebra" not in json.loads((out / "vocabulary.json").read_text())
    run(script, monkeypatch, corpus, out, 60, whole=0.2)
    after = load_backbone(f"historic/awd_lstm/{out}")
    assert perplexity(after, PASSAGES).mean() < 0.7 * perplexity(before, PASSAGES).mean()
    card = json.loads((out / "card.json").read_text())
    assert card["steps"] == 60
    assert card["tokens"] == 60 * 32
    steps = torch.load(out / "checkpoint.pt", weights_only=True)["state"]["step"]
    run(script, monkeypatch, corpus, out, 60)  # nothing is left to do
    assert torch.load(out / "checkpoint.pt", weights_only=True)["state"]["step"] == steps
    assert load_backbone(f"historic/awd_lstm/{out}").fingerprint() == after.fingerprint()


def test_sampled_losses_estimate_losses(script):
    torch.manual_seed(0)
    model = script.LanguageModel(50, [8, 8], 0.0)
    states, targets = torch.randn(6, 8), torch.tensor([0, 3, 7, 11, 20, 49])
    shares = torch.linspace(1, 5, 50, dtype=torch.float64) / 150  # (n_words,)
    drawn = torch.multinomial(shares, 20_000, replacement=True)
    estimated = model.sampled_losses(states, targets, drawn, (shares * 20_000).log().float())
    exact = model.losses(states, targets)
    assert torch.allclose(estimated, exact, rtol=0.02)  # the sum over drawn words differs by about 1 %


@pytest.mark.parametrize("tuning", ["no tuning", "full + discriminative + triangle"], ids=["none", "all"])
def test_measure_of_the_benchmark_tunes_and_classifies(monkeypatch, tuning):
    from benchmarks.accuracy import ulmfit

    texts = np.array([f"{text} {i}" for i in range(10) for text in PASSAGES], dtype=object)
    labels = np.tile([1, 0, 1, 0], 10)
    monkeypatch.setitem(ulmfit.TASKS, "film", lambda: (texts, labels))
    monkeypatch.setattr(ulmfit, "N_TEST", 12)
    monkeypatch.setitem(ulmfit.TUNER, "max_epochs", 1)
    monkeypatch.setitem(ulmfit.CLASSIFIER, "max_epochs", 5)
    tuned, (train, classes), (test, _) = ulmfit.draw("film", 20, 8, seed=0)
    assert (len(tuned), len(train), len(test)) == (20, 8, 12)
    assert sorted(classes) == [0, 0, 0, 0, 1, 1, 1, 1]
    assert not set(tuned) & set(test)
    found = ulmfit.measure(f"historic/awd_lstm/{folder('awd_lstm')}", "film", tuning, (20, 8), 0)
    assert 0 <= found["error"] <= 1
    assert ("valid_loss" in found) == (tuning != "no tuning")
