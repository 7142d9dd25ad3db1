"""Memory of `transform` as a function of the number of image files, without the returned array.

    python -m benchmarks.speed.memory

The benchmark compares the peak memory of new processes, one with few files and one with many. The size of the output is
subtracted. Only the first stages of tiny/cnn run, because 40,000 files take long. With `cache=None`, memory must not
grow. A second row shows the memory with `cache="memory"`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.common import Report, sized

PROGRAM = """
import json, resource, sys, time
from pathlib import Path
from sktransfer import ImageFeaturizer
folder, n, cache = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
paths = [str(folder / f"{number}.jpg") for number in range(n)]
featurizer = ImageFeaturizer("tiny/cnn", layer="block1", cache=cache or None).fit(paths[:1])
started = time.perf_counter()
features = featurizer.transform(paths)
spent = time.perf_counter() - started
unit = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
print(json.dumps({"peak": peak, "output": features.nbytes, "seconds": spent}))
"""


def write_images(folder: Path, n: int, different: int = 64) -> None:
    """Write n small JPEG files. Most are hard links, which still have their own paths."""
    rng = np.random.default_rng(0)
    for number in range(n):
        path = folder / f"{number}.jpg"
        if number < different:
            Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
            continue
        try:
            os.link(folder / f"{number % different}.jpg", path)
        except OSError:  # some file systems do not support links, or limit their number
            path.write_bytes((folder / f"{number % different}.jpg").read_bytes())


def peak(folder: Path, n: int, cache: str) -> dict[str, float]:
    """Return peak bytes, output bytes and seconds of a new process that transforms n files."""
    command = [sys.executable, "-c", PROGRAM, str(folder), str(n), cache]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(report: Report, few: int, many: int) -> None:
    """Report peak memory without the outputs."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_images(folder, many)
        for cache in ("", "memory"):
            peaks = {n: peak(folder, n, cache) for n in (few, many)}
            net = {n: found["peak"] - found["output"] for n, found in peaks.items()}
            sizes = {f"MB_at_{n}": net[n] / 1e6 for n in net} | {"seconds": peaks[many]["seconds"]}
            if cache:
                report.row(f"the same with cache={cache!r}", [net[many] / net[few]], **sizes)
            else:
                what = f"peak memory of transform without its output, {many} files over {few}"
                report.judge(what, [net[many] / net[few]], must=1.05, aim=1.0, at_most=True, **sizes)


def main() -> None:
    """Print the table."""
    report = Report("peak memory of transform on image files, tiny/cnn", "memory")
    measure(report, few=2000, many=sized(40000, 40000))
    report.write()


if __name__ == "__main__":
    main()
