"""Two small nets for `digits`: a residual net and a transformer.

Both read normalised images [N, 3, H, W] and end in a linear layer named `head`.
"""

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from rib import _compat


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with GroupNorm, and a residual connection."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm1 = nn.GroupNorm(channels // 8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm2 = nn.GroupNorm(channels // 8, channels)
        same = stride == 1 and channels_in == channels
        self.shortcut = nn.Identity() if same else nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class SmallResNet(nn.Module):
    """A strided stem and two residual blocks, with w, 2w and 4w channels."""

    def __init__(self, num_classes: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 2, 1, bias=False)
        self.norm = nn.GroupNorm(width // 8, width)
        self.blocks = nn.Sequential(
            ResidualBlock(width, 2 * width, 2),
            ResidualBlock(2 * width, 4 * width, 2),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        logits: Tensor = self.head(x.mean(dim=(2, 3)))
        return logits


def small_resnet(num_classes: int, width: int = 16) -> nn.Module:
    """A residual net with GroupNorm; `width` is a multiple of 8."""
    return SmallResNet(num_classes, width)


def small_vit(num_classes: int, image_size: int = 28, dim: int = 48, depth: int = 4, heads: int = 3) -> nn.Module:
    """A vision transformer on the tokens of a three-convolution stem: 16 tokens at 28 pixels, 64 at 64."""
    _compat.declare_missing_operators()  # before timm, because timm imports torchvision
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.layers.norm import GroupNorm1
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem

    widths = (dim // 4, dim // 2, dim)
    stem = ConvStem(3, depth=3, channels=widths, kernel_size=3, stride=(2, 2, 2), padding=1, norm_layer=GroupNorm1)
    return VisionTransformer(
        img_size=image_size,
        num_classes=num_classes,
        global_pool="avg",
        class_token=False,
        embed_dim=dim,
        depth=depth,
        num_heads=heads,
        mlp_ratio=2.0,
        fc_norm=True,
        patch_size=1,
        embed_layer=partial(HybridEmbed, stem, proj=False),
    )
