"""Time from `import` to the first features, compared with the unavoidable imports.

    python -m benchmarks.speed.startup

Each program runs in a new process, and the two alternate. The ratio is taken within each round, because speeds vary.
"""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.common import Report

ROUNDS = 3
PROGRAMS = {
    "tiny/cnn, 100 arrays": (
        "import numpy, torch, sklearn.base",
        "import numpy as np\n"
        "from sktransfer import ImageFeaturizer\n"
        "ImageFeaturizer('tiny/cnn').fit_transform(np.random.default_rng(0).random((100, 32, 32, 3)))",
    ),
    "tiny/bert, 100 texts": (
        "import numpy, torch, sklearn.base, tokenizers\nfrom transformers.models.bert import BertConfig, BertModel",
        "from sktransfer import TextFeaturizer\n"
        "TextFeaturizer('tiny/bert').fit_transform([f'{i} good reasons to see this film again' for i in range(100)])",
    ),
}


def seconds(program: str) -> float:
    """Return the seconds that a program takes in a new process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the ratios."""
    report = Report("new process: import to the features of 100 samples, over the bare imports", "startup")
    for what, (bare, ours) in PROGRAMS.items():
        seconds(bare)  # warms the disk cache for both programs
        pairs = [(seconds(bare), seconds(ours)) for _ in range(ROUNDS)]
        report.row(f"{what}: seconds, bare imports", [one for one, _ in pairs])
        report.row(f"{what}: seconds, to first features", [other for _, other in pairs])
        report.row(f"{what}: ratio", [other / one for one, other in pairs])
    report.write()


if __name__ == "__main__":
    main()
