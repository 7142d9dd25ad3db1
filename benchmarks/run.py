"""Run every benchmark in turn and write `results/benchmarks.json` and a picture with one bar per question.

    SKTRANSFER_TEST_DATA=... [SIZE=full] python -m benchmarks.run [question ...]

Each benchmark prints its table and writes `results/<question>.json`. Without SIZE=full, the sizes are small enough for
20 minutes on two cores, and only the benchmarks of speed run.
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
SPEED += ["token_throughput", "memory", "streaming", "second_process", "multitask_cost", "runtimes"]
ACCURACY = ["tiny_images", "tiny_texts", "hymenoptera", "movie_reviews", "words", "recipes", "ranking", "few_shot"]
ACCURACY += ["layer_mix", "source_task", "freezing_curve", "forgetting", "mixed_table", "multitask", "segmentation"]
ACCURACY += ["joined", "tagging", "domains"]


def collect(questions: Sequence[str], took: dict[str, float]) -> dict[str, Any]:
    """Collect the result files of the questions. A question without a file is missing."""
    results: dict[str, Any] = {}
    for name in questions:
        path = RESULTS / f"{name}.json"
        if path.is_file():
            results[name] = {**json.loads(path.read_text()), "wall_seconds": round(took.get(name, 0.0), 1)}
    machine = {"machine": platform.machine(), "system": platform.system(), "cores": os.cpu_count()}
    return {"size": os.environ.get("SIZE", "default"), **machine, "questions": results}


def judged(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that have a mark to reach, each with its question."""
    questions = content["questions"].items()
    return [{**row, "question": name} for name, result in questions for row in result["rows"] if "must" in row]


def main() -> int:
    """Return 0 if all benchmarks ran. A missed mark is shown, but it is not a failure of the run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = SPEED + (ACCURACY if os.environ.get("SIZE") == "full" else [])
    parser.add_argument("questions", nargs="*", default=default, help=f"any of {', '.join(SPEED + ACCURACY)}")
    questions = parser.parse_args().questions
    unknown = sorted(set(questions) - set(SPEED + ACCURACY))
    if unknown:
        parser.error(f"{unknown} is not a question; allowed are {SPEED + ACCURACY}")
    data_folder()
    took, codes = {}, {}
    for name in questions:
        (RESULTS / f"{name}.json").unlink(missing_ok=True)  # an old file must not hide a failed run
        folder = "speed" if name in SPEED else "accuracy"
        started = time.perf_counter()
        codes[name] = subprocess.run([sys.executable, "-m", f"benchmarks.{folder}.{name}"], check=False).returncode
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
