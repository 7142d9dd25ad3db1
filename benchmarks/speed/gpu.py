"""Speed and values of a GPU: throughput, waiting, searches, fine-tuning, memory, batches, photos from files.

    python -m benchmarks.speed.gpu [--seconds 480]

The parts run in the order of their importance, each only if its time is left, and `results/gpu.json` is written after
each. Data are generated. Networks have random weights or come with the package. There is no download. Without a
GPU, the same parts run on the CPU in tiny sizes, as a test of the benchmark itself. The part `flows` then runs on a
simulated GPU.
"""

from __future__ import annotations

import argparse
import copy
import functools
import gc
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from sklearn.model_selection import GridSearchCV
from torch import Tensor

from benchmarks.common import Report
from benchmarks.speed.timing import device, finished, in_turn, ratios, seconds
from sktransfer import (
    FineTuneClassifier,
    ImageFeaturizer,
    MicroBatches,
    TextFeaturizer,
    clear_cache,
    config_context,
    load_backbone,
)
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


class Flow(NamedTuple):
    """An estimator whose values, memory and waiting are compared with those of the CPU."""

    make: Callable[..., Any]
    backbone: str
    parameters: dict[str, Any]
    before: str  # waits of the CPU per batch on the simulated GPU before copies were gathered


TRAINED = {"freeze_depth": -1, "max_epochs": 2, "lr": 1e-4, "random_state": SEED}
FLOWS = {
    "a frozen pass over images, all layers": Flow(ImageFeaturizer, "tiny/cnn", {"layer": "all"}, "7"),
    "a frozen pass over texts, all layers": Flow(TextFeaturizer, "tiny/bert", {"layer": "all"}, "7"),
    "fine-tuning on images": Flow(FineTuneClassifier, "tiny/cnn", TRAINED, "5 to 6"),
    # A GPU draws other numbers for dropout, which no stage of a frozen network applies.
    "a head on texts": Flow(FineTuneClassifier, "tiny/bert", {**TRAINED, "freeze_depth": "all"}, "5 to 6"),
    "fine-tuning in micro-batches": Flow(
        FineTuneClassifier, "tiny/cnn", {**TRAINED, "callbacks": [MicroBatches(1)]}, "14"
    ),
}


def flows(report: Report) -> None:
    """Report flows on the GPU, or on a simulated one: difference to the CPU, bytes left, waits of the CPU per batch."""
    from tests.helpers.simulated_cuda import simulated_cuda

    n, size, place = 32, 8, "real" if on_gpu() else "simulated"
    for name, flow in FLOWS.items():
        X, y = texts(n) if flow.backbone == "tiny/bert" else images(n, 32), np.arange(n) % 2
        backbone = network(flow.backbone)
        is_trained = flow.make is FineTuneClassifier
        options = {"batch_size": size, **({} if is_trained else {"cache": None}), **flow.parameters}

        def fitted(where: str, X: Any = X, y: Any = y, flow: Flow = flow, options: Any = options, **more: Any) -> Any:
            return flow.make(network(flow.backbone), device=where, **{**options, **more}).fit(X, y)

        def values(estimator: Any, X: Any = X, is_trained: bool = is_trained) -> np.ndarray:
            found: np.ndarray = estimator.predict_proba(X) if is_trained else estimator.transform(X)
            return found

        expected = values(fitted("cpu"))
        with nullcontext() if on_gpu() else simulated_cuda() as gpu, without_tf32():
            before = torch.cuda.memory_allocated()
            estimator = fitted("cuda")
            backbone.copies.clear()
            gc.collect()
            left = torch.cuda.memory_allocated() - before
            difference = float(np.abs(values(estimator) - expected).max() / np.abs(expected).max())
            if is_trained:  # what one more epoch waits
                counts = [waits(functools.partial(fitted, "cuda", max_epochs=epochs), gpu) for epochs in (2, 3)]
                waited = counts[1] - counts[0]
            else:
                waited = waits(functools.partial(values, estimator), gpu)
            del estimator
            backbone.copies.clear()
        what, per_batch = f"{name} ({place}): largest difference", waited / (n // size)
        marks: dict[str, Any] = {"must": TOLERANCE, "at_most": True}
        report.judge(what, [difference], **marks, left=left, waits=per_batch, waits_before=flow.before)


def waits(program: Callable[[], Any], gpu: Any) -> int:
    """Return how often the CPU waits for a GPU in a program, as a simulation or torch counts it."""
    if gpu is not None:
        gpu.reset()
        program()
        return int(sum(gpu.syncs.values()))
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            program()
    finally:
        torch.cuda.set_sync_debug_mode(before)
    return sum("synchronizing" in str(one.message) for one in caught)


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


def boundary(report: Report) -> None:
    """Report epochs above a frozen prefix whose outputs are copied in each epoch, over ones that stay on the GPU."""
    n, size = scaled(8192, 32), scaled(128, 8)
    for name, X in (("tiny/cnn", images(n, 32)), ("tiny/bert", texts(n))):
        options: dict[str, Any] = {"layer": -1, "freeze_depth": -1, "max_epochs": scaled(6, 2), "batch_size": size}
        tuner = FineTuneClassifier(network(name), head_init="random", device=device(), random_state=SEED, **options)
        y = np.arange(n) % 2

        def program(limit: int | str, tuner: Any = tuner, X: Any = X, y: Any = y) -> None:
            with config_context(cache_device=limit):
                tuner.fit(X, y)

        programs = {"kept": functools.partial(program, "16 GB"), "copied": functools.partial(program, 1)}
        in_turn(programs, 1)  # fills the cache
        taken = in_turn(programs, scaled(3, 1))
        what = f"{name}: epochs with copies of the boundary, over without"
        report.judge(what, ratios(taken["copied"], taken["kept"]), must=0.97, aim=1.2, N=n, seconds=taken["kept"][0])


def batches(report: Report) -> None:
    """Report samples per second in batches that fill the memory, as a share of the best fixed size."""
    n = scaled(20_000, 48)
    photos = images(scaled(4096, 16), scaled(224, 32))
    cases: list[tuple[str, Any, Any]] = [
        ("tiny/bert", TextFeaturizer, texts(n)),
        (of_photos(), ImageFeaturizer, photos),
    ]
    for name, make, X in cases:
        sizes: list[Any] = ["auto", *((64, 256, 1024) if on_gpu() else (8, 16))]
        ours = {
            size: make(network(name), precision="bfloat16", cache=None, device=device(), batch_size=size).fit(X[:2])
            for size in sizes
        }
        programs = {str(size): functools.partial(one.transform, X) for size, one in ours.items()}
        in_turn(programs, 1)
        taken = in_turn(programs, scaled(3, 1))
        best = min(list(programs)[1:], key=lambda size: float(np.median(taken[size])))
        what = f"{name}, bfloat16: batches by memory, share of the best fixed size"
        rate = len(X) / float(np.median(taken["auto"]))
        report.judge(what, ratios(taken[best], taken["auto"]), must=0.9, aim=1.0, per_second=rate, best=best)


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
    "flows": (flows, 30),
    "throughput": (throughput, 100),
    "epoch": (epoch, 50),
    "boundary": (boundary, 40),
    "batches": (batches, 60),
    "busy": (busy, 40),
    "search": (search, 40),
    "memory": (memory, 20),
    "files": (files, 40),
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
