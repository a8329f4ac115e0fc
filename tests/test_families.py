"""A sample of model families against their own libraries; `python -m soak families` tries every one."""

from __future__ import annotations

import pytest

from families import CHECKS, Family, Pair, small_tower
from rib.errors import UserError

SAMPLE = (
    Family("timm", "test_vit", "vision_transformer"),
    Family("timm", "test_resnet", "resnet"),
    Family("timm", "test_mambaout", "mambaout"),
    Family("timm", "test_nfnet", "nfnet"),
    Family("timm", "deit_tiny_distilled_patch16_224", "deit"),
    Family("timm", "starnet_s050", "starnet"),
    Family("torchvision", "mobilenet_v3_small", "mobilenetv3"),
)
"""One of each kind that matters: tokens, BatchNorm, gates, weight standardisation, two heads, two libraries."""


def test_a_tower_of_open_clip_answers_as_its_library_does() -> None:
    pytest.importorskip("open_clip")
    pair = Pair(Family("open_clip", small_tower("coca_ViT-B-32"), "attentional pool"))
    for check in CHECKS:
        check(pair)


@pytest.mark.parametrize("family", SAMPLE, ids=str)
def test_a_family_answers_as_its_library_does(family: Family) -> None:
    pair = Pair(family)
    for check in CHECKS:
        check(pair)


def test_a_family_without_a_linear_head_is_refused() -> None:
    with pytest.raises(UserError, match="no linear head"):
        Pair(Family("torchvision", "squeezenet1_1", "squeezenet"))
