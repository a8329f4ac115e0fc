"""Named random draws: each name has its own generator, and no generator is global."""

import hashlib

import torch
from torch import Tensor

from rib.data.digits.domains import WORLD_VERSION
from rib.data.digits.looks import Range


def seed_of(*name: object) -> int:
    """A 63-bit seed that depends only on the world's version and the name."""
    text = "/".join(["rib.digits", str(WORLD_VERSION), *map(str, name)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class DigitDraws:
    """Random tensors with one row per image, from the generator that `name` seeds."""

    def __init__(self, count: int, *name: object) -> None:
        self.count = count
        self.generator = torch.Generator().manual_seed(seed_of(*name))

    def uniform(self, bounds: Range = (0.0, 1.0), *shape: int) -> Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(self.count, *shape, generator=self.generator)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(self.count, *shape, generator=self.generator)

    def coin(self, share: float) -> Tensor:
        """True for about the share `share` of the images: bool [N]."""
        return torch.rand(self.count, generator=self.generator) < share

    def choice(self, high: int, *shape: int) -> Tensor:
        return torch.randint(high, (self.count, *shape), generator=self.generator)

    def permutation(self, length: int) -> Tensor:
        return torch.randperm(length, generator=self.generator)
