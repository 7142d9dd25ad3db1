"""Images per second from JPEG files: a frozen MobileNetV2, compared with embetter and with the limit of the cores.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.image_throughput

embetter opens all images, transforms all, and runs them one by one with gradients recorded. Here it runs in `eval()`,
which embetter omits, because in training mode the outputs depend on BatchNorm statistics of the single image. The limit
is the rate at which decoding and the bare forward pass occupy all cores. Each is measured alone, with one thread on
every core, and the forward pass uses its fastest batch size and memory layout. On a GPU, the limit is the forward pass.
"""

from __future__ import annotations

import copy
import functools
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision import models, transforms

from benchmarks.common import Report, mobilenet_weights, photos, sized
from benchmarks.speed.timing import device, filled_rate, finished, in_turn, n_cores, ratios
from sktransfer import ImageFeaturizer

MARKS: dict[str, dict[str, Any]] = {"float32": {"must": 1.8, "aim": 3.0}, "bfloat16": {"must": 3.5, "aim": 4.5}}
SHARE: dict[str, Any] = {"must": 0.93, "aim": 0.97}
# Largest difference, and smallest cosine. The network of torchvision itself reaches 0.993 in bfloat16.
TOLERANCE = {"float32": 1e-4, "bfloat16": 0.99}
# The preprocessing of the weights file, as torchvision transforms.
TRANSFORM = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    ]
)


def network() -> nn.Module:
    """Return MobileNetV2 as in embetter, with pooled features and gradients, but in `eval()`."""
    model = models.mobilenet_v2()
    model.load_state_dict({name: value.float() for name, value in load_file(mobilenet_weights()).items()})
    model.classifier = nn.Identity()
    placed: nn.Module = model.eval().to(device())
    return placed


def embetter_way(model: nn.Module, paths: list[str]) -> np.ndarray:
    """Return features (n, 1280), image by image."""
    images = [Image.open(path).convert("RGB") for path in paths]
    batch = [TRANSFORM(image).unsqueeze(0).to(device()) for image in images]  # each (1, 3, 224, 224)
    return np.array([model(one).squeeze(0).detach().cpu().numpy() for one in batch])


def ours(precision: str) -> ImageFeaturizer:
    """Return the same network as a featurizer without a cache."""
    featurizer = ImageFeaturizer(
        "torchvision/mobilenet_v2", weights=mobilenet_weights(), precision=precision, cache=None
    )
    return featurizer.fit([np.zeros((8, 8, 3), np.uint8)])


def check(precision: str, found: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Return the difference of the outputs, and fail if it exceeds the tolerance."""
    if precision == "float32":
        difference = float(np.abs(found - expected).max())
        assert difference <= TOLERANCE["float32"], f"outputs differ by {difference}"
        return {"difference": difference}
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosine = float(((found * expected).sum(1) / lengths).min())
    assert cosine >= TOLERANCE["bfloat16"], f"cosine {cosine}"
    return {"cosine": cosine}


def decoding_rate(paths: list[str], least: float) -> float:
    """Return the images per second that all cores decode, resize and normalise."""

    def work() -> int:
        for path in paths[:8]:
            TRANSFORM(Image.open(path).convert("RGB"))
        return len(paths[:8])

    return filled_rate(work, least)


Forward = functools.partial[int]


def forwards(dtype: torch.dtype) -> dict[tuple[int, str], Forward]:
    """Return forward passes by batch size and memory layout."""
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    sizes = (1, 2, 4, 8, 16, 32) if device().type == "cpu" else (64, 128, 256, 512, 1024)
    found: dict[tuple[int, str], Forward] = {}
    for layout, form in layouts.items():
        placed = network().to(dtype=dtype, memory_format=form)  # type: ignore[call-overload]
        for size in sizes:
            batch = torch.randn(size, 3, 224, 224).to(device(), dtype).contiguous(memory_format=form)
            found[size, layout] = functools.partial(_forward, placed, batch)
    return found


@torch.inference_mode()
def _forward(model: nn.Module, batch: Tensor) -> int:
    model(batch)  # (n, 1280)
    finished()
    return len(batch)


def folded(work: Forward) -> Forward:
    """Return the forward pass with each BatchNorm folded into the preceding convolution."""
    model, batch = work.args
    model = copy.deepcopy(model)
    for block in model.modules():
        if isinstance(block, nn.Sequential):
            for place, (first, second) in enumerate(pairwise(list(block))):
                if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                    block[place], block[place + 1] = fuse_conv_bn_eval(first, second), nn.Identity()
    return functools.partial(_forward, model, batch)


def rate(work: Callable[[], int], least: float) -> float:
    """Return units per second, of all cores on a CPU or of one program on a GPU."""
    if device().type == "cpu":
        return filled_rate(work, least)
    work()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < least:
        done += work()
    return done / (time.perf_counter() - started)


def best_forward(dtype: torch.dtype, least: float) -> tuple[tuple[int, str], Forward]:
    """Return the fastest batch size and memory layout, and their forward pass."""
    tried = forwards(dtype)
    rates = {name: rate(work, least) for name, work in tried.items()}
    best = max(rates, key=rates.__getitem__)
    return best, tried[best]


def limit(decoding: float, forward: float) -> float:
    """Return images per second if decoding and forward share the cores, or those of the forward on a GPU."""
    return 1 / (1 / decoding + 1 / forward) if device().type == "cpu" else forward


def measure(report: Report, n: int, rounds: int, least: float) -> None:
    """Report both precisions relative to the peer and to the limit."""
    paths, _ = photos(n)
    programs: dict[str, Callable[[], Any]] = {"peer": functools.partial(embetter_way, network(), paths)}
    expected, checks = programs["peer"](), {}
    for precision in MARKS:
        programs[precision] = functools.partial(ours(precision).transform, paths)
        checks[precision] = check(precision, programs[precision](), expected)
    best = {precision: best_forward(getattr(torch, precision), least / 4) for precision in MARKS}
    names = str({precision: name for precision, (name, _) in best.items()})
    report.row("photos", [len(paths)], rounds=rounds, cores=n_cores(), best_forward=names)
    parts: dict[str, list[float]] = {name: [] for name in ("decoding", *MARKS)}

    def machine() -> None:
        parts["decoding"].append(decoding_rate(paths, least))
        for precision, (_, work) in best.items():
            parts[precision].append(rate(work, least))

    taken = in_turn(programs, rounds, each_round=machine)
    speeds = {name: len(paths) / float(np.median(spent)) for name, spent in taken.items()}
    for precision, marks in MARKS.items():
        both: dict[str, Any] = {"ours": speeds[precision], "peer": speeds["peer"]}
        what = f"images/s, {precision}, over embetter's way in eval mode"
        gains = ratios(taken["peer"], taken[precision])
        report.judge(what, gains, **marks, **checks[precision], **both)
    for precision, (_, work) in best.items():
        shares_of_limit(report, precision, [len(paths) / spent for spent in taken[precision]], parts)
        faster = limit(float(np.median(parts["decoding"])), rate(folded(work), least))
        what = f"end to end, {precision}, share of the limit with BatchNorm folded"
        report.row(what, [speeds[precision] / faster], limit=faster)


def shares_of_limit(report: Report, precision: str, reached: list[float], parts: dict[str, list[float]]) -> None:
    """Report images per second from files relative to the limit of decoding and forward."""
    limits = [limit(*both) for both in zip(parts["decoding"], parts[precision])]
    medians: dict[str, Any] = {"limit": float(np.median(limits)), "forward": float(np.median(parts[precision]))}
    what, decoding = f"end to end, {precision}, share of the limit", float(np.median(parts["decoding"]))
    report.judge(what, ratios(reached, limits), **SHARE, **medians, decoding=decoding)


def main() -> None:
    """Print the table."""
    report = Report("images/s from JPEG files, MobileNetV2, hymenoptera", "image_throughput")
    measure(report, n=sized(120, 396), rounds=sized(3, 9), least=float(sized(2, 4)))
    report.write()


if __name__ == "__main__":
    main()
