"""Rates of a GPU itself, measured before everything else: matrix products, and copies to the GPU and on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from bench.base import Row, Work, interleaved, shown
from rib.recipe import Precision

SIDE, BYTES = 8192, 2**30
"""Side of the matrices, and bytes of a copy."""

PRODUCTS = 10
"""Number of matrix products in a row, so that launching them takes no time."""


@dataclass(frozen=True)
class Rates:
    """The rates of a GPU, as a basis for shares.

    Attributes:
        products: floating-point operations per second of a product of square matrices, by precision.
        copies: bytes per second by kind: "host to device, pinned", "host to device, pageable", "device to device".
    """

    products: Mapping[Precision, float]
    copies: Mapping[str, float]

    def rows(self) -> list[Row]:
        """Rows without a goal."""
        sides = f"{SIDE} × {SIDE}"
        set_so = f"float32 products at torch's precision {torch.get_float32_matmul_precision()!r}"
        return [
            *(
                shown("GPU", f"{precision} matrix products", sides, f"{rate / 1e12:.3g} TFLOP/s", notes)
                for (precision, rate), notes in zip(self.products.items(), ("", set_so), strict=True)
            ),
            *(shown("GPU", road, f"{BYTES:,} bytes", f"{rate / 1e9:.3g} GB/s") for road, rate in self.copies.items()),
        ]


@cache
def rates(device: str) -> Rates:
    """The rates of a device, measured at the first call."""
    return measured(torch.device(device), SIDE, BYTES)


def measured(device: torch.device, side: int, size: int) -> Rates:
    """Rates for products of matrices of a given side, and for copies of `size` bytes."""
    factors = {
        "bf16": torch.randn(side, side, device=device, dtype=torch.bfloat16),
        "fp32": torch.randn(side, side, device=device),
    }
    there = torch.empty(size, dtype=torch.uint8, device=device)
    host = torch.ones(size, dtype=torch.uint8)
    sources = {
        "host to device, pinned": host.pin_memory() if device.type == "cuda" else host,
        "host to device, pageable": host,
        "device to device": torch.ones_like(there),
    }
    works: dict[str, Work] = {name: product(factor) for name, factor in factors.items()}
    works |= {name: copy(source, there) for name, source in sources.items()}
    timings = interleaved(works, 5)
    operations = PRODUCTS * 2 * side**3
    return Rates(
        products={"bf16": operations / timings.median("bf16"), "fp32": operations / timings.median("fp32")},
        copies={name: size / timings.median(name) for name in sources},
    )


def product(factor: Tensor) -> Work:
    """A function that multiplies a matrix by itself several times."""
    found = torch.empty_like(factor)
    return lambda: [torch.mm(factor, factor, out=found) for _ in range(PRODUCTS)]


def copy(source: Tensor, there: Tensor) -> Work:
    """A function that copies all bytes."""
    return lambda: there.copy_(source, non_blocking=True)
