"""Subprocess that trains word vectors by fastText: `python train_process.py settings.json`.

With one thread, fastText 0.9.3 initialises a tenth of its matrix at random and leaves the rest uninitialised. In a
long-running process that memory contains arbitrary values, NaN included, and equal seeds give different vectors. In
this subprocess memory starts as zeros, because the parent process sets MALLOC_PERTURB_. Ctrl-C works as well.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(path: str) -> None:
    """Train with the given settings, and save the model.

    Parameters
    ----------
    path : str
        A JSON file with the fields `path` (module search path), `arguments` (of fastText), `model` (architecture) and
        `save` (output path).
    """
    settings: dict[str, Any] = json.loads(Path(path).read_text("utf-8"))
    sys.path[:] = settings["path"]
    module = importlib.import_module("fasttext_pybind")
    arguments = module.args()
    for name, value in settings["arguments"].items():
        setattr(arguments, name, value)
    arguments.model = getattr(module.model_name, settings["model"])
    arguments.loss = module.loss_name.ns
    model = module.fasttext()
    module.train(model, arguments)
    model.saveModel(settings["save"])


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except RuntimeError as error:
        sys.exit(str(error))
