"""ViT.

Paper: An Image is Worth 16x16 Words (Dosovitskiy et al. 2020, arXiv:2010.11929).

The idea: a picture is cut into squares, each becomes a token by one linear layer, a learned position is added, and a
plain transformer lets them all see each other; one more token, which stands for no place, is classified.

- `vit`, the one to start with: small, for pictures of 112. `vit_b_16_tv`, `vit_b_32_tv`, `vit_l_16_tv`, `vit_l_32_tv`:
  torchvision's networks; timm's `vit_base_patch16_224` and its like load into them too.

Pictures of another size than the network was built for are read with their positions resized (bicubic); sides must be
multiples of the patch, trait `patches16`.
Loads: torchvision (`torchvision`), timm (`timm`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.classification.answer import Labels
from sightline.classification.contract import Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import IMAGENET_MEAN, IMAGENET_STD, Normalize, for_channels
from sightline.nn.transformer import TransformerEncoder
from sightline.weights.keymap import KeyMap


class ViT(nn.Module):
    """Squares of `patch` pixels as tokens, a token of the class, a transformer, a linear classifier."""

    HEAD = ("head.",)

    def __init__(
        self,
        encoder: TransformerEncoder,
        num_classes: int,
        *,
        in_channels: int = 3,
        patch: int = 16,
        size: int = 224,
        dropout: float = 0.0,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        if size % patch:
            raise UsageError(f"size={size} must be a multiple of the patch, {patch} pixels")
        channels = encoder.norm.normalized_shape[0]
        self.patch, self.grid = patch, size // patch
        self.normalize = normalize
        self.patch_embed = nn.Conv2d(in_channels, channels, patch, patch)
        self.cls_token = nn.Parameter(nn.init.normal_(torch.empty(1, 1, channels), std=1e-6))
        self.pos_embed = nn.Parameter(nn.init.normal_(torch.empty(1, self.grid**2 + 1, channels), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder
        self.head = nn.Linear(channels, num_classes)
        self.criterion = criterion or Criterion()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, H, W)` pictures in [0, 1], sides multiples of the patch, to `(B, K)` logits."""
        height, width = images.shape[2:]
        if height % self.patch or width % self.patch:
            raise UsageError(
                f"sides of {height} x {width} must be multiples of {self.patch} pixels; resize the picture"
            )
        x = self.patch_embed(self.normalize(images, sizes)).flatten(2).transpose(1, 2)  # (B, N, C)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = self.encoder(self.dropout(x + self._positions(height // self.patch, width // self.patch)))
        return Scores(self.head(x[:, 0]))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a picture."""
        return decode(out, classes=classes)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """The positions `(1, 1 + rows columns, C)` of a grid of any size."""
        if (rows, columns) == (self.grid, self.grid):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].transpose(1, 2).unflatten(2, (self.grid, self.grid))
        grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", antialias=True)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


# Builders --------------------------------------------------------------------------------------------------------


def vit(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    patch: int = 16,
    size: int = 112,
    channels: int = 192,
    depth: int = 6,
    heads: int = 3,
    hidden: int = 384,
    dropout: float = 0.0,
    mean: Sequence[float] | None = IMAGENET_MEAN,
    std: Sequence[float] | None = IMAGENET_STD,
) -> ViT:
    """A ViT classifier. patch: side of a token. size: side of the pictures its positions are learned for."""
    encoder = TransformerEncoder(channels, depth, heads, hidden, dropout=dropout)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return ViT(
        encoder, num_classes, in_channels=in_channels, patch=patch, size=size, dropout=dropout, normalize=normalize
    )


# Public names ----------------------------------------------------------------------------------------------------

KEY_MAPS = (
    KeyMap(
        "torchvision",
        (
            ("class_token", "cls_token"),
            ("conv_proj.{leaf}", "patch_embed.{leaf}"),
            ("encoder.pos_embedding", "pos_embed"),
            ("encoder.layers.encoder_layer_{i}.ln_{j}.{leaf}", "encoder.blocks.{i}.norm{j}.{leaf}"),
            ("encoder.layers.encoder_layer_{i}.self_attention.in_proj_{leaf}", "encoder.blocks.{i}.attn.qkv.{leaf}"),
            ("encoder.layers.encoder_layer_{i}.self_attention.out_proj.{leaf}", "encoder.blocks.{i}.attn.proj.{leaf}"),
            ("encoder.layers.encoder_layer_{i}.mlp.0.{leaf}", "encoder.blocks.{i}.mlp.fc1.{leaf}"),
            ("encoder.layers.encoder_layer_{i}.mlp.3.{leaf}", "encoder.blocks.{i}.mlp.fc2.{leaf}"),
            ("encoder.ln.{leaf}", "encoder.norm.{leaf}"),
            ("heads.head.{leaf}", "head.{leaf}"),
        ),
        words="torchvision's vit_b_16 to vit_l_32",
    ),
    KeyMap(
        "timm",
        (
            ("cls_token", "cls_token"),
            ("pos_embed", "pos_embed"),
            ("patch_embed.proj.{leaf}", "patch_embed.{leaf}"),
            ("blocks.{rest}", "encoder.blocks.{rest}"),
            ("norm.{leaf}", "encoder.norm.{leaf}"),
            ("head.{leaf}", "head.{leaf}"),
        ),
        words="timm's vit_base_patch16_224 and its like",
    ),
)
