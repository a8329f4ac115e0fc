"""Sets of photographs in the catalogue: the fields of their rows."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rib.data.imagenet_classes import wnids


def photo_sets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and row of each set of photographs for ImageNet-1k, in folders that the user fills (docs/datasets.md)."""
    yield (
        "photos:photographs",
        {
            "folder": "photos",
            "classes": wnids(),
            "absent_classes": True,
            "url": "https://github.com/ZhengyuZhao/PerC-Adversarial",
            "licence": "CC BY 2.0, each image",
        },
    )
    yield (
        "photos:samples",  # one photograph per class of ImageNet, to tune on
        {
            "folder": "samples",
            "classes": wnids(),
            "absent_classes": True,
            "url": "https://github.com/EliSchwartz/imagenet-sample-images",
            "licence": "none stated; ImageNet's terms (research, non-commercial)",
        },
    )
    for domain in ("photo", "art", "cartoon", "sketch"):
        yield (
            f"photos:pacs_{domain}",
            {
                "folder": f"pacs_{domain}",
                "classes": ("dog", "elephant", "guitar", "horse"),
                "labels": "imagenet:pacs",
                "combine": "mean",
                "test_fraction": 0.5,
                "url": "https://github.com/MachineLearning2020/Homework3-PACS",
                "licence": "none stated (arXiv 1710.03077)",
            },
        )
    for kind in ("cue", "edges", "silhouettes"):  # bear3-cat1.jpg shows the object bear3 with the texture of a cat
        yield (
            f"photos:{kind}",
            {
                "folder": kind,
                "labels": "imagenet:entry16",
                "combine": "mean",
                "family": "photos:objects",
                "source": r"^(?P<source>[a-z]+\d+)",
                "test_fraction": 0.5,
                "url": "https://github.com/rgeirhos/texture-vs-shape",
                "licence": "CC BY 4.0",
            },
        )
