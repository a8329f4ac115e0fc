"""Run a soak: `python -m soak fuzz --help`."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

NAMES = tuple(sorted(file.stem for file in Path(__file__).parent.glob("[!_]*.py")))

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"usage: python -m soak {{{','.join(NAMES)}}} [options]")
    sys.exit(importlib.import_module(f"soak.{sys.argv[1]}").main(sys.argv[2:]))
