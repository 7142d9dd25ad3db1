"""Pretrain `tiny/cnn` on 100,000 images of 32x32 pixels and 200 classes, and write the shipped weights.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.pretraining.tiny_cnn

Training is seeded and runs on one core. To resume from the checkpoint of the last epoch, run the same command again.
"""

from __future__ import annotations

import argparse
import copy
import io
import lzma
import os
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.data import ImageNetInfo
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from benchmarks.pretraining.common import (
    SHIPPED,
    groups_of,
    load_checkpoint,
    save_checkpoint,
    update_average,
    write_weights,
)
from sktransfer.providers.tiny_cnn import MEAN, STD, build_head, build_stages


def decoded(data: Path, work: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Return images (n, 32, 32, 3) uint8 as a memory map, labels, splits (0 train, 1 validation), WordNet ids."""
    with lzma.open(data / "images" / "tiny_imagenet32.npz.xz") as file:
        archive = dict(np.load(io.BytesIO(file.read()), allow_pickle=False))
    y, offsets = archive["y"], archive["off"]
    path = work / "tiny_imagenet32.npy"
    if not path.exists():
        pixels = np.lib.format.open_memmap(path.with_suffix(".part"), "w+", np.uint8, (len(y), 32, 32, 3))
        for i in range(len(y)):
            jpeg = archive["data"][offsets[i] : offsets[i + 1]].tobytes()
            pixels[i] = np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB"))
        pixels.flush()
        path.with_suffix(".part").rename(path)
    return np.load(path, mmap_mode="r"), y, archive["split"], [str(name) for name in archive["classes"]]


def augmented(images: Tensor, size: int, border: int, generator: torch.Generator) -> Tensor:
    """Return crops (n, 3, size, size) of images (n, 3, 32, 32) within a border of reflected pixels, half flipped."""
    n = len(images)
    flip = torch.rand(n, generator=generator) < 0.5
    images = torch.where(flip[:, None, None, None], images.flip(3), images)
    padded = F.pad(images, (border,) * 4, mode="reflect")  # (n, 3, 32 + 2 border, 32 + 2 border)
    places = padded.shape[-1] - size + 1
    rows = torch.randint(0, places, (n, 1), generator=generator) + torch.arange(size)  # (n, size)
    columns = torch.randint(0, places, (n, 1), generator=generator) + torch.arange(size)  # (n, size)
    sample = torch.arange(n)[:, None, None]
    crops = padded.permute(0, 2, 3, 1)[sample, rows[:, :, None], columns[:, None, :]]  # (n, size, size, 3)
    return crops.permute(0, 3, 1, 2)  # (n, 3, size, size), channels last in memory


def normalized(pixels: np.ndarray) -> Tensor:
    """Return uint8 images (n, 32, 32, 3) as float (n, 3, 32, 32) of about zero mean and unit deviation."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float() / 255
    return (images - torch.tensor(MEAN).view(1, 3, 1, 1)) / torch.tensor(STD).view(1, 3, 1, 1)


class Network(nn.Module):
    """The stages, average pooling, and the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleDict(dict(build_stages()))
        self.head = build_head()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, 200)."""
        for stage in self.stages.values():
            images = stage(images)
        return self.head(images.mean((2, 3)))  # (n, 512) -> (n, 200)


@torch.no_grad()
def accuracy(network: Network, pixels: np.ndarray, y: np.ndarray) -> float:
    """Return top-1 accuracy over images (n, 32, 32, 3)."""
    network.eval()
    right = 0
    for start in range(0, len(y), 500):
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(normalized(pixels[start : start + 500]))
        right += int((logits.argmax(1).numpy() == y[start : start + 500]).sum())
    return right / len(y)


def train(args: argparse.Namespace) -> None:
    """Train on small crops, then on whole images, from the last checkpoint if there is one. Write the weights."""
    args.work.mkdir(parents=True, exist_ok=True)
    pixels, y, split, classes = decoded(Path(os.environ["SKTRANSFER_TEST_DATA"]), args.work)
    train_rows, validation_rows = np.flatnonzero(split == 0), np.flatnonzero(split == 1)
    torch.manual_seed(args.seed)
    network = Network().to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    steps, epochs = len(train_rows) // args.batch_size, args.small_epochs + args.whole_epochs
    optimizer = torch.optim.SGD(groups_of(network, 5e-4), lr=args.lr, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=epochs * steps, pct_start=0.2)
    checkpoint = args.work / "tiny_cnn.pt"
    parts = {"network": network, "average": average, "optimizer": optimizer, "schedule": schedule}
    state = load_checkpoint(checkpoint, **parts) or {"epoch": 0, "seconds": 0.0}
    seconds = state["seconds"]
    for epoch in range(state["epoch"], epochs):
        started = time.perf_counter()
        # Crops of 24 pixels keep the scale of objects and cost half as much, so most epochs use them.
        size, border = (24, 0) if epoch < args.small_epochs else (32, 4)
        generator = torch.Generator().manual_seed(1000 * args.seed + epoch)  # so that resuming changes nothing
        order = train_rows[torch.randperm(len(train_rows), generator=generator).numpy()]
        network.train()
        bar = tqdm(range(steps), desc=f"epoch {epoch + 1}/{epochs}", unit="batch", mininterval=2)
        for step in bar:
            rows = np.sort(order[step * args.batch_size : (step + 1) * args.batch_size])
            images = augmented(normalized(pixels[rows]), size, border, generator)
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(images)
            loss = F.cross_entropy(logits.float(), torch.from_numpy(y[rows]).long(), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            update_average(average, network, epoch * steps + step)
            if step % 50 == 0:
                bar.set_postfix(loss=f"{loss.item():.3f}")
        seconds += time.perf_counter() - started
        top1 = accuracy(average, pixels[validation_rows], y[validation_rows])
        tqdm.write(f"epoch {epoch + 1}/{epochs}: validation top-1 {top1:.4f} after {seconds / 60:.1f} minutes")
        states = {name: part.state_dict() for name, part in parts.items()}
        save_checkpoint(checkpoint, states | {"epoch": epoch + 1, "seconds": seconds})
        figures = {"top1": round(top1, 4), "epochs": epoch + 1, "of": epochs, "minutes": round(seconds / 60, 1)}
        preprocess = {"resize": [32, 32], "mean": MEAN, "std": STD, "interpolation": "bicubic"}
        names = [ImageNetInfo().label_name_to_description(wordnet_id).split(",")[0] for wordnet_id in classes]
        metadata = {"preprocess": preprocess, "categories": names, "wordnet_ids": classes, "figures": figures}
        write_weights(args.out / "tiny_cnn.safetensors", average, **metadata)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small-epochs", type=int, default=12, help="epochs on crops of 24 pixels")
    parser.add_argument("--whole-epochs", type=int, default=10, help="epochs on images of 32 pixels after them")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path("pretraining"), help="decoded images and checkpoints")
    parser.add_argument("--out", type=Path, default=SHIPPED)
    train(parser.parse_args())
