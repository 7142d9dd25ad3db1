"""Images into classes that are described in words: the probabilities of CLIPModel itself, and the README's code."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
import torch
import transformers
from clip_folders import build, folder
from PIL import Image
from sklearn.base import clone
from sklearn.model_selection import cross_val_score

import sktransfer
from sktransfer import FineTuneClassifier, ZeroShotClassifier, load_backbone
from sktransfer.exceptions import InvalidParameterError
from sktransfer.testing import parametrize_with_transfer_checks
from sktransfer.testing.samples import make_samples

NAME = f"clip/{folder()}"
README = (Path(__file__).parents[1] / "README.md").read_text()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
rng = np.random.default_rng(0)
PHOTOS = [Image.fromarray(rng.integers(0, 256, (20, 25, 3), dtype=np.uint8)) for _ in range(5)]


def logits(texts):
    processor = transformers.CLIPImageProcessorPil.from_pretrained(folder())
    tokens = transformers.AutoTokenizer.from_pretrained(folder())(texts, return_tensors="pt", padding=True)
    pixels = processor(PHOTOS, return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        return build()(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"], pixel_values=pixels
        ).logits_per_image


def test_predict_proba_equals_the_logits_of_clipmodel():
    clf = ZeroShotClassifier(NAME, {"bee": "a photo of a bee", "ant": "an ant in the garden", "dark": "dark image"})
    expected = logits(["an ant in the garden", "a photo of a bee", "dark image"])
    assert clf.classes_.tolist() == ["ant", "bee", "dark"]
    found = clf.predict_proba(PHOTOS)
    np.testing.assert_allclose(found, expected.softmax(1).numpy(), atol=1e-5)
    np.testing.assert_allclose(clf.decision_function(PHOTOS), expected.numpy(), rtol=1e-4, atol=1e-4)
    assert np.ptp(found, axis=0).max() > 0.05
    assert clf.text_backbone_.name == f"{NAME}#text"


def test_template_surrounds_the_names():
    given = ZeroShotClassifier(NAME, ["ant", "bee"], template="a photo of a {}").predict_proba(PHOTOS)
    expected = logits(["a photo of a ant", "a photo of a bee"]).softmax(1).numpy()
    np.testing.assert_allclose(given, expected, atol=1e-5)


def test_predict_proba_of_a_fine_tuned_image_tower_uses_the_texts():
    X, y = make_samples("image", 8)
    tuned = FineTuneClassifier(NAME, freeze_depth=-2, max_epochs=1, random_state=0).fit(X, y)
    clf = ZeroShotClassifier(tuned.backbone_, {"good": "bright image", "bad": "dark image"})
    plain = ZeroShotClassifier(NAME, {"good": "bright image", "bad": "dark image"})
    assert clf.predict_proba(X).shape == (8, 2)
    assert not np.array_equal(clf.predict_proba(X), plain.predict_proba(X))
    cut = FineTuneClassifier(NAME, layer="layer2", max_epochs=0).fit(X, y)
    with pytest.raises(InvalidParameterError, match="has no text encoder in the same space"):
        ZeroShotClassifier(cut.backbone_, ["ant", "bee"]).predict(X)


def test_text_backbone_may_be_a_name_or_a_backbone():
    named = ZeroShotClassifier(NAME, ["ant", "bee"], text_backbone=f"{NAME}#text")
    loaded = ZeroShotClassifier(load_backbone(NAME), ["ant", "bee"], text_backbone=load_backbone(f"{NAME}#text"))
    np.testing.assert_array_equal(named.predict_proba(PHOTOS), loaded.predict_proba(PHOTOS))
    with pytest.raises(InvalidParameterError, match="takes images; descriptions are texts"):
        clone(named).set_params(text_backbone=NAME).predict(PHOTOS)
    with pytest.raises(InvalidParameterError, match=r"gives 10 numbers .* 160"):
        clone(named).set_params(text_backbone="tiny/bert").predict(PHOTOS)


def test_weights_random_applies_to_both_towers():
    clf = ZeroShotClassifier(NAME, ["ant", "bee"], weights="random")
    assert not clf.backbone_.pretrained
    assert not clf.text_backbone_.pretrained


def test_fit_takes_the_names_from_y_without_labels():
    X, y = make_samples("image", 8)
    assert len(cross_val_score(ZeroShotClassifier(NAME), X, y, cv=2)) == 2


def known_failures(estimator):
    return {"check_sample_weight": "nothing is trained, so fit takes no weights"}


@pytest.mark.filterwarnings("ignore::sktransfer.exceptions.UnknownWordsWarning")  # the tokenizer knows few labels
@parametrize_with_transfer_checks([ZeroShotClassifier(NAME)], expected_failed_checks=known_failures)
def test_transfer_checks(estimator, check):
    check(estimator)


def test_readme_code_runs(tmp_path, monkeypatch):
    place = tmp_path / "models--openai--clip-vit-base-patch32"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder(), place / "snapshots" / COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    names = {"photos": PHOTOS, "kinds": ["ant", "bee", "ant", "bee", "ant"]}
    with sktransfer.config_context(download="never"):
        for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
            exec(block, names)
    assert names["clf"].classes_.tolist() == ["ant", "bee"]
    assert names["features"].shape == (5, 10)
