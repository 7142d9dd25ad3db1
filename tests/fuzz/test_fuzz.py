"""Short runs of `fuzz_images.py` and `fuzz_texts.py`."""

from __future__ import annotations

import warnings

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fuzz import fuzz_images, fuzz_texts
from tests.helpers.dirty_texts import ODD

FEW = settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
SHARE = st.floats(0, 1, exclude_max=True)
EDITS = st.lists(st.tuples(st.sampled_from(fuzz_images.KINDS), SHARE, SHARE, st.integers(0, 2**16)), min_size=1)
# Surrogates, halves of a character, are included.
TEXT = st.text(st.characters(codec=None), max_size=200)


@pytest.mark.parametrize("name", fuzz_images.NAMES)
def test_outcome_of_intact_images_is_ok(name):
    assert fuzz_images.outcome(fuzz_images.SEEDS[name]) == "ok"


@FEW
@given(name=st.sampled_from(fuzz_images.NAMES), edits=EDITS)
def test_outcome_of_damaged_images_is_ok_or_refused(name, edits):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about damaged files that it can read
        assert fuzz_images.outcome(fuzz_images.damaged(fuzz_images.SEEDS[name], edits)) in ("ok", "refused")


@FEW
@given(content=st.binary(min_size=1, max_size=100))
def test_outcome_of_any_bytes_is_ok_or_refused(content):
    assert fuzz_images.outcome(content) in ("ok", "refused")


@FEW
@given(text=TEXT | st.sampled_from(list(ODD.values())))
@example("")
def test_check_tokens_accepts_any_text(text):
    fuzz_texts.check_tokens(text)


@settings(FEW, max_examples=8)
@given(texts=st.lists(TEXT, min_size=1, max_size=8))
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.TruncatedTextWarning")
@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")
def test_check_features_accepts_any_texts(texts):
    fuzz_texts.check_features(texts)


def test_main_counts_outcomes(capsys):
    for run in (fuzz_images.main, fuzz_texts.main):
        with warnings.catch_warnings():
            counts = run(0.5, seed=1)
        assert counts["tried"] == counts["ok"] + counts["refused"] > 0
        assert "wrong 0, slow 0" in capsys.readouterr().out


def test_outcome_and_main_report_unexpected_errors(monkeypatch):
    def broken(content, row):
        raise KeyError("something else")

    monkeypatch.setattr(fuzz_images, "decode", broken)
    with pytest.raises(KeyError):
        fuzz_images.outcome(b"abc")
    with warnings.catch_warnings():
        assert fuzz_images.main(0.2, seed=1)["wrong"] > 0
