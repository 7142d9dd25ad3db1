"""Worker processes of a search, each with its own GPU."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import FineTuneClassifier
from tests.helpers.simulated_cuda import CAN_SIMULATE, install
from tests.test_gpu import IMAGES, LABELS, TRAINING

pytestmark = [pytest.mark.gpu, pytest.mark.process]


class Placed(Callback):
    """Write the device of each training in a worker, and begin when both workers have one.

    A worker without a GPU simulates two.
    """

    def __init__(self, folder):
        self.folder = folder

    def __setstate__(self, state):
        vars(self).update(state)
        if "Loky" in multiprocessing.current_process().name and not torch.cuda.is_available():
            install()

    def on_train_begin(self, net, **kwargs):
        if "Loky" in multiprocessing.current_process().name:
            Path(self.folder, f"{os.getpid()} {net.device}").touch()
            end = time.monotonic() + 600
            while len(list(Path(self.folder).iterdir())) < 2 and time.monotonic() < end:
                time.sleep(0.05)


def search(folder, device, n_jobs):
    tuner = FineTuneClassifier(layer=-1, device=device, callbacks=[Placed(str(folder))], **TRAINING)
    options = {"cv": 2, "scoring": "neg_log_loss", "refit": False, "error_score": "raise"}
    return GridSearchCV(tuner, {"freeze_depth": [2, "all"]}, n_jobs=n_jobs, **options).fit(IMAGES, LABELS)


@pytest.mark.skipif(not CAN_SIMULATE, reason="this version of torch is too old to simulate a GPU")
def test_workers_of_a_search_train_on_a_gpu_each(tmp_path):
    try:
        found = search(tmp_path, "auto", n_jobs=2).cv_results_["mean_test_score"]
    finally:
        get_reusable_executor().shutdown(wait=True)  # its workers simulate devices until they end
    expected = search(tmp_path, "cpu", n_jobs=1).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected, atol=2e-4)
    placed = [path.name.split() for path in tmp_path.iterdir()]
    assert len({worker for worker, _ in placed}) == len(placed) == 2  # each worker stays on its device
    n_devices = torch.cuda.device_count() or 2
    assert len({device for _, device in placed}) == min(2, n_devices)
