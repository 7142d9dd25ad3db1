"""Entry point of `python -m sktransfer`, the same as the command `sktransfer`."""

from __future__ import annotations

import sys

from sktransfer.cli import main

if __name__ == "__main__":
    sys.exit(main())
