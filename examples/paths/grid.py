"""Picture of the eight paths of transfer, by three questions.

    python examples/paths/grid.py

Is the task the same? Is the domain the same? Does one training follow the other, or are both one training?
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

# Order in time -> (task, domain) -> name and the call that makes the path.
PATHS = {
    "one after the other": {
        ("same task", "same domain"): ("task fine-tuning", "FineTuneClassifier(\nfirst.backbone_, head=first.head_)"),
        ("same task", "other domain"): ("domain adaptation", "DomainAdaptationClassifier\n.fit(X, y with None)"),
        ("other task", "same domain"): ("task adaptation", "ImageFeaturizer(\nsource.backbone_)"),
        ("other task", "other domain"): ("modality transfer", "a pretrained network\non another kind of data"),
    },
    "together": {
        ("same task", "same domain"): ("data-set merging", 'merge_tasks({...},\ntask="digit")'),
        ("same task", "other domain"): ("weight sharing", "merge_tasks({...}):\na head per domain"),
        ("other task", "same domain"): ("multi-task learning", "MultiTaskFineTuner\n.fit(X, Y)"),
        ("other task", "other domain"): ("parallel training", "merge_tasks({...}):\na head per task"),
    },
}
TASKS, DOMAINS = ("same task", "other task"), ("same domain", "other domain")
COLOURS = {"one after the other": "#cfe5f3", "together": "#fbe3cf"}


def draw(ax: Axes, order: str) -> None:
    """Draw the four paths of an order in time.

    Parameters
    ----------
    ax : Axes
        Axes to draw in.
    order : str
        Key of `PATHS`.
    """
    for (task, domain), (name, call) in PATHS[order].items():
        x, y = DOMAINS.index(domain), 1 - TASKS.index(task)
        ax.add_patch(plt.Rectangle((x + 0.03, y + 0.03), 0.94, 0.94, facecolor=COLOURS[order], edgecolor="#888888"))
        ax.text(x + 0.5, y + 0.7, name, ha="center", va="center", fontsize=12, weight="bold")
        ax.text(x + 0.5, y + 0.33, call, ha="center", va="center", fontsize=7.5, family="monospace")
    ax.set(xlim=(0, 2), ylim=(0, 2), xticks=(0.5, 1.5), yticks=(0.5, 1.5))
    ax.set_xticklabels(DOMAINS)
    ax.set_yticklabels(TASKS[::-1], rotation=90, va="center")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_title(order, fontsize=13)


def main() -> None:
    """Save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for ax, order in zip(axes, PATHS):
        draw(ax, order)
    figure.savefig(args.out / "path_grid.png", dpi=100)
    plt.close("all")
    print(f"picture: {args.out}/path_grid.png")


if __name__ == "__main__":
    main()
