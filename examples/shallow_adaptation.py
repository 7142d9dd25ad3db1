"""Shallow domain adaptation by skada on features of a frozen network, chosen without labels of the target.

    python examples/shallow_adaptation.py

The source is the digits of scikit-learn. The target is other digits of the same set, out of focus and without labels.
`ImageFeaturizer` computes features, adapters of skada change those of the source, and `make_domain_scorer` judges the
result without labels of the target. The last column of the table is the accuracy with these labels. The script needs
`pip install skada`.
"""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
from matplotlib import pyplot as plt
from scipy.ndimage import gaussian_filter
from sklearn import config_context, get_config, set_config
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from sktransfer import ImageFeaturizer, make_domain_scorer

before = get_config()["enable_metadata_routing"]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import skada
set_config(enable_metadata_routing=before)  # importing skada turns metadata routing on for the whole process

ADAPTERS = {
    "none": [],
    "CORAL": [skada.CORALAdapter()],
    "subspace alignment": [skada.SubspaceAlignmentAdapter(n_components=50)],
    "linear optimal transport": [skada.LinearOTMappingAdapter(reg=0.1)],
    "transfer component analysis": [skada.TransferComponentAnalysisAdapter(n_components=30)],
}
SCORES = ("im", "snd", "entropy", "mano", "circular")


def main() -> None:
    """Print the table and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=600, help="images of each domain")
    parser.add_argument("--out", type=Path, default=Path("demo"))
    args = parser.parse_args()
    started, rng = time.perf_counter(), np.random.default_rng(0)

    digits, labels = load_digits(return_X_y=True)
    rows = rng.permutation(len(digits))[: 2 * args.n]
    source, target = np.split(digits[rows] / 16, 2)  # pixels are counts from 0 to 16
    target = gaussian_filter(target.reshape(-1, 8, 8), (0, 0.8, 0.8)).reshape(-1, 64)
    y, y_target = np.split(labels[rows], 2)
    X = np.concatenate([source, target])
    masked = np.concatenate([y, np.full(args.n, -1)])  # -1 stands for no label in skada
    domain = np.repeat([1, -1], args.n)

    print(
        f"{args.n} digits of each domain\n\n{'adapter':30s}" + "".join(f"{name:>9s}" for name in (*SCORES, "accuracy"))
    )
    table = {}
    with config_context(enable_metadata_routing=True):
        for name, adapter in ADAPTERS.items():
            steps = [ImageFeaturizer("tiny/cnn", layer="block4"), StandardScaler(), *adapter]
            model = skada.make_da_pipeline(*steps, LogisticRegression(max_iter=1000))
            model.fit(X, masked.copy(), sample_domain=domain)  # skada writes into y
            scores = [make_domain_scorer(score)(model, X, masked, sample_domain=domain) for score in SCORES]
            table[name] = [*scores, float(np.mean(model.predict(target) == y_target))]
            print(f"{name:30s}" + "".join(f"{value:9.3f}" for value in table[name]))
    names = list(table)
    values = np.array(list(table.values()))  # (n_adapters, n_scores + 1)
    for column, score in enumerate(SCORES):
        print(f"{score} chooses {names[int(values[:, column].argmax())]}")

    args.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(1, len(SCORES), figsize=(11, 3), sharey=True, layout="constrained")
    for ax, score, column in zip(axes, SCORES, values.T):
        for name, x, accuracy in zip(names, column, values[:, -1]):
            ax.plot(x, accuracy, "o", label=name)
        ax.set(xlabel=f"score {score!r}")
        ax.grid(alpha=0.3)
    axes[0].set_ylabel("accuracy on the target")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(args.out / "shallow_adaptation.png", dpi=90)
    plt.close("all")
    print(f"\npicture: {args.out}/shallow_adaptation.png\n{time.perf_counter() - started:.0f} seconds")


if __name__ == "__main__":
    main()
