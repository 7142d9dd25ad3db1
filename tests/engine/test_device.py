from __future__ import annotations

import pytest
import torch

from sktransfer.engine.compute import resolve_device
from sktransfer.exceptions import InvalidParameterError

CPU = torch.device("cpu")


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("device", ["cpu", "cpu:0", CPU, torch.device("cpu", 0)])
def test_resolve_device_gives_one_cpu_for_all_its_names(device):
    assert resolve_device(device) == CPU


def test_resolve_device_auto_is_the_cpu_without_a_gpu(no_gpu):
    assert resolve_device("auto") == CPU


def test_resolve_device_auto_and_cuda_are_the_current_gpu(two_gpus):
    assert resolve_device("auto") == resolve_device("cuda") == torch.device("cuda", 1)
    assert resolve_device("cuda:0") == torch.device("cuda", 0)
    assert resolve_device(torch.device("cuda", 1)) == torch.device("cuda", 1)


def test_resolve_device_auto_is_mps_without_cuda(no_gpu, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == resolve_device("mps") == torch.device("mps", 0)


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7", torch.device("cuda", 0)])
def test_resolve_device_error_counts_gpus_if_there_are_none(device, no_gpu):
    with pytest.raises(InvalidParameterError, match=r"is not available: .* 0 CUDA devices; use 'auto' or 'cpu'"):
        resolve_device(device)


def test_resolve_device_rejects_a_gpu_number_that_is_too_high(two_gpus):
    with pytest.raises(InvalidParameterError, match=r"device='cuda:2' is not available: .* 2 CUDA devices"):
        resolve_device("cuda:2")


@pytest.mark.parametrize("device", ["gpu", "", "CPU", "cuda:x", "cuda:-1", None, 3.5, ["cpu"], "auto "])
def test_resolve_device_error_lists_valid_devices(device):
    with pytest.raises(InvalidParameterError, match=r"device=.* is not a device; give 'auto', 'cpu', 'cuda'"):
        resolve_device(device)


@pytest.mark.parametrize("device", ["meta", "xpu", "mps"])
def test_resolve_device_rejects_unavailable_devices(device, no_gpu):
    with pytest.raises(InvalidParameterError, match=f"device='{device}' is not available; give 'auto'"):
        resolve_device(device)


@pytest.mark.gpu
def test_resolve_device_equals_the_device_of_a_tensor(gpu):
    assert torch.zeros(1).to(resolve_device("cuda")).device == resolve_device("cuda")
