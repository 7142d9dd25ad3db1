from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tokenizers import Tokenizer
from torch import nn

from sktransfer import (
    Backbone,
    FineTuneClassifier,
    ImageFeaturizer,
    PretrainedClassifier,
    TextFeaturizer,
    as_module,
    export_onnx,
    save,
)
from sktransfer.cli import main
from sktransfer.exceptions import InvalidParameterError, SaveError
from sktransfer.explain.onnx import _largest_difference
from sktransfer.testing.samples import make_samples
from tests.helpers.small_bert import small_bert

IMAGES, LABELS = make_samples("image", 12)


class Branch(nn.Module):
    """Stage that ONNX cannot express, because the code that runs depends on values."""

    def forward(self, values):
        return values if float(values.mean()) < 1e9 else -values


def small(*more):
    network = [("stem", nn.Conv2d(3, 4, 3, stride=2)), ("top", nn.Conv2d(4, 6, 3, stride=2)), *more]
    return Backbone.from_modules(network, input_size=(16, 16))


def outputs(path, **inputs):
    (found,) = onnxruntime.InferenceSession(path).run(None, inputs)
    return found


def test_export_onnx_of_images_writes_classes_and_preprocessing_beside_it(tmp_path):
    clf = FineTuneClassifier(small(), layer=["stem", "top"], pooling="grid2", max_epochs=1, random_state=0)
    clf.fit(IMAGES, LABELS)
    export = export_onnx(clf, tmp_path / "clf.onnx", opset_version=18)
    assert [file.name for file in export.files] == ["clf.onnx", "clf.json"]
    assert sorted(tmp_path.iterdir()) == sorted(export.files)
    assert export.difference < 1e-6
    assert str(export).endswith(f"opset 18; largest difference of probabilities between onnxruntime and torch "
                                f"{export.difference:.1e}")  # fmt: skip
    description = json.loads(export.files[1].read_text())
    assert description["classes"] == ["bad", "good"]
    assert (description["inputs"], description["output"]) == (["pixels"], "probabilities")
    assert description["preprocess"] == clf.backbone_.preprocess.to_state() | {
        "resize": [16, 16],
        "mean": [0.0] * 3,
        "std": [1.0] * 3,
        "background": [1.0] * 3,
    }
    pixels = np.stack(IMAGES).transpose(0, 3, 1, 2)
    for n in (1, 12):
        np.testing.assert_allclose(outputs(export.path, pixels=pixels[:n]), clf.predict_proba(IMAGES[:n]), atol=1e-5)


def test_export_onnx_of_texts_writes_a_tokenizer_that_truncates_and_pads(tmp_path):
    featurizer = TextFeaturizer(f"hf/{small_bert()}", layer=1, max_length=7)
    clf = make_pipeline(featurizer, LogisticRegression()).fit(["a good film", "a bad plot"], ["good", "bad"])
    export = export_onnx(clf, tmp_path / "clf.onnx", output="logits")
    assert [file.name for file in export.files] == ["clf.onnx", "clf.json", "clf.tokenizer.json"]
    description = json.loads(export.files[1].read_text())
    assert description["preprocess"] == {"tokenizer": "clf.tokenizer.json", "max_length": 7}
    texts = ["a film", "a clever story and all that is not so very good", ""]
    batch = Tokenizer.from_file(str(export.files[2])).encode_batch(texts)
    inputs = {"ids": np.array([one.ids for one in batch])}
    inputs["mask"] = np.array([one.attention_mask for one in batch], bool)
    assert inputs["ids"].shape == (3, 7)
    logits = outputs(export.path, **inputs)
    with pytest.warns(UserWarning, match="longer than 7 tokens"):
        np.testing.assert_allclose(logits[:, 1] - logits[:, 0], clf.decision_function(texts), atol=1e-5)


def test_X_is_traced_and_checked_if_the_size_of_images_is_free(tmp_path):
    backbone = Backbone.from_modules([("stem", nn.Conv2d(3, 4, 3))], preprocess={"resize": None})
    featurizer = ImageFeaturizer(backbone).fit(IMAGES)
    with pytest.raises(InvalidParameterError, match="does not set the size of images: pass X"):
        export_onnx(featurizer, tmp_path / "maps.onnx")
    export = export_onnx(featurizer, tmp_path / "maps.onnx", X=IMAGES[:1])
    pixels = np.stack(IMAGES).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(outputs(export.path, pixels=pixels), featurizer.transform(IMAGES), atol=1e-6)


def test_export_onnx_refuses_what_it_cannot_write(tmp_path):
    clf = PretrainedClassifier()
    with pytest.raises(InvalidParameterError, match=r"path='model.bin' must end in .onnx"):
        export_onnx(clf, "model.bin")
    for version in (11, 99, "20"):
        with pytest.raises(InvalidParameterError, match=rf"opset_version={version!r} must be an int from 18 to \d\d,"):
            export_onnx(clf, tmp_path / "model.onnx", opset_version=version)
    with pytest.raises(SaveError, match=r"because the folder .*no folder does not exist: create it"):
        export_onnx(clf, tmp_path / "no folder" / "model.onnx")


def test_export_onnx_of_a_network_that_onnx_cannot_express_writes_nothing(tmp_path):
    clf = make_pipeline(ImageFeaturizer(small(("branch", Branch()))), LogisticRegression()).fit(IMAGES, LABELS)
    with pytest.raises(SaveError, match=r"torch cannot express own/network in ONNX \("):
        export_onnx(clf, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_export_onnx_without_its_packages_names_them(tmp_path, monkeypatch):
    featurizer = ImageFeaturizer(small()).fit(IMAGES)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    export = export_onnx(featurizer, tmp_path / "model.onnx")
    assert export.difference is None
    assert "not checked, because onnxruntime is not installed" in str(export)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ImportError, match="pip install onnx onnxscript onnxruntime"):
        export_onnx(featurizer, tmp_path / "model.onnx")


def test_cli_export_writes_the_file_and_reports_the_difference(tmp_path, capsys):
    featurizer = ImageFeaturizer(layer="stem").fit(IMAGES)
    save(featurizer, tmp_path / "stem.skt")
    assert main(["export", str(tmp_path / "stem.skt"), str(tmp_path / "stem.onnx"), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == [str(tmp_path / "stem.onnx"), str(tmp_path / "stem.json")]
    assert printed["difference"] < 1e-5
    assert main(["export", str(tmp_path / "stem.skt"), str(tmp_path / "stem.onnx"), "--output", "logits"]) == 2
    assert "output='logits' is none of ImageFeaturizer, which gives features" in capsys.readouterr().err


def test_export_onnx_says_what_to_do_if_onnxruntime_cannot_run_the_file(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"of operators that onnxruntime does not know")
    module = as_module(PretrainedClassifier("tiny/cnn"))
    with pytest.raises(SaveError, match=r"cannot run the file, and nothing was written.*Choose an older opset_version"):
        _largest_difference(module, (torch.zeros(2, 3, 32, 32),), tmp_path / "model.onnx")


def test_export_replaces_no_other_json_file(tmp_path):
    (tmp_path / "one.json").write_text("[1, 2]")
    clf = FineTuneClassifier("tiny/cnn", freeze_depth="all", max_epochs=0, layer=1)
    clf.fit(np.zeros((4, 8, 8, 3), np.uint8), [0, 1, 0, 1])
    with pytest.raises(InvalidParameterError, match=r"one\.json exists and is no description of an exported network"):
        export_onnx(clf, tmp_path / "one.onnx")
    assert (tmp_path / "one.json").read_text() == "[1, 2]"
    assert not (tmp_path / "one.onnx").exists()
