"""The transformer's encoder, as vision transformers have it: attention, block, a stack of blocks, positions of a grid.

Papers: Attention Is All You Need (Vaswani et al. 2017, arXiv:1706.03762); An Image is Worth 16x16 Words (ViT,
Dosovitskiy et al. 2020, arXiv:2010.11929). Norms stand before attention and before the two dense layers (pre-norm).
Names inside follow timm's: `norm1`, `attn.qkv`, `attn.proj`, `norm2`, `mlp.fc1`, `mlp.fc2`.

Letters: B items, N tokens, C channels, H heads, g x g cells of a stored grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import UsageError
from sightline.ops.resize import resize


class SelfAttention(nn.Module):
    """Every token asks all tokens, in `heads` parallel subspaces (Vaswani et al., section 3.2)."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        if channels % heads:
            raise UsageError(f"{channels} channels do not divide into {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)  # (B, H, N, C / H)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two dense layers with a GELU between them, at every token alone."""

    def __init__(self, channels: int, hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x)))))


class TransformerBlock(nn.Module):
    """Attention, then the dense layers; each behind a norm, each added to what it read."""

    def __init__(self, channels: int, heads: int, hidden: int, *, dropout: float = 0.0, eps: float = 1e-6) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=eps)
        self.attn = SelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=eps)
        self.mlp = Mlp(channels, hidden, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class TransformerEncoder(nn.Module):
    """`depth` blocks and a last norm. Fresh weights: Xavier uniform, biases near 0, as ViT."""

    def __init__(
        self, channels: int, depth: int, heads: int, hidden: int, *, dropout: float = 0.0, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(channels, heads, hidden, dropout=dropout, eps=eps) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(channels, eps=eps)
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.normal_(part.bias, std=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, N, C)` to the same shape."""
        for block in self.blocks:
            x = block(x)
        return self.norm(x)


class MapEncoder(nn.Module):
    """A transformer over the places of a map: each place becomes a token, learns where it is, and asks all others.

    in_channels: of the map. patch: side of the square of places that makes one token. grid: cells on a side of the
    learned position embedding, which is resized (linearly, corners aligned, as Google's loader does) to any other map.
    """

    def __init__(
        self, in_channels: int, encoder: TransformerEncoder, *, patch: int = 1, grid: int = 14, dropout: float = 0.0
    ) -> None:
        super().__init__()
        channels = encoder.norm.normalized_shape[0]
        self.patch = nn.Conv2d(in_channels, channels, patch, patch)
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, channels, grid, grid), std=0.02))
        self.dropout = nn.Dropout(dropout)
        self.encoder = encoder
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """`(B, in, H, W)` to `(B, C, H / patch, W / patch)`."""
        x = self.patch(x)
        size = x.shape[-2:]
        tokens = (x + resize(self.position, size, rule="align_corners")).flatten(2).transpose(1, 2)  # (B, N, C)
        return self.encoder(self.dropout(tokens)).transpose(1, 2).unflatten(2, size)
