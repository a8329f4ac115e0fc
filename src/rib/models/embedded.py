"""The small models of the embedded suites, whose weights RIB ships."""

from __future__ import annotations

from collections.abc import Mapping

DIGITS_IMAGES: Mapping[str, int] = {
    "small": 3_000,
    "medium": 12_000,
    "large": 50_000,
    "narrow": 50_000,
    "varied": 3_000,
}
"""Number of images of the pretraining sets of `digits`."""

SEEDS = (0, 1, 2)
"""Pretraining seeds of every shipped model."""

DIGITS_MODELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("resnet", "supervised", ("small", "medium", "large", "narrow", "varied")),
    ("vit", "supervised", ("small", "medium", "large")),
    ("resnet", "simclr", ("small", "medium", "large")),
    ("resnet", "unicl", ("small", "medium", "large")),
)
"""The shipped image models: family, objective, pretraining sets."""

FIELDS_MODELS: tuple[tuple[str, str], ...] = (
    ("encoder", "supervised"),
    ("encoder", "masked"),
    ("decoder", "supervised"),
    ("decoder", "next"),
)
"""The shipped text models: family and objective. Each has three pretraining sets and the seeds of `SEEDS`."""
