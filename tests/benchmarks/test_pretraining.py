"""The scripts that pretrained the shipped backbones: training texts, and exact resumption."""

from __future__ import annotations

import argparse
import gzip
import io
import lzma

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmarks.pretraining import common, tiny_bert_teacher, tiny_bert_texts, tiny_cnn
from sktransfer.weights.reading import read_metadata, read_state

WORDNET_IDS = ["n02124075", "n04067472", "n04540053"]


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A folder of 48 training and 6 validation images in the form of the real one."""
    rng, jpegs = np.random.default_rng(0), []
    for i in range(54):
        pixels = np.full((32, 32, 3), 80 * (i % 3), np.uint8) + rng.integers(0, 60, (32, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        jpegs.append(np.frombuffer(buffer.getvalue(), np.uint8))
    archive = io.BytesIO()
    offsets = np.concatenate([[0], np.cumsum([len(jpeg) for jpeg in jpegs])])
    arrays = {"data": np.concatenate(jpegs), "off": offsets, "y": np.arange(54) % 3, "classes": np.array(WORDNET_IDS)}
    np.savez(archive, **arrays, split=(np.arange(54) >= 48).astype(np.int8))
    (tmp_path / "images").mkdir()
    with lzma.open(tmp_path / "images" / "tiny_imagenet32.npz.xz", "wb") as file:
        file.write(archive.getvalue())
    monkeypatch.setenv("SKTRANSFER_TEST_DATA", str(tmp_path))
    return tmp_path


def settings(folder):
    return argparse.Namespace(
        work=folder / "work", out=folder / "out", small_epochs=1, whole_epochs=2, batch_size=16, lr=0.05, seed=0
    )


def test_train_resumes_to_equal_weights(data, monkeypatch):
    tiny_cnn.train(settings(data / "whole"))
    epochs = []

    def stopped(*args):
        epochs.append(args)
        if len(epochs) == 2:
            raise KeyboardInterrupt
        return 0.0

    with monkeypatch.context() as patch:
        patch.setattr(tiny_cnn, "accuracy", stopped)
        with pytest.raises(KeyboardInterrupt):
            tiny_cnn.train(settings(data / "resumed"))
    tiny_cnn.train(settings(data / "resumed"))
    whole, resumed = (read_state(data / name / "out" / "tiny_cnn.safetensors") for name in ("whole", "resumed"))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    metadata = read_metadata(data / "whole" / "out" / "tiny_cnn.safetensors")
    assert metadata["categories"] == ["Egyptian cat", "reel", "volleyball"]
    assert metadata["preprocess"]["interpolation"] == "bicubic"
    assert metadata["figures"]["epochs"] == 3


@pytest.mark.parametrize(("size", "border"), [(24, 0), (32, 4)])
def test_augmented_gives_crops_of_the_image_or_its_mirror(size, border):
    images = torch.arange(2 * 3 * 32 * 32).float().reshape(2, 3, 32, 32)
    crops = tiny_cnn.augmented(images, size, border, torch.Generator().manual_seed(0))
    assert crops.shape == (2, 3, size, size)
    padded = nn.functional.pad(images, (border,) * 4, mode="reflect")
    for crop, image in zip(crops, padded):
        windows = image.unfold(1, size, 1).unfold(2, size, 1).permute(1, 2, 0, 3, 4)  # (rows, columns, 3, size, size)
        mirrored = image.flip(2).unfold(1, size, 1).unfold(2, size, 1).permute(1, 2, 0, 3, 4)
        assert any((part == crop).all((2, 3, 4)).any() for part in (windows, mirrored))


def test_update_average_and_write_weights_in_float16(tmp_path):
    slow, fast = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    nn.init.constant_(fast.weight, 3.0)
    common.update_average(slow, fast, step=10**6)
    torch.testing.assert_close(slow.weight.data, torch.full((2,), 1 + 2 * 0.002))
    common.write_weights(tmp_path / "out" / "w.safetensors", slow, figures={"top1": 0.5})
    state = read_state(tmp_path / "out" / "w.safetensors")
    assert set(state) == {"weight", "bias", "running_mean", "running_var"}
    assert {tensor.dtype for tensor in state.values()} == {torch.float16}
    assert read_metadata(tmp_path / "out" / "w.safetensors")["figures"] == {"top1": 0.5}


def test_segments_contain_all_words_of_reviews_and_glosses(tmp_path):
    reviews = [f"It was film {i}.<br /><br />Not bad! {'And on it went. ' * (i % 40)}" for i in range(30)]
    (tmp_path / "text").mkdir()
    with gzip.open(tmp_path / "text" / "imdb_train.csv.gz", "wt", encoding="utf-8") as file:
        file.write("label,text\n" + "".join(f'1,"{review}"\n' for review in reviews))
    for part in ("noun", "verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("  1 This is the licence | of it\n")
    line = '00001740 03 n 02 raw_wound 0 sore(p) 0 001 @ 00002 n 0000 | a wound that is open; "it hurt"  \n'
    (tmp_path / "data.noun").write_text(f"  1 licence | text\n{line}")
    texts = tiny_bert_texts.segments(tmp_path, tmp_path)
    assert texts == tiny_bert_texts.segments(tmp_path, tmp_path)
    assert 'raw wound, sore: a wound that is open; "it hurt"' in texts
    assert max(len(text.split()) for text in texts) <= tiny_bert_texts.MAX_WORDS
    read = sorted(word for text in texts for word in text.split() if "wound" not in text)
    assert read == sorted(" ".join(reviews).replace("<br /><br />", " ").split())


def test_mean_by_word_averages_the_tokens_of_a_word():
    states, words = torch.tensor([[9.0], [1.0], [3.0], [5.0], [9.0]]), torch.tensor([-1, 0, 0, 1, -1])
    assert tiny_bert_teacher.mean_by_word(states, words).tolist() == [[2.0], [5.0]]
