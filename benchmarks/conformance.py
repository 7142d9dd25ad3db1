"""Conformance of backbones: the checks of sktransfer.testing on one model per family, with random weights.

    python -m benchmarks.conformance [--only torchvision hf timm tiny]

The output has one row per model and the message of each failing check. No weights are downloaded. The families of timm
need its plugin (`pip install plugins/timm`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from benchmarks.common import Report
from sktransfer.config import config_context
from sktransfer.testing import check_backbone
from tests.helpers.huggingface_folders import IMAGE_MODELS, TEXT_MODELS, make_folder

MODELS = {
    "tiny": ["cnn", "bert"],
    "torchvision": [
        *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet"),
        *("inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf"),
        *("resnet18", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11"),
        *("vit_b_32", "wide_resnet50_2"),
    ],
    "timm": [
        *("resnet10t", "regnetx_002", "convnext_atto", "mobilenetv3_small_050", "efficientnet_lite0"),
        *("densenet121", "vit_tiny_patch16_224", "deit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
    ],
}


def names(only: list[str], work: Path) -> Iterator[str]:
    """Yield the names of the backbones to check. Those of `hf` are created with random weights, one folder each."""
    for provider in only:
        if provider == "hf":
            for case in TEXT_MODELS | IMAGE_MODELS:
                folder = work / case.replace(" ", "_")
                folder.mkdir()
                make_folder(case, folder)
                yield f"hf/{folder}"
        else:
            yield from (f"{provider}/{model}" for model in MODELS[provider])


def main() -> int:
    """Return 1 if a check failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["tiny", "torchvision", "hf", "timm"])
    report, failed = Report("checks passed, of those that apply", "conformance"), 0
    with tempfile.TemporaryDirectory() as work, config_context(download="never"):
        for name in names(parser.parse_args().only, Path(work)):
            started = time.perf_counter()
            results = check_backbone(name, on_fail=None)
            counts = Counter(result.status for result in results)
            short = name.replace(work, "…")
            seconds = round(time.perf_counter() - started)
            share = counts["passed"] / (len(results) - counts["not run"])
            report.row(short, [share], passed=counts["passed"], not_run=counts["not run"], seconds=seconds)
            for result in results:
                if result.status == "failed":
                    failed += 1
                    print(f"    {result.name}: {result.reason}", flush=True)
    report.write()
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
