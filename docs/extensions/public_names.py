"""Public names in texts, and the modules that they belong to."""

from __future__ import annotations

import sktransfer
import sktransfer.backbones
import sktransfer.exceptions

# A name of several modules belongs to the last one.
MODULES = (sktransfer.backbones, sktransfer.exceptions, sktransfer)
QUALIFIED = {name: f"{module.__name__}.{name}" for module in MODULES for name in module.__all__}


def qualified(text: str) -> str:
    """Return the public name, with its module, that a text in code style stands for, or "" if it stands for none.

    Functions of `sktransfer.backbones` have names that parameters have as well, so they need their module.
    """
    name = text.removesuffix("()")
    if name in QUALIFIED.values():
        return name
    name = name.removeprefix("sktransfer.")
    return QUALIFIED.get(name, "") if name[:1].isupper() or name in sktransfer.__all__ else ""
