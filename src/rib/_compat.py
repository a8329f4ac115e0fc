"""Makes `import torchvision` work with a CPU build of torch.

The published torchvision wheel is built for a CUDA torch. With a CPU torch its compiled operators do not load, and the
import stops at a missing `torchvision::nms`. Declaring the two schemas is enough, because RIB calls neither. This
module is imported before torchvision and timm, and does nothing if the compiled operators load.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []


def declare_missing_operators() -> None:
    """Declare torchvision's `nms` and `qnms` if its compiled operators cannot load into this torch."""
    spec = importlib.util.find_spec("torchvision")
    if _declared or spec is None or spec.origin is None or _loads(Path(spec.origin).parent):
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(operator + _SCHEMA)
    _declared.append(library)  # a library object that is garbage-collected removes its operators


def _loads(package: Path) -> bool:
    compiled = [*package.glob("_C*.so"), *package.glob("_C*.pyd")]
    try:
        for path in compiled:
            torch.ops.load_library(str(path))
    except OSError:
        return False
    return bool(compiled)


declare_missing_operators()
