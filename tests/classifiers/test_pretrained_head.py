"""What of a backbone its head is run on, and that the result is the head's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sktransfer import load_backbone
from sktransfer.cache.memory import MemoryStore
from sktransfer.classifiers.pretrained_head import PretrainedHead, check_has_categories
from sktransfer.engine.compute import Compute
from sktransfer.engine.forward import LayerOutput
from sktransfer.engine.inputs import PreprocessedSamples, collate
from sktransfer.exceptions import InvalidParameterError
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.testing.samples import make_samples
from tests.helpers.huggingface_folders import TEXTS, make_folder

IMAGES, _ = make_samples("image", 7)
CASES = {
    "bert": ("ForSequenceClassification", LayerOutput(5, "class_token")),
    "gpt2": ("ForSequenceClassification", LayerOutput(5, "last_token")),
    "vit": ("ForImageClassification", None),
    "dinov2": ("ForImageClassification", None),
    "convnext": ("ForImageClassification", None),
}


@pytest.mark.parametrize("case", CASES)
def test_probabilities_are_those_of_the_head_on_the_whole_last_stage(case, tmp_path):
    head_name, tap = CASES[case]
    make_folder(case, tmp_path, head=head_name, num_labels=5)
    backbone = load_backbone(f"hf/{tmp_path}")
    samples = check_texts(TEXTS) if backbone.modality == "text" else check_images(IMAGES)
    inputs, store = PreprocessedSamples(samples, backbone.preprocess), MemoryStore()
    head = PretrainedHead(backbone)
    assert tap is None or head.tap == tap
    assert head.is_small == (case != "dinov2")  # its head takes patches beside the class token
    found = np.empty((len(samples), 5), np.float32)
    for rows, some in head.run(inputs, Compute(torch.device("cpu"), batch_size=3), store):
        found[rows] = some
    values, mask = collate(inputs.tensors(range(len(samples))), backbone.modality, backbone.preprocess.pad_value)
    with torch.no_grad():
        expected = backbone.head(list(backbone.run(values, mask))[-1], mask).softmax(1).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert store.info().n_entries == (len(samples) if head.is_small else 0)


def test_a_backbone_without_head_or_names_is_an_error_and_one_with_both_comes_back():
    assert check_has_categories(load_backbone("tiny/cnn")) is load_backbone("tiny/cnn")
    with pytest.raises(InvalidParameterError, match="has no head of its own"):
        PretrainedHead(load_backbone("tiny/bert"))
    with pytest.raises(InvalidParameterError, match="do not name what it tells apart"):
        PretrainedHead(load_backbone("tiny/cnn", weights="random"))
