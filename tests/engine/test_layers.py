"""What is taken of a backbone has a name of its own in the store."""

from __future__ import annotations

import pytest
import torch

from sktransfer.backbones.preprocess import ImageTransform
from sktransfer.engine.compute import Compute
from sktransfer.engine.layers import LayerOutput, kept_dtype
from tests.helpers.elsewhere import run_code
from tests.helpers.toys import image_backbone

CPU = Compute(torch.device("cpu"))
HALF = Compute(torch.device("cpu"), torch.bfloat16)


def test_namespace_differs_for_different_values():
    plain, vector = image_backbone(), LayerOutput(1, "average")
    columns = [
        vector.namespace(plain, CPU),
        LayerOutput(2, "average").namespace(plain, CPU),
        LayerOutput(1, "max").namespace(plain, CPU),
        LayerOutput(1).namespace(plain, CPU),
        vector.namespace(image_backbone(seed=1), CPU),
        vector.namespace(image_backbone(preprocess=ImageTransform(resize=(4, 4))), CPU),
        vector.namespace(image_backbone(prefix_tokens=1), CPU),
        vector.namespace(plain, HALF),
        vector.namespace(plain, Compute(torch.device("cuda", 0))),
    ]
    assert len({column.digest for column in columns}) == len(columns)
    assert vector.namespace(image_backbone(), CPU) == columns[0]
    assert vector.namespace(plain, Compute(torch.device("cpu"), batch_size=5)) == columns[0]


def test_namespace_is_human_readable():
    column = LayerOutput(2, "average").namespace(image_backbone(), CPU)
    assert (column.backbone, column.stage, column.pooling, column.dtype) == ("toy/maps", "middle", "average", "float32")
    column = LayerOutput(0).namespace(image_backbone(), HALF)
    assert (column.stage, column.pooling, column.dtype) == ("input", "", "bfloat16")
    assert len(column.digest) == 16


@pytest.mark.parametrize("setting", ["auto", "float16", "bfloat16"])
def test_namespace_depends_on_cache_dtype(setting):
    plain = LayerOutput(1, "average").namespace(image_backbone(), CPU)
    column = LayerOutput(1, "average").namespace(image_backbone(), CPU, setting)
    assert column.dtype == ("float32" if setting == "auto" else setting)
    assert (column.digest == plain.digest) == (setting == "auto")
    assert kept_dtype(torch.bfloat16, setting) == torch.bfloat16  # is short already, and would lose once more


def test_namespace_on_a_gpu_depends_on_allow_tf32(monkeypatch):
    gpu, vector = Compute(torch.device("cuda", 0)), LayerOutput(1, "average")
    digests = set()
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        digests.add(vector.namespace(image_backbone(), gpu).digest)
        assert vector.namespace(image_backbone(), CPU).digest not in digests
    assert len(digests) == 2


@pytest.mark.process
@pytest.mark.skipif(not hasattr(torch.backends, "fp32_precision"), reason="this version of torch has allow_tf32 only")
@pytest.mark.parametrize("switch", ["backends", "backends.cuda.matmul", "backends.cudnn.conv"])
def test_namespace_on_a_gpu_depends_on_fp32_precision(switch):
    code = f"""
import torch
from sktransfer import load_backbone
from sktransfer.engine.compute import Compute, without_tf32
from sktransfer.engine.layers import LayerOutput

torch.backends.cudnn.allow_tf32 = False
gpu, backbone, layer = Compute(torch.device("cuda", 0)), load_backbone("tiny/cnn"), LayerOutput(1, "average")
before = layer.namespace(backbone, gpu).digest
torch.{switch}.fp32_precision = "tf32"  # torch then refuses to read the older switches
after = layer.namespace(backbone, gpu).digest
with without_tf32():
    inside = layer.namespace(backbone, gpu).digest
assert layer.namespace(backbone, gpu).digest == after != before == inside
"""
    run_code(code)  # torch keeps the switch for the whole process
