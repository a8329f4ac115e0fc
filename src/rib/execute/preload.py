"""Preload: imports once, before workers are forked, the libraries that take seconds to import.

Only the process that forks the workers imports this module. From then on it ignores interrupts; its parent handles
them.
"""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)

# ruff: noqa: E402
# isort: off
import rib._compat  # before timm
import pyarrow.parquet  # noqa: F401
import scipy.linalg
import scipy.stats  # noqa: F401
import sklearn.linear_model  # noqa: F401
import threadpoolctl  # noqa: F401
import timm  # noqa: F401
import rib.execute.worker
import rib.analysis
import rib.methods
# isort: on

METHODS = rib.methods.METHODS.classes  # a registry imports every module of its room
ANALYSES = rib.analysis.ANALYSES.classes
