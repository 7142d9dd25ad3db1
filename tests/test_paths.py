from __future__ import annotations

from pathlib import Path

import pytest

from sktransfer import FineTuneClassifier, ImageFeaturizer, load_vectors
from sktransfer._utils import local_path
from sktransfer.backbones.registry import registry
from sktransfer.exceptions import BackboneNotFoundError, WeightsError


def test_home_is_put_in_where_it_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert local_path("~/model") == tmp_path / "model"
    assert local_path("~no such user/model") == Path("~no such user/model")
    assert local_path("~no\0name/model") == Path("~no\0name/model")
    assert local_path(Path("plain")) == Path("plain")


def test_a_home_that_nobody_has_is_no_other_error_than_a_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackboneNotFoundError):
        registry().find("hf/~nosuchuser/model")
    with pytest.raises(BackboneNotFoundError):
        registry().find("hf/~no\0name")
    with pytest.raises(WeightsError, match="no such file"):
        FineTuneClassifier(weights="~nosuchuser/weights.safetensors").fit([[0.0] * 64] * 4, [0, 1, 0, 1])
    with pytest.raises(WeightsError, match="~nosuchuser"):
        load_vectors("~nosuchuser/vectors.bin")
    ImageFeaturizer(cache="~nosuchuser").fit_transform([[0.0] * 64])
    assert (tmp_path / "~nosuchuser").is_dir()
