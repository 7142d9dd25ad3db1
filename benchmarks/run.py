"""Run every benchmark, one after the other; each prints its table and writes `results/<name>.json`."""

from __future__ import annotations

import subprocess
import sys

QUESTIONS = ["startup", "tiny_images", "tiny_texts", "hymenoptera", "movie_reviews"]


def main() -> int:
    """Return 0 where all ran."""
    codes = [subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode for name in QUESTIONS]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
