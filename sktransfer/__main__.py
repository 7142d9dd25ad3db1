"""`python -m sktransfer` is the command `sktransfer`."""

from __future__ import annotations

import sys

from sktransfer.cli import main

if __name__ == "__main__":
    sys.exit(main())
