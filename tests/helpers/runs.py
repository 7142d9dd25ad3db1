"""Runs and data sets of the trainer without an estimator."""

from __future__ import annotations

import numpy as np
import torch

from sktransfer import FineTuneClassifier, load_backbone
from sktransfer.engine.compute import Compute
from sktransfer.engine.inputs import PreprocessedSamples
from sktransfer.samples.images import check_images
from sktransfer.samples.texts import check_texts
from sktransfer.tasks.base import Targets
from sktransfer.testing.samples import make_samples
from sktransfer.training.data import FrozenPrefixDataset
from sktransfer.training.run import FitRun, choose_trunk
from sktransfer.training.samplers import Batches
from sktransfer.training.settings import check_settings
from tests.helpers.small_bert import small_bert

CPU = Compute(torch.device("cpu"))
SEVERAL = ("task_weights", "task_sampling", "aggregator")  # parameters of estimators with several tasks


def fit_run(X, backbone, tasks, targets, *, freeze_depth=-1, layer=-1, store=None, batches=Batches, **options):
    """Return a run of some tasks on a backbone, for `sktransfer.training.trainer.train`."""
    backbone = load_backbone(backbone)
    options = {"max_epochs": 3, "lr": 1e-3, "head_init": "random", "batch_size": 8, **options}
    estimator = FineTuneClassifier(**{name: value for name, value in options.items() if name not in SEVERAL})
    vars(estimator).update({name: value for name, value in options.items() if name in SEVERAL})
    settings = check_settings(estimator)
    reads = [task.reads for task in tasks.values()]
    trunk = choose_trunk(backbone, layer, "auto", freeze_depth, reads)
    samples = (check_images if backbone.modality == "image" else check_texts)(X)
    inputs = PreprocessedSamples(samples, backbone.preprocess, keep=True)
    torch.manual_seed(0)
    return FitRun(
        settings=settings,
        compute=CPU,
        store=store,
        seed=0,
        trunk=trunk,
        inputs=inputs,
        tasks=tasks,
        targets=targets,
        batches=batches,
    )


def dataset(modality, boundary, n=13, layers=()):
    """Return samples at a freezing boundary, with their row numbers as targets."""
    X, _ = make_samples(modality, n)
    backbone = load_backbone("tiny/cnn" if modality == "image" else "hf/" + small_bert())
    samples = check_images(X) if modality == "image" else check_texts(X)
    return FrozenPrefixDataset(
        backbone,
        PreprocessedSamples(samples, backbone.preprocess),
        boundary,
        len(backbone.stages),
        {"features": list(layers)},
        rows=range(n),
        targets={"y": Targets(np.arange(n), np.ones(n))},
        compute=CPU,
        store=None,
    )
