"""Speed and values of a GPU: throughput, waiting, searches, fine-tuning, memory, photos from files.

    python -m benchmarks.gpu [--seconds 480]

The parts run in the order of their importance, each only if its time is left, and `results/gpu.json` is written after
each. Data are generated, and networks have random weights or come with the package, so nothing is downloaded. Without a
GPU, the same parts run on the CPU in tiny sizes, as a test of the benchmark itself.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV
from torch import Tensor

from benchmarks.common import Report
from benchmarks.timing import device, finished, in_turn, ratios, seconds
from sktransfer import FineTuneClassifier, ImageFeaturizer, TextFeaturizer, clear_cache, load_backbone
from sktransfer.backbones.backbone import Backbone
from sktransfer.backbones.pooling import pool
from sktransfer.backbones.stages import run_stages
from sktransfer.engine.compute import without_tf32
from sktransfer.engine.inputs import collate, in_batches

COMPARED = ["tiny/cnn", "tiny/bert", "torchvision/resnet18", "torchvision/mobilenet_v3_small"]
COMPARED += ["torchvision/convnext_tiny", "torchvision/vit_b_16"]
TOLERANCE = 1e-3  # of the largest output, in float32 without TF32
WORDS = ("a", "film", "of", "the", "year", "that", "nobody", "saw", "and", "few", "would", "like", "but", "love", "it")
SEED = 0


def on_gpu() -> bool:
    """Return whether there is a GPU."""
    return device().type == "cuda"


def scaled(gpu: int, cpu: int) -> int:
    """Return a size for the GPU, or the tiny one for the CPU."""
    return gpu if on_gpu() else cpu


def texts(n: int) -> np.ndarray:
    """Return sentences of 4 to 60 words."""
    rng = np.random.default_rng(SEED)
    return np.array([" ".join(rng.choice(WORDS, rng.integers(4, 60))) for _ in range(n)], object)


def images(n: int, side: int) -> np.ndarray:
    """Return images (n, side, side, 3), uint8."""
    return np.random.default_rng(SEED).integers(0, 256, (n, side, side, 3), np.uint8)


def of_photos() -> str:
    """Return the name of the network for photos."""
    return "torchvision/resnet50" if on_gpu() else "tiny/cnn"


def network(name: str) -> Backbone:
    """Return a backbone, with random weights unless it comes with the package."""
    return load_backbone(name, weights="pretrained" if name.startswith("tiny/") else "random")


def equality(report: Report) -> None:
    """Report the largest difference to the CPU, over all layers of six backbones."""
    for name in COMPARED if on_gpu() else COMPARED[:2]:
        backbone = network(name)
        X = texts(16) if backbone.modality == "text" else images(8, 64)
        make = TextFeaturizer if backbone.modality == "text" else ImageFeaturizer
        with without_tf32():
            found, expected = (
                make(backbone, layer="all", device=one, cache=None).fit_transform(X) for one in (device(), "cpu")
            )
        difference = float(np.abs(found - expected).max() / np.abs(expected).max())
        report.judge(f"{name}: largest difference to the CPU", [difference], must=TOLERANCE, at_most=True)


def bare_loop(backbone: Backbone, batches: Sequence[Any], dtype: torch.dtype) -> Callable[[], np.ndarray]:
    """Return a loop over padded batches that keeps the features on the device until the end."""
    stages = [stage.to(device(), dtype) for stage in load_copy(backbone)]

    @torch.inference_mode()
    def run() -> np.ndarray:
        parts = []
        for values, mask in batches:
            values = values.to(device(), non_blocking=True)
            values = values.to(dtype) if values.is_floating_point() else values
            mask = None if mask is None else mask.to(device(), non_blocking=True)
            *_, last = run_stages(stages, values, mask)
            parts.append(pool(last, mask, backbone.pooling, prefix_tokens=backbone.prefix_tokens).float())
        found: np.ndarray = torch.cat(parts).cpu().numpy()  # (n, n_features)
        return found

    return run


def load_copy(backbone: Backbone) -> list[torch.nn.Module]:
    """Return copies of the stages, which may be moved."""
    return list(copy.deepcopy(backbone.stages))


def tensors(backbone: Backbone, X: Any, size: int) -> list[tuple[Tensor, Tensor | None]]:
    """Return padded batches of a size, in pinned memory on a GPU, longest texts first."""
    values = backbone.preprocess(list(X))
    order = sorted(range(len(values)), key=lambda row: -len(values[row]))
    batches = [collate([values[row] for row in rows], backbone.modality) for rows in in_batches(order, size)]
    if not on_gpu():
        return batches
    return [(one.pin_memory(), None if mask is None else mask.pin_memory()) for one, mask in batches]


def throughput(report: Report) -> None:
    """Report texts and images per second from strings and arrays, as a share of the bare loop over tensors."""
    cases = [
        ("tiny/bert", TextFeaturizer, texts(scaled(50_000, 64)), (64, 256, 1024)),
        (
            "torchvision/resnet50" if on_gpu() else "tiny/cnn",
            ImageFeaturizer,
            images(scaled(4096, 32), scaled(224, 32)),
            (64, 256),
        ),
    ]
    for name, make, X, sizes in cases:
        backbone = network(name)
        for precision in ("bfloat16", "float32"):
            dtype = getattr(torch, precision)
            loops = {size: bare_loop(backbone, tensors(backbone, X, size), dtype) for size in sizes}
            for loop in loops.values():
                loop()
            best = min(loops, key=lambda size: seconds(loops[size]))
            ours = make(backbone, precision=precision, cache=None, device=device()).fit(X[:2])
            ours.transform(X[:64])
            taken = in_turn({"ours": functools.partial(ours.transform, X), "bare": loops[best]}, scaled(3, 1))
            rate = len(X) / float(np.median(taken["ours"]))
            what = f"{name}, {precision}: share of the bare loop"
            report.judge(what, ratios(taken["bare"], taken["ours"]), must=0.8, aim=0.95, per_second=rate, batch=best)


def busy(report: Report) -> None:
    """Report the share of the time that the GPU computes, in a frozen pass and in fine-tuning."""
    X, y = texts(scaled(20_000, 32)), np.arange(scaled(20_000, 32)) % 2
    featurizer = TextFeaturizer("tiny/bert", cache=None, device=device()).fit(X[:2])
    tuner = FineTuneClassifier("tiny/bert", freeze_depth=0, max_epochs=1, device=device(), random_state=SEED)
    programs: dict[str, Callable[[], Any]] = {
        "a frozen pass": lambda: featurizer.transform(X),
        "an epoch of fine-tuning": lambda: tuner.fit(X[: len(X) // 4], y[: len(X) // 4]),
    }
    for name, program in programs.items():
        program()
        if not on_gpu():
            report.row(f"{name}: seconds", [seconds(program)])
            continue
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            started = time.perf_counter()
            program()
            finished()
            spent = time.perf_counter() - started
        computed = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
        report.row(f"{name}: share of the time that the GPU computes", [computed / spent], seconds=spent)


def epoch(report: Report) -> None:
    """Report an epoch of full fine-tuning, over a hand-written loop with the same batches."""
    n, size = scaled(8192, 32), scaled(128, 8)
    X, y = images(n, 32), np.arange(n) % 2
    backbone = network("tiny/cnn")
    values = torch.stack(backbone.preprocess(list(X)))  # (n, 3, height, width)
    targets = torch.from_numpy(y)

    def by_hand() -> None:
        torch.manual_seed(SEED)
        stages = torch.nn.ModuleList(load_copy(backbone)).to(device()).requires_grad_(True)
        head = torch.nn.Linear(512, 2).to(device())
        optimizer = torch.optim.AdamW([*stages.parameters(), *head.parameters()], lr=1e-4, fused=True)
        for rows in in_batches(torch.randperm(n).tolist(), size):
            *_, maps = run_stages(stages, values[rows].to(device()), None)
            loss = torch.nn.functional.cross_entropy(head(maps.mean((2, 3))), targets[rows].to(device()))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    options: dict[str, Any] = {"layer": -1, "freeze_depth": 0, "max_epochs": 1, "batch_size": size, "lr": 1e-4}
    tuner = FineTuneClassifier(backbone, device=device(), cache=None, head_init="random", random_state=SEED, **options)
    programs = {"ours": lambda: tuner.fit(X, y), "by hand": by_hand}
    in_turn(programs, 1)
    taken = in_turn(programs, scaled(3, 1))
    what = "tiny/cnn: an epoch of full fine-tuning from arrays, over a hand-written loop on tensors"
    report.judge(what, ratios(taken["ours"], taken["by hand"]), must=1.5, aim=1.0, at_most=True, N=n)


def search(report: Report) -> None:
    """Report a search over freezing depths with the cache, over one without."""
    n = scaled(2000, 24)
    X, y = texts(n), np.arange(n) % 2
    tuner = FineTuneClassifier("tiny/bert", layer=-1, max_epochs=scaled(5, 1), device=device(), random_state=SEED)
    grid = {"freeze_depth": [1, 2, 3, "all"]}
    programs = {
        name: lambda cache=cache: GridSearchCV(tuner.set_params(cache=cache), grid, cv=3).fit(X, y)
        for name, cache in (("cached", "memory"), ("without", None))
    }
    taken = in_turn(programs, 1, before=clear_cache)
    what = "freezing depths of tiny/bert: without a cache, over with one"
    report.judge(what, ratios(taken["without"], taken["cached"]), must=1.2, N=n, seconds=taken["cached"][0])


def memory(report: Report) -> None:
    """Report bytes on the device after a fit, and after the estimator is deleted."""
    if not on_gpu():
        return
    X, y = images(256, 32), np.arange(256) % 2
    before = torch.cuda.memory_allocated()
    tuner = FineTuneClassifier(network("torchvision/resnet18"), freeze_depth=0, max_epochs=1, random_state=SEED)
    tuner.fit(X, y)
    gc.collect()
    report.row("bytes left after fit", [torch.cuda.memory_allocated() - before], peak=torch.cuda.max_memory_allocated())
    tuner.predict(X)
    del tuner
    gc.collect()
    report.row("bytes left after predict and deletion", [torch.cuda.memory_allocated() - before])


def files(report: Report) -> None:
    """Report photos per second from JPEG files."""
    n, size = scaled(2000, 8), (scaled(500, 40), scaled(375, 30))
    with tempfile.TemporaryDirectory() as folder:
        small = images(n, 16)
        paths = [str(Path(folder, f"{row}.jpg")) for row in range(n)]
        for path, pixels in zip(paths, small):
            Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)
        name = of_photos()
        featurizer = ImageFeaturizer(network(name), cache=None, device=device()).fit(paths[:2])
        spent = seconds(lambda: featurizer.transform(paths))
    report.row(f"{name}: photos of {size[0]} x {size[1]} pixels per second from JPEG files", [n / spent], N=n)


PARTS: dict[str, tuple[Callable[[Report], None], float]] = {  # seconds that each may take
    "equality": (equality, 60),
    "throughput": (throughput, 120),
    "epoch": (epoch, 60),
    "busy": (busy, 60),
    "search": (search, 60),
    "memory": (memory, 20),
    "files": (files, 60),
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=480.0, help="time for all parts")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="parts to run; all if none is given")
    given = parser.parse_args(arguments)
    name = torch.cuda.get_device_name() if on_gpu() else "the CPU"
    started, report = time.perf_counter(), Report(f"Speed and values on {name}", "gpu")
    for part in given.parts or PARTS:
        measure, needed = PARTS[part]
        if time.perf_counter() - started + (needed if on_gpu() else 0) > given.seconds:
            print(f"  {part}: no time left", flush=True)
            continue
        measure(report)
        report.write()


if __name__ == "__main__":
    main()
