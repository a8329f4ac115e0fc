"""The ImageNet sets as their authors publish them, one row of data each; docs/datasets.md explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

CORRUPTIONS = (
    *("gaussian_noise", "shot_noise", "impulse_noise"),
    *("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    *("snow", "frost", "fog", "brightness"),
    *("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
)
SEVERITIES = (1, 2, 3, 4, 5)
EXTRA = frozenset(("gaussian_blur", "saturate", "spatter", "speckle_noise"))
"""Four corruptions that are published beside the fifteen but are not part of the benchmark."""

VALIDATION = "imagenet-val"
"""Source family of the validation images and of sets rendered from them."""

LabelKind = Literal["wnid", "integer", "objectnet", "rib_official_105"]


@dataclass(frozen=True)
class Published:
    """The published facts about one data set.

    Attributes:
        title: its name in the literature.
        folders: sub-folders of the data root to search, in this order.
        labels: how its class folders are named, which determines its label map.
        classes: "imagenet" (1000), "a" or "r" (200), "objectnet" (113).
        images: number of images over all cells.
        per_class: minimum and maximum number of images per class and cell, if published.
        licence: in a few words.
        url: where to get it.
        family: source family, and namespace of the source images.
        celled: whether its layout is `corruption/severity/class`.
        border: pixels to cut off on every side before anything else.
        inside: sub-folder that holds the class folders, if there is one.
        draw: number of images per class and cell, in an independent fixed draw per cell; None for all.
        test_draw: number of images per class that are used only to test.
        native: whether images that already have the model's size are used unchanged.
        home: the set that has the same files, if they are another set's.
    """

    title: str
    folders: tuple[str, ...]
    classes: Literal["imagenet", "a", "r", "objectnet"]
    images: int
    licence: str
    url: str
    family: str
    labels: LabelKind = "wnid"
    per_class: tuple[int, int] | None = None
    celled: bool = False
    border: int = 0
    inside: str | None = None
    draw: int | None = None
    test_draw: int | None = None
    native: bool = False
    home: str | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """Names such as "fog/3"; empty for a set without corruptions."""
        return tuple(f"{name}/{severity}" for name in CORRUPTIONS for severity in SEVERITIES) if self.celled else ()


_VAL = Published(
    title="ImageNet-1k validation",
    folders=("imagenet/val", "ILSVRC2012/val", "imagenet-val"),
    classes="imagenet",
    images=50_000,
    per_class=(50, 50),
    family=VALIDATION,
    licence="ImageNet terms: research, non-commercial",
    url="https://image-net.org/download.php",
)

_TRAIN = replace(
    _VAL,
    title="ImageNet-1k training",
    folders=("imagenet/train", "ILSVRC2012/train", "imagenet-train"),
    images=1_281_167,
    per_class=(732, 1300),
    family="imagenet-train",
    test_draw=10,
)

_OBJECTNET = Published(
    title="ObjectNet 1.0",
    folders=("objectnet-1.0", "objectnet"),
    labels="objectnet",
    classes="objectnet",
    images=18_574,
    border=2,
    inside="images",
    licence="CC BY 4.0 with two clauses: no tuning on it, red border kept when posted",
    url="https://objectnet.dev/download.html",
    family="objectnet",
)

_CARTOON = replace(
    _VAL,
    title="ImageNet-Cartoon",
    folders=("imagenet-cartoon",),
    licence="CC BY 4.0",
    url="https://zenodo.org/record/6801109",
)

_C = replace(
    _CARTOON,
    title="ImageNet-C",
    folders=("imagenet-c", "ImageNet-C"),
    images=15 * 5 * 50_000,
    celled=True,
    url="https://zenodo.org/record/2235448",
)

PUBLISHED: Mapping[str, Published] = {
    "val": _VAL,
    "train": _TRAIN,
    "train_120k": replace(_TRAIN, title="ImageNet-1k training, 120 a class", draw=120, home="train"),
    "v2": Published(
        title="ImageNet-V2 matched-frequency",
        folders=("imagenetv2-matched-frequency-format-val", "imagenet-v2"),
        labels="integer",
        classes="imagenet",
        images=10_000,
        per_class=(10, 10),
        licence="MIT",
        url="https://huggingface.co/datasets/vaishaal/ImageNetV2",
        family="imagenet-v2",
    ),
    "a": Published(
        title="ImageNet-A",
        folders=("imagenet-a",),
        classes="a",
        images=7_500,
        licence="MIT",
        url="https://github.com/hendrycks/natural-adv-examples",
        family="imagenet-a",
    ),
    "r": Published(
        title="ImageNet-R",
        folders=("imagenet-r",),
        classes="r",
        images=30_000,
        licence="MIT",
        url="https://github.com/hendrycks/imagenet-r",
        family="imagenet-r",
    ),
    "sketch": Published(
        title="ImageNet-Sketch",
        folders=("sketch", "imagenet-sketch", "ImageNet-Sketch"),
        classes="imagenet",
        images=50_889,
        licence="MIT",
        url="https://github.com/HaohanWang/ImageNet-Sketch",
        family="imagenet-sketch",
    ),
    "objectnet": _OBJECTNET,
    "objectnet_official_105": replace(
        _OBJECTNET, title="ObjectNet 1.0, published 105-way map", labels="rib_official_105", home="objectnet"
    ),
    "cartoon": _CARTOON,
    "drawing": replace(_CARTOON, title="ImageNet-Drawing", folders=("imagenet-drawing",)),
    "c": _C,
    "c_5k": replace(_C, title="ImageNet-C, 5,000 a cell", draw=5, home="c"),
    "c_native": replace(_C, title="ImageNet-C, not resized again", native=True, home="c"),
    "c_5k_native": replace(_C, title="ImageNet-C, 5,000 a cell, not resized again", draw=5, native=True, home="c"),
}
"""Every published set that RIB knows, by the name after `imagenet:`."""
