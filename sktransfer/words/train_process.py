"""fastText's training in a process of its own: `python train_process.py settings.json`.

fastText 0.9.3 draws a tenth of its matrix at random where it trains by one thread, and takes the rest as it finds
memory. In a process that runs for a while that is what was left there, not-a-number included, and the same seed gives
other vectors. Here every piece of memory starts as zeros: who starts this sets MALLOC_PERTURB_. Ctrl-C works, too.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

__all__ = ["main"]


def main(path: str) -> None:
    """Train as the settings say, and save the model.

    Parameters
    ----------
    path : str
        A JSON file: `path` (where modules are looked for), `arguments` (fastText's), `model`, `loss`, `save`.
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
