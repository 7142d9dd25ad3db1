"""Run every fuzzer for a share of the time, each in a process of its own; print what was tried and what was found.

python tests/fuzz/fuzz.py [SECONDS]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(path: Path, seconds: float) -> tuple[str, bool]:
    """Return what a fuzzer says at its end, and whether it has come to it without a finding."""
    command = [sys.executable, str(path), str(seconds)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10 * seconds + 120)
    except subprocess.TimeoutExpired:
        return "does not come to an end", False
    said = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return "\n".join([f"ended with {done.returncode}", *said, done.stderr[-3000:]]), False
    return "\n".join(said), True


def main() -> int:
    """Return 0 where nothing was found."""
    paths = sorted(HERE.glob("fuzz_*.py"))
    seconds = float(sys.argv[1] if len(sys.argv) > 1 else 600) / len(paths)
    good = True
    for path in paths:
        said, ended = run(path, seconds)
        print(f"{path.stem} ({seconds:.0f} s): {said}", flush=True)
        good &= ended
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
