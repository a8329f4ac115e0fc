"""Preload: what every worker needs and takes seconds to import, imported once before workers are forked."""

# isort: off
import rib._compat  # before timm
import timm  # noqa: F401
import rib.execute.worker
import rib.methods
# isort: on

rib.methods.registered()
