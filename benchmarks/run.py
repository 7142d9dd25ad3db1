"""Run every benchmark, one after the other; write `results/benchmarks.json` and a picture with a bar a question.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.run [question ...]

Each prints its table and writes `results/<question>.json`. Without SIZE=full, sizes end within 20 minutes on two cores,
and the tables of accuracy, which say nothing of speed, are left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.common import RESULTS, data_folder
from benchmarks.picture import draw

SPEED = ["startup", "text_throughput", "image_throughput", "grid_search", "freeze_depth_search", "full_fine_tuning"]
SPEED += ["memory", "second_process"]
ACCURACY = ["tiny_images", "tiny_texts", "hymenoptera", "movie_reviews", "words", "recipes", "ranking", "few_shot"]
ACCURACY += ["layer_mix", "source_task", "freezing_curve", "forgetting"]


def collect(questions: Sequence[str], took: dict[str, float]) -> dict[str, Any]:
    """Return what the questions' files hold, in one; a question that left no file is missing."""
    found: dict[str, Any] = {}
    for name in questions:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            found[name] = {**json.loads(path.read_text()), "wall_seconds": round(took.get(name, 0.0), 1)}
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    return {"size": os.environ.get("SIZE", "default"), **machine, "questions": found}


def judged(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that have a mark to reach, each with its question."""
    found = content["questions"].items()
    return [{**row, "question": name} for name, one in found for row in one["rows"] if "must" in row]


def main() -> int:
    """Return 0 where all ran; what falls short is shown, and is no failure of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SPEED + (ACCURACY if os.environ.get("SIZE") == "full" else [])
    parser.add_argument("questions", nargs="*", default=default, help=f"of {', '.join(SPEED + ACCURACY)}")
    questions = parser.parse_args().questions
    unknown = sorted(set(questions) - set(SPEED + ACCURACY))
    if unknown:
        parser.error(f"{unknown} is no question; there are {SPEED + ACCURACY}")
    data_folder()
    took, codes = {}, {}
    for name in questions:
        (RESULTS / f"{name}.json").unlink(missing_ok=True)  # an old file must not stand for a run that failed
        started = time.perf_counter()
        codes[name] = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode
        took[name] = time.perf_counter() - started
        print(f"\n{name}: {took[name]:.0f} s\n", flush=True)
    RESULTS.mkdir(exist_ok=True)
    content = collect(questions, took)
    (RESULTS / "benchmarks.json").write_text(json.dumps(content, indent=1) + "\n")
    rows = judged(content)
    if rows:
        draw(rows, RESULTS / "benchmarks.png")
    failed = [name for name, code in codes.items() if code]
    reached = sum(row["kept"] for row in rows)
    print(
        f"{reached} of {len(rows)} marks reached in {sum(took.values()) / 60:.1f} minutes; see {RESULTS}/benchmarks.png"
    )
    if failed:
        print(f"failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
