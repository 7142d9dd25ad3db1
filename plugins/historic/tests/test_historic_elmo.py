"""ELMo against TensorFlow's activations, its characters, its files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from historic_folders import OPTIONS, name, write_elmo

from sktransfer import FineTuneClassifier, SelfSupervisedTuner, TextFeaturizer, TokenFeaturizer, load_backbone
from sktransfer.exceptions import InvalidParameterError, WeightsError
from sktransfer.testing.samples import make_samples
from sktransfer_historic.elmo_words import ElmoWords

X, Y = make_samples("text", 12)


@pytest.fixture
def allennlp() -> Path:
    """Return the folder of AllenNLP's own test of ELMo."""
    place = os.environ.get("SKTRANSFER_TEST_DATA")
    if not place or not Path(place, "weights", "elmo_fixture").is_dir():
        pytest.skip("SKTRANSFER_TEST_DATA names no folder with weights/elmo_fixture")
    return Path(place, "weights", "elmo_fixture")


@torch.no_grad()
@pytest.mark.parametrize("file", range(3))
def test_run_equals_tensorflow_on_the_first_sentence(allennlp, file):
    backbone = load_backbone(f"historic/elmo/{allennlp}")
    words = json.loads((allennlp / "sentences.json").read_text())[file][0].split()
    with h5py.File(allennlp / f"lm_embeddings_{file}.hdf5") as recorded:
        expected = np.concatenate(list(recorded["0"][...]), 1)  # (n_words, 2 * width): both directions
    before, after = backbone.preprocess.special_ids
    ids = torch.tensor([[*before, *backbone.preprocess.word_pieces(words).ids.tolist(), *after]])
    *_, last = backbone.run(ids, torch.ones(ids.shape[:2], dtype=torch.bool))
    # Both compute in float32. The largest value is 4.5.
    np.testing.assert_allclose(last[0, 1:-1].numpy(), expected, rtol=0, atol=5e-6)


def test_tokenfeaturizer_equals_tensorflow_in_a_batch(allennlp):
    sentences = json.loads((allennlp / "sentences.json").read_text())
    words = [sentences[file][0].split() for file in range(3)]
    values = TokenFeaturizer(f"historic/elmo/{allennlp}").fit_transform(words)
    for file, found in enumerate(values):
        with h5py.File(allennlp / f"lm_embeddings_{file}.hdf5") as recorded:
            np.testing.assert_allclose(found, np.concatenate(list(recorded["0"][...]), 1), rtol=0, atol=5e-6)


@torch.no_grad()
def test_run_has_no_state_from_earlier_texts():
    backbone = load_backbone(name("elmo"))
    values = backbone.preprocess(["a good film"])[0][None]
    first = [one.clone() for one in backbone.run(values, None)]
    for _ in backbone.run(backbone.preprocess(["another text with other words"])[0][None], None):
        pass
    for one, again in zip(first, backbone.run(values, None)):
        assert torch.equal(one, again)


def test_elmowords_numbers_characters_as_allennlp():
    begin, word, end = ElmoWords(8, 512)(["h\u00e9"])[0].tolist()
    assert begin == [259, 257, 260, 261, 261, 261, 261, 261]
    assert word == [259, 1 + ord("h"), 1 + 0xC3, 1 + 0xA9, 260, 261, 261, 261]
    assert end == [259, 258, 260, 261, 261, 261, 261, 261]
    (_, long, _) = ElmoWords(8, 512)(["incomprehensible"])[0].tolist()
    assert long == [259, *(1 + ord(one) for one in "incomp"), 260]


def test_elmowords_truncates_and_names_places():
    words = ElmoWords(50, 512, max_length=4)
    tensors, truncated = words.tokenize(["It's a film.", "Good film", "", "\ud800 \ud83d\ude00"])
    assert [len(tensor) for tensor in tensors] == [4, 4, 2, 4]
    assert truncated == [True, False, False, False]
    text, places = ElmoWords(50, 512).words("It's  a\nfilm.")
    assert [None if one is None else text[one[1] : one[2]] for one in places] == [
        *(None, "It", "'s", "a"),
        *("film", ".", None),
    ]
    assert len(words(["good film " * 10_000])[0]) == 4


@pytest.mark.parametrize("given", [2, 513, 1.5, True])
def test_elmowords_refuses_a_max_length(given):
    with pytest.raises(InvalidParameterError, match=r"takes from 3 tokens .* to 512"):
        ElmoWords(50, 512).with_max_length(given)


def test_finetuneclassifier_mixes_layers_as_elmo():
    classifier = FineTuneClassifier(
        name("elmo"), layer="mix", freeze_depth="all", max_epochs=2, lr=1e-3, random_state=0
    )
    classifier.fit(X, Y)
    assert list(classifier.layer_weights_.index) == ["words", "lstm1", "lstm2"]
    assert classifier.layer_weights_.sum() == pytest.approx(1)


def test_textfeaturizer_takes_every_layer():
    features = TextFeaturizer(name("elmo"), layer="all").fit_transform(X)
    assert features.shape == (12, 36)
    halves = features[:, :12]  # words: both halves are equal
    assert np.array_equal(halves[:, :6], halves[:, 6:])


def test_load_backbone_takes_limits_of_none(tmp_path):
    options = {**OPTIONS, "lstm": {**OPTIONS["lstm"], "cell_clip": None, "proj_clip": None}}
    free = load_backbone(f"historic/elmo/{write_elmo(tmp_path, options)}")
    limited = load_backbone(name("elmo"))
    assert free.fingerprint() != limited.fingerprint()
    low = {**OPTIONS, "lstm": {**OPTIONS["lstm"], "proj_clip": 0.01}}
    write_elmo(tmp_path, low)
    *_, last = load_backbone(f"historic/elmo/{tmp_path}").run(limited.preprocess(["a film"])[0][None], None)
    assert float(last.abs().max()) <= 0.02  # two layers, one added to the other


@pytest.mark.parametrize(
    ("part", "changes", "message"),
    [
        ("lstm", {"use_skip_connections": False}, "use_skip_connections must be true"),
        (
            "lstm",
            {"dim": 11},
            r"does not fit the options .*: 1.backwards.inputs.bias is \(40,\), and must be \(44,\)",
        ),
        ("char_cnn", {"n_characters": 261}, "n_characters=261 must be 262"),
        ("char_cnn", {"activation": "gelu"}, "activation='gelu' must be one of"),
        ("char_cnn", {"n_highway": 2}, "is missing, and must be"),
    ],
    ids=range(5),
)
def test_load_backbone_reports_options_that_do_not_fit(tmp_path, part, changes, message):
    write_elmo(tmp_path, {**OPTIONS, part: {**OPTIONS[part], **changes}})
    with pytest.raises(WeightsError, match=message):
        load_backbone(f"historic/elmo/{tmp_path}")


def test_load_backbone_reports_damaged_files(tmp_path):
    write_elmo(tmp_path)
    content = (tmp_path / "lm_weights.hdf5").read_bytes()
    (tmp_path / "lm_weights.hdf5").write_bytes(content[:300])
    with pytest.raises(WeightsError, match=r"cannot be read as weights of ELMo"):
        load_backbone(f"historic/elmo/{tmp_path}")
    with h5py.File(tmp_path / "lm_weights.hdf5", "w") as file:
        file["char_embed"] = np.zeros((261, 4))
    with pytest.raises(WeightsError, match=r"cannot be read as weights of ELMo .KeyError"):
        load_backbone(f"historic/elmo/{tmp_path}")
    (tmp_path / "options.json").write_text('{"lstm": {}, "char_cnn": {}}')
    with pytest.raises(WeightsError, match=r"lacks .'lstm.projection_dim'"):
        load_backbone(f"historic/elmo/{tmp_path}")
    (tmp_path / "options.json").unlink()
    with pytest.raises(WeightsError, match=r"has no options; looked for .*options.json"):
        load_backbone(f"historic/elmo/{tmp_path}")


def test_selfsupervisedtuner_names_the_objective_that_takes_elmo():
    with pytest.raises(InvalidParameterError, match=r"type ElmoWords.*objective='none' takes any backbone"):
        SelfSupervisedTuner(name("elmo")).fit(X)
    own = SelfSupervisedTuner(name("elmo"), objective="none", layer=-1).fit(X)
    assert np.array_equal(own.transform(X), TextFeaturizer(name("elmo"), layer=-1).fit_transform(X))
