"""Run every fuzzer for a share of the time, each in its own process, and print the counts and the findings.

python -m tests.fuzz.fuzz [SECONDS]
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def run(path: Path, seconds: float) -> tuple[str, bool]:
    """Return the output of a fuzzer, and whether it ended without a finding."""
    command = [sys.executable, "-m", f"tests.fuzz.{path.stem}", str(seconds)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=HERE.parents[1], check=False, timeout=10 * seconds + 120
        )
    except subprocess.TimeoutExpired:
        return "did not end in time", False
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    if done.returncode:
        return "\n".join([f"ended with {done.returncode}", *lines, done.stderr[-3000:]]), False
    return "\n".join(lines), True


def main() -> int:
    """Return 0 if there was no finding."""
    paths = sorted(HERE.glob("fuzz_*.py"))
    seconds = float(sys.argv[1] if len(sys.argv) > 1 else 600) / len(paths)
    good = True
    for path in paths:
        output, ended = run(path, seconds)
        print(f"{path.stem} ({seconds:.0f} s): {output}", flush=True)
        good &= ended
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
