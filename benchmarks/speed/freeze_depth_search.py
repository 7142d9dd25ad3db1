"""Cost of a grid search over freezing depths, compared with skorch nets with plain freezing.

    SKTRANSFER_TEST_DATA=... python -m benchmarks.speed.freeze_depth_search

Both train the same candidates, folds and epochs from the same heads, on the same batches, and single scores are
compared. The bound follows from the operation counts of the stages, if a frozen stage runs once per sample and
everything else is free. A trained stage counts three times in training (forward, and backward to weights and inputs)
and once in scoring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, StratifiedKFold
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.common import Report, mobilenet_weights, photos, sentence_encoder, sized, some_reviews
from benchmarks.speed.plain_freezing import HEAD_LR, LR, PlainImage, PlainText, plain_net, tokenized
from benchmarks.speed.timing import device, fastest, in_turn, ratios, seconds
from benchmarks.speed.users_way import as_users_write_it
from sktransfer import FineTuneClassifier, clear_cache, load_backbone

FOLDS, EPOCHS, SIDE = 3, 5, 96
RATES = [3e-4, 1e-3, 3e-3, 1e-2]
SEED = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))  # the seed that random_state=0 draws
DEPTHS: dict[str, list[int | str]] = {
    "(a) four depths": ["all", -1, -2, -3],
    "(b) all and -1": ["all", -1],
    "(c) all, 4 learning rates": ["all"],
}
FIRST_CASE, _, RATES_CASE = DEPTHS
TOLERANCE = 0.01  # of a mean score; rounding can turn a sample at the boundary
# Fewer epochs are enough from a probe, and successive halving drops the worse depths early.
LEVERS = {"precision": "bfloat16", "head_init": "probe", "max_epochs": 2}


class Task:
    """Samples, our backbone, and the module of the peer."""

    def __init__(self, name: str, X: Any, y: np.ndarray, n_test: int) -> None:
        n = len(X) - n_test
        self.name, self.y, self.y_test = name, y[:n], y[n:]
        self.X, self.X_test = X[:n], X[n:]
        self.folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
        self.n_train = n * (FOLDS - 1) // FOLDS

    def peer_X(self, X: Any) -> Any:
        """Return the samples in the format of the peer. The conversion counts as its time."""
        raise NotImplementedError

    module: type[PlainText] | type[PlainImage]
    backbone: Any
    options: dict[str, Any]
    probe_input: tuple[torch.Tensor, torch.Tensor | None]


class Texts(Task):
    """MR sentences and MiniLM."""

    module = PlainText

    def __init__(self, n: int, n_test: int) -> None:
        super().__init__("MiniLM, MR", *some_reviews(n + n_test), n_test)
        self.backbone = load_backbone(sentence_encoder())
        self.probe_input = torch.ones(1, 27, dtype=torch.long), torch.ones(1, 27, dtype=torch.bool)  # MR's mean length
        self.options = {}

    def peer_X(self, X: Any) -> Any:
        """Return token ids."""
        return tokenized(X)


class Photos(Task):
    """Photos at 96 pixels, decoded in advance for both, and MobileNetV2."""

    module = PlainImage

    def __init__(self, n: int, n_test: int) -> None:
        paths, y = photos()
        rows = np.random.default_rng(0).permutation(len(paths))[: n + n_test]
        images = [Image.open(paths[row]).convert("RGB").resize((SIDE, SIDE)) for row in rows]
        X = np.stack([np.asarray(image) for image in images])  # (n, 96, 96, 3), uint8
        super().__init__("MobileNetV2, photos", X, (y[rows] == y[0]).astype(int), n_test)
        unchanged = {"resize": None, "crop": None}
        self.backbone = load_backbone("torchvision/mobilenet_v2", weights=mobilenet_weights(), preprocess=unchanged)
        self.probe_input = torch.zeros(1, 3, SIDE, SIDE), None
        self.options = {"module__channels_last": self.best_layout()}

    def peer_X(self, X: Any) -> Any:
        """Return images with channels first."""
        return np.ascontiguousarray(X.transpose(0, 3, 1, 2))  # (n, 3, 96, 96)

    def best_layout(self) -> bool:
        """Return the memory layout in which the peer trains faster."""
        X, y = self.peer_X(self.X[:96]), self.y[:96]
        nets = {form: plain_net(PlainImage, len(X), 1, SEED, module__channels_last=form) for form in (False, True)}
        nets[False].fit(X[:32], y[:32])
        best: bool = fastest({form: lambda net=net: net.fit(X, y) for form, net in nets.items()})  # type: ignore[misc]
        return best


def operations(task: Task) -> list[float]:
    """Return the number of operations per stage for one sample."""
    values, mask = task.probe_input
    counts = []
    with torch.no_grad():
        for stage in task.backbone.stages:
            with FlopCounterMode(display=False) as counter:
                values = stage(values, mask)
            counts.append(float(counter.get_total_flops()))
    return counts


def bound(counts: Sequence[float], depths: Sequence[int], n_rates: int = 1) -> float:
    """Return the largest possible speed-up of caching, by operations, for a grid of depths and learning rates."""
    epochs, total = EPOCHS * (FOLDS - 1), sum(counts)  # passes over all samples in training
    naive, stored = 0.0, sum(counts[: max(depths)])
    for depth in depths:
        trained = sum(counts[depth:])
        naive += n_rates * (epochs * (total + 2 * trained) + total)
        stored += n_rates * (epochs * 3 * trained + trained)
    return naive / stored


def grids(task: Task, case: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return our parameter grid and the peer's."""
    depths = DEPTHS[case]
    ours: dict[str, Any] = {"freeze_depth": depths}
    peer: dict[str, Any] = {"module__freeze_depth": [task.backbone.n_frozen(depth) for depth in depths]}
    if case == RATES_CASE:  # with all stages frozen the head's rate is the one that matters
        ours["head_lr"] = RATES
        peer["optimizer__param_groups"] = [[("head.*", {"lr": rate})] for rate in RATES]
    return ours, peer


def tuner(task: Task, **options: Any) -> FineTuneClassifier:
    """Return our estimator with the settings of the peer."""
    settings: dict[str, Any] = {"layer": -1, "head_init": "random", "max_epochs": EPOCHS, "lr": LR, "head_lr": HEAD_LR}
    settings |= {"weight_decay": 0.0, "random_state": 0, **options}
    return FineTuneClassifier(task.backbone, **settings)


def our_search(task: Task, case: str) -> GridSearchCV:
    """Return our fitted grid search."""
    return GridSearchCV(tuner(task), grids(task, case)[0], cv=task.folds, refit=False).fit(task.X, task.y)


def peer_search(task: Task, case: str) -> GridSearchCV:
    """Return the peer's fitted grid search."""
    net = plain_net(task.module, task.n_train, EPOCHS, SEED, **task.options)
    return GridSearchCV(net, grids(task, case)[1], cv=task.folds, refit=False).fit(task.peer_X(task.X), task.y)


def halving_search(task: Task) -> HalvingGridSearchCV:
    """Return our fitted search of (a) with all settings that save time without a worse model."""
    grid = grids(task, FIRST_CASE)[0]
    search = HalvingGridSearchCV(
        tuner(task, **{**LEVERS, "head_lr": None}), grid, cv=task.folds, factor=2, random_state=0, refit=False
    )
    return search.fit(task.X, task.y)


def accuracy(model: Any, X: Any, y: np.ndarray) -> float:
    """Return the share of right predictions."""
    return float((model.predict(X) == y).mean())


def chosen_models(task: Task, ours: Any, peer: GridSearchCV) -> dict[str, Any]:
    """Return the test accuracy of the chosen models, trained on all training samples."""
    model = tuner(task, **{**LEVERS, "head_lr": None, **ours.best_params_}).fit(task.X, task.y)
    net = plain_net(task.module, len(task.X), EPOCHS, SEED, **task.options).set_params(**peer.best_params_)
    net.fit(task.peer_X(task.X), task.y)
    mine, other = accuracy(model, task.X_test, task.y_test), accuracy(net, task.peer_X(task.X_test), task.y_test)
    error = (other * (1 - other) / len(task.y_test)) ** 0.5  # standard error of the test accuracy
    chosen = {"chosen_ours": mine, "chosen_peer": other, "as_good": mine >= other - error}
    return {**chosen, "depth": ours.best_params_["freeze_depth"], "n_test": len(task.y_test)}


def compare(report: Report, task: Task, case: str, rounds: int, *, levers: bool = False) -> None:
    """Report the speed-up over the peer as a share of the bound, and the speed-up with all levers."""
    found: dict[str, Any] = {}
    programs: dict[str, Callable[[], Any]] = {
        "ours": lambda: found.update(ours=our_search(task, case)),
        "peer": lambda: found.update(peer=peer_search(task, case)),
    }
    if levers:
        programs["levers"] = lambda: found.update(levers=halving_search(task))
    taken = in_turn(programs, rounds, before=clear_cache)
    scores = [found[name].cv_results_["mean_test_score"] for name in ("ours", "peer")]
    difference = float(np.abs(scores[0] - scores[1]).max())
    assert difference <= max(TOLERANCE, 2 / len(task.X)), f"scores differ by {difference}: {scores}"
    depths = [task.backbone.n_frozen(depth) for depth in DEPTHS[case]]
    most = bound(operations(task), depths, len(RATES) if case == RATES_CASE else 1)
    gains = ratios(taken["peer"], taken["ours"])
    more: dict[str, Any] = {
        "speedup": float(np.median(gains)),
        "bound": most,
        "difference": difference,
        "best": float(scores[0].max()),
    }
    spent: dict[str, Any] = {f"seconds_{name}": float(np.median(values)) for name, values in taken.items()}
    what = f"{task.name} {case}: share of the bound"
    report.judge(what, [gain / most for gain in gains], must=0.75, aim=0.9, N=len(task.X), **more, **spent)
    if levers:
        models = chosen_models(task, found["levers"], found["peer"])
        what = f"{task.name} {case} with every lever, over plain freezing"
        report.judge(what, ratios(taken["peer"], taken["levers"]), must=3.0, aim=5.0, **models)


def over_users(report: Report, n: int) -> None:
    """Report (a) relative to typical skorch code, on few texts, because that code is slow."""
    task, case = Texts(n, 0), FIRST_CASE
    depths = grids(task, case)[1]["module__freeze_depth"]
    our_search(task, case)  # the first search of a process loads the model
    clear_cache()
    ours = seconds(lambda: our_search(task, case))
    clear_cache()
    levers = seconds(lambda: halving_search(task))
    peer = seconds(lambda: as_users_write_it(task.X, task.y, depths, task.folds, EPOCHS))
    what = "MiniLM, MR (a): over typical skorch code"
    more: dict[str, Any] = {"N": n, "seconds_ours": ours, "seconds_peer": peer, "with_every_lever": peer / levers}
    report.judge(what, [peer / ours], must=6.0, aim=15.0, **more)


def measure(report: Report, n_texts: int, n_images: int, n_users: int, n_test: int, rounds: int) -> None:
    """Report texts and images, and typical skorch code on texts."""
    for task in (Texts(n_texts, n_test), Photos(n_images, min(n_test, 396 - n_images))):
        clear_cache()
        tuner(task, max_epochs=1).fit(task.X[:32], task.y[:32])  # first calls are slow
        plain_net(task.module, 32, 1, SEED, **task.options).fit(task.peer_X(task.X[:32]), task.y[:32])
        for case in DEPTHS:
            compare(report, task, case, rounds, levers=case == FIRST_CASE)
    over_users(report, n_users)


def main() -> None:
    """Print the table."""
    report = Report(
        f"GridSearchCV over freezing depths, {FOLDS} folds, {EPOCHS} epochs, on {device()}", "freeze_depth_search"
    )
    measure(
        report,
        n_texts=sized(120, 2000),
        n_images=sized(120, 300),
        n_users=sized(12, 300),
        n_test=sized(300, 2000),
        rounds=sized(1, 3),
    )
    report.write()


if __name__ == "__main__":
    main()
