"""Preload: what every worker needs and takes seconds to import, imported once before workers are forked.

Imported by the process that forks them and by no other: from here on it leaves an interrupt to its parent.
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

METHODS = rib.methods.METHODS.classes  # the registries import every module of theirs
ANALYSES = rib.analysis.ANALYSES.classes
