"""TimeSformer.

Paper: Is Space-Time Attention All You Need for Video Understanding? (Bertasius, Wang & Torresani 2021,
arXiv:2102.05095).

The idea: a vision transformer over the patches of all frames. What a patch may look at in one block is the question,
and the paper asks it in five ways (`attention`):

- `space`: the patches of its own frame only; frames are averaged at the end;
- `joint`: every patch of every frame;
- `divided`: first its own place in all frames, then all places in its own frame: the paper's choice;
- `local_global`: first its neighbourhood (half the height and width, all frames), then every other place of every
  other frame;
- `axial`: first its place in all frames, then its row, then its column.

Builders: `timesformer`, the one to start with (small, any attention, 16 x 16 patches of 112 x 112);
`timesformer_divided`, `timesformer_joint`, `timesformer_space` (base, 8 frames of 224), `timesformer_hr` (16 of 448),
`timesformer_l` (96 of 224): the authors' networks. The last two attentions were never published as code; their
parameters agree with the paper's, and the class token looks at each group by itself and takes the mean, as in the
divided form.

A clip of another length or size than the network was built for is read with the learned positions resized to it
(nearest, over the grid of patches and over time, as in the authors' forward). Its sides must divide by the patch, or it
is an error: nothing is ever grouped wrongly in silence. Fresh weights: normal, deviation 0.02; the layer behind each
added attention is 0, so that training starts from the network of single frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.action.contract import Labels, Scores, Target, decode
from sightline.classification.losses import Criterion
from sightline.errors import UsageError
from sightline.nn.normalize import Normalize, for_channels
from sightline.nn.transformer import Mlp, SelfAttention
from sightline.weights.keymap import KeyMap, Row

Kind = Literal["space", "joint", "divided", "local_global", "axial"]
EXTRA: dict[str, tuple[str, ...]] = {
    "space": (),
    "joint": (),
    "divided": ("temporal",),
    "local_global": ("temporal",),
    "axial": ("temporal", "width"),
}
"""The attentions a block has before its last one."""

# Letters: B clips, T frames, h x w patches of a frame, N = h w, C channels. Tokens stand patch by patch, time fastest.

# Parts -----------------------------------------------------------------------------------------------------------


class Grid:
    """How the tokens of a clip lie: frames, rows, columns."""

    def __init__(self, frames: int, rows: int, columns: int) -> None:
        self.frames, self.rows, self.columns = frames, rows, columns


class PatchEmbed(nn.Module):
    """Each patch of each frame to a token's channels."""

    def __init__(self, in_channels: int, channels: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        """`(N, C, H, W)` to `(N, channels, h, w)`."""
        return self.proj(x)


class Block(nn.Module):
    """Attention in the way of `kind`, then the dense layers; each behind a norm, each added."""

    def __init__(self, channels: int, heads: int, hidden: int, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SelfAttention(channels, heads)
        for name in EXTRA[kind]:
            self.add_module(f"{name}_norm1", nn.LayerNorm(channels, eps=1e-6))
            self.add_module(f"{name}_attn", SelfAttention(channels, heads))
            self.add_module(f"{name}_fc", nn.Linear(channels, channels))
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, hidden)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """`(B, 1 + N T, C)` to the same shape; `space`: frames are items, `(B T, 1 + N, C)`."""
        if self.kind in ("space", "joint"):
            x = x + self.attn(self.norm1(x))
        elif self.kind == "divided":
            x = self._last(self._added(x, "temporal", grid, ("rows", "columns")), grid, ("frames",))
        elif self.kind == "axial":
            x = self._added(x, "temporal", grid, ("rows", "columns"))
            x = self._added(x, "width", grid, ("frames", "rows"))
            x = self._last(x, grid, ("frames", "columns"))
        else:
            x = self._local(x, grid)
            x = self._strided(x, grid)
        return x + self.mlp(self.norm2(x))

    def _added(self, x: Tensor, name: str, grid: Grid, fixed: Sequence[str]) -> Tensor:
        """Patches look at those with which they share the `fixed` axes; the class token rests."""
        y = grouped(x[:, 1:], grid, fixed)
        norm, attention, fc = (self.get_submodule(f"{name}_{part}") for part in ("norm1", "attn", "fc"))
        y = ungrouped(fc(attention(norm(y))), grid, fixed)
        return torch.cat([x[:, :1], x[:, 1:] + y], dim=1)

    def _last(self, x: Tensor, grid: Grid, fixed: Sequence[str]) -> Tensor:
        """The same with a copy of the class token in each group; the copies are averaged afterwards."""
        y = grouped(x[:, 1:], grid, fixed)
        groups = y.shape[0] // x.shape[0]
        copies = x[:, None, :1].expand(-1, groups, -1, -1).flatten(0, 1)
        y = torch.cat([copies, y], dim=1)
        y = self.attn(self.norm1(y))
        first = y[:, :1].unflatten(0, (-1, groups)).mean(1)
        return x + torch.cat([first, ungrouped(y[:, 1:], grid, fixed)], dim=1)

    def _local(self, x: Tensor, grid: Grid) -> Tensor:
        """Patches look at those within a quarter of the height and width, in all frames (section 3)."""
        row, column, _ = places(grid, x.device)
        near = ((row[:, None] - row).abs() <= grid.rows / 4) & ((column[:, None] - column).abs() <= grid.columns / 4)
        norm, attention, fc = (self.get_submodule(f"temporal_{part}") for part in ("norm1", "attn", "fc"))
        y = fc(masked(attention, norm(x[:, 1:]), near))
        return torch.cat([x[:, :1], x[:, 1:] + y], dim=1)

    def _strided(self, x: Tensor, grid: Grid) -> Tensor:
        """Patches look at those an even number of rows, columns and frames away, and at their class token."""
        group = torch.stack(places(grid, x.device)).remainder(2).mul(torch.tensor([[4], [2], [1]], device=x.device))
        group = torch.cat([torch.arange(8, device=x.device), group.sum(0)])
        used = (group[:8, None] == group[8:]).any(1).to(x.dtype)  # of a single frame, half the groups are empty
        y = torch.cat([x[:, :1].expand(-1, 8, -1), x[:, 1:]], dim=1)
        y = masked(self.attn, self.norm1(y), group[:, None] == group)
        first = (y[:, :8] * used[:, None]).sum(1, keepdim=True) / used.sum()
        return x + torch.cat([first, y[:, 8:]], dim=1)


def grouped(x: Tensor, grid: Grid, fixed: Sequence[str]) -> Tensor:
    """Tokens `(B, h w T, C)` as items that share the `fixed` axes: `(B * groups, members, C)`."""
    x = x.unflatten(1, (grid.rows, grid.columns, grid.frames))
    order = _order(fixed)
    return x.permute(0, *order, 4).flatten(0, len(fixed)).flatten(1, -2)


def ungrouped(x: Tensor, grid: Grid, fixed: Sequence[str]) -> Tensor:
    """`grouped` undone."""
    order = _order(fixed)
    sizes = {1: grid.rows, 2: grid.columns, 3: grid.frames}
    shape = [sizes[axis] for axis in order]
    x = x.unflatten(1, shape[len(fixed) :]).unflatten(0, (-1, *shape[: len(fixed)]))
    back = [1 + order.index(axis) for axis in (1, 2, 3)]
    return x.permute(0, *back, 4).flatten(1, 3)


def _order(fixed: Sequence[str]) -> list[int]:
    axes = {"rows": 1, "columns": 2, "frames": 3}
    kept = [axes[name] for name in fixed]
    return kept + [axis for axis in (1, 2, 3) if axis not in kept]


def places(grid: Grid, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Row, column and frame of each token, each `(h w T,)`."""
    sizes = (grid.rows, grid.columns, grid.frames)
    row, column, frame = torch.meshgrid(*(torch.arange(n, device=device) for n in sizes), indexing="ij")
    return row.flatten(), column.flatten(), frame.flatten()


def masked(attention: nn.Module, x: Tensor, allowed: Tensor) -> Tensor:
    """Self-attention of `(B, N, C)` where token i may look at token j only if `allowed[i, j]`."""
    assert isinstance(attention, SelfAttention)
    q, k, v = attention.qkv(x).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    return attention.proj(y.transpose(1, 2).flatten(2))


# Network ---------------------------------------------------------------------------------------------------------


class TimeSformer(nn.Module):
    """Patches, a class token, learned positions in space and time, blocks, a norm, a classifier on the class token.

    size, frames: of the clips whose positions are learned.
    """

    HEAD = ("head.",)
    STEM = ("patch_embed.proj.weight",)

    def __init__(
        self,
        num_classes: int,
        *,
        attention: Kind = "divided",
        in_channels: int = 3,
        size: int = 224,
        patch: int = 16,
        frames: int = 8,
        channels: int = 768,
        depth: int = 12,
        heads: int = 12,
        hidden: int = 3072,
        dropout: float = 0.0,
        scratch: bool = False,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        if attention not in get_args(Kind):
            raise UsageError(f"attention is '{attention}', expected one of {', '.join(get_args(Kind))}")
        if size % patch:
            raise UsageError(f"size={size} must divide by patch={patch}")
        self.attention, self.patch = attention, patch
        self.normalize = normalize
        self.patch_embed = PatchEmbed(in_channels, channels, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, channels))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + (size // patch) ** 2, channels))
        self.time_embed = None if attention == "space" else nn.Parameter(torch.zeros(1, frames, channels))
        self.pos_drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(channels, heads, hidden, attention) for _ in range(depth))
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.head = nn.Linear(channels, num_classes)
        self.criterion = criterion or Criterion()
        self._draw(scratch)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips, sides multiples of the patch, to `(B, K)` logits."""
        height, width = images.shape[-2:]
        if height % self.patch or width % self.patch:
            raise UsageError(f"clips of {height} x {width}: the sides must divide by the patch of {self.patch} pixels")
        x, grid = self.tokens(self.normalize(images, sizes))
        for block in self.blocks:
            x = block(x, grid)
        if self.attention == "space":
            x = x.unflatten(0, (-1, grid.frames)).mean(1)
        return Scores(self.head(self.norm(x)[:, 0]))

    def tokens(self, x: Tensor) -> tuple[Tensor, Grid]:
        """A normalised clip as the first block sees it, and how its tokens lie."""
        frames = x.shape[2]
        x = self.patch_embed(x.transpose(1, 2).flatten(0, 1))  # (B T, C, h, w)
        grid = Grid(frames, x.shape[2], x.shape[3])
        x = x.flatten(2).transpose(1, 2)
        place = self._places(grid)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.pos_drop(x + place)
        if self.time_embed is None:
            return x, grid
        x = x.unflatten(0, (-1, frames))  # (B, T, 1 + N, C)
        first = x[:, 0, :1]
        when = self.time_embed
        if when.shape[1] != frames:
            when = F.interpolate(when.transpose(1, 2), size=frames, mode="nearest").transpose(1, 2)
        x = x[:, :, 1:].transpose(1, 2) + when  # (B, N, T, C)
        return torch.cat([first, self.pos_drop(x).flatten(1, 2)], dim=1), grid

    def _places(self, grid: Grid) -> Tensor:
        """The learned positions of a frame, `(1, 1 + h w, C)`, resized where the grid is another one."""
        stored = round((self.pos_embed.shape[1] - 1) ** 0.5)
        if (grid.rows, grid.columns) == (stored, stored):
            return self.pos_embed
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        rest = rest.transpose(1, 2).unflatten(2, (stored, stored))
        rest = F.interpolate(rest, size=(grid.rows, grid.columns), mode="nearest")
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], dim=1)

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)

    def _draw(self, scratch: bool) -> None:
        spread = self.cls_token.shape[2] ** -0.5 if scratch else 0.02
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.trunc_normal_(part.weight, std=spread)
                nn.init.zeros_(part.bias)
        for table in (self.cls_token, self.pos_embed):
            nn.init.trunc_normal_(table, std=0.02)
        if scratch:
            if self.time_embed is not None:
                nn.init.normal_(self.time_embed, std=TIME_STD)
            return
        for block in self.blocks:
            assert isinstance(block, Block)
            for name in EXTRA[block.kind]:
                nn.init.zeros_(block.get_submodule(f"{name}_fc").weight)  # pyright: ignore[reportArgumentType]


TIME_STD = 1.5
"""Spread of the first time embedding of a network that begins with nothing: more than that of its tokens."""

# Builders --------------------------------------------------------------------------------------------------------

HALF_MEAN = (0.45, 0.45, 0.45)
HALF_STD = (0.225, 0.225, 0.225)


def timesformer(
    num_classes: int = 2,
    *,
    in_channels: int = 3,
    attention: Kind = "divided",
    size: int = 112,
    patch: int = 16,
    frames: int = 8,
    channels: int = 192,
    depth: int = 6,
    heads: int = 3,
    hidden: int = 384,
    dropout: float = 0.0,
    scratch: bool = False,
    mean: Sequence[float] | None = HALF_MEAN,
    std: Sequence[float] | None = HALF_STD,
) -> TimeSformer:
    """A small TimeSformer with any of the five attentions: space, joint, divided, local_global, axial.

    size, frames: of the clips whose positions are learned; others are read too. hidden: of the dense layers.
    scratch: first weights for learning from nothing. The authors begin with a network of pictures, which knows what to
    see: times are not told apart at first, and attention over time adds nothing. Here both speak from the first step.
    """
    return TimeSformer(
        num_classes,
        attention=attention,
        in_channels=in_channels,
        size=size,
        patch=patch,
        frames=frames,
        channels=channels,
        depth=depth,
        heads=heads,
        hidden=hidden,
        dropout=dropout,
        scratch=scratch,
        normalize=Normalize(*for_channels(mean, std, in_channels)),
    )


# Public names ----------------------------------------------------------------------------------------------------


def _hf() -> tuple[Row, ...]:
    rows: list[Row] = [
        ("timesformer.embeddings.cls_token", "cls_token"),
        ("timesformer.embeddings.position_embeddings", "pos_embed"),
        ("timesformer.embeddings.time_embeddings", "time_embed"),
        ("timesformer.embeddings.patch_embeddings.projection.{leaf}", "patch_embed.proj.{leaf}"),
    ]
    parts = {
        "attention.attention.qkv": "attn.qkv",
        "attention.output.dense": "attn.proj",
        "temporal_attention.attention.qkv": "temporal_attn.qkv",
        "temporal_attention.output.dense": "temporal_attn.proj",
        "temporal_dense": "temporal_fc",
        "temporal_layernorm": "temporal_norm1",
        "layernorm_before": "norm1",
        "layernorm_after": "norm2",
        "intermediate.dense": "mlp.fc1",
        "output.dense": "mlp.fc2",
    }
    layer = "timesformer.encoder.layer.{i}."
    rows += [(f"{layer}{public}.{{leaf}}", f"blocks.{{i}}.{ours}.{{leaf}}") for public, ours in parts.items()]
    return (*rows, ("timesformer.layernorm.{leaf}", "norm.{leaf}"), ("classifier.{leaf}", "head.{leaf}"))


def _mmaction2() -> tuple[Row, ...]:
    rows: list[Row] = [(f"backbone.{name}", name) for name in ("cls_token", "pos_embed", "time_embed")]
    rows.append(("backbone.patch_embed.projection.{leaf}", "patch_embed.proj.{leaf}"))
    layer = "backbone.transformer_layers.layers.{i}."
    for k, name in enumerate(("temporal_", "")):
        rows += [
            (f"{layer}attentions.{k}.norm.{{leaf}}", f"blocks.{{i}}.{name}norm1.{{leaf}}"),
            (f"{layer}attentions.{k}.attn.in_proj_{{leaf}}", f"blocks.{{i}}.{name}attn.qkv.{{leaf}}"),
            (f"{layer}attentions.{k}.attn.out_proj.{{leaf}}", f"blocks.{{i}}.{name}attn.proj.{{leaf}}"),
        ]
    rows += [
        (f"{layer}attentions.0.temporal_fc.{{leaf}}", "blocks.{i}.temporal_fc.{leaf}"),
        (f"{layer}ffns.0.norm.{{leaf}}", "blocks.{i}.norm2.{leaf}"),
        (f"{layer}ffns.0.layers.0.0.{{leaf}}", "blocks.{i}.mlp.fc1.{leaf}"),
        (f"{layer}ffns.0.layers.1.{{leaf}}", "blocks.{i}.mlp.fc2.{leaf}"),
        ("backbone.norm.{leaf}", "norm.{leaf}"),
        ("cls_head.fc_cls.{leaf}", "head.{leaf}"),
    ]
    return tuple(rows)


KEY_MAPS = (
    KeyMap(
        "timesformer",
        (
            ("cls_token", "cls_token"),
            ("pos_embed", "pos_embed"),
            ("time_embed", "time_embed"),
            ("patch_embed.{rest}", "patch_embed.{rest}"),
            ("blocks.{i}.{rest}", "blocks.{i}.{rest}"),
            ("norm.{leaf}", "norm.{leaf}"),
            ("head.{leaf}", "head.{leaf}"),
        ),
        prefix="model.",
        container="model_state",
        words="the authors' .pyth files",
    ),
    KeyMap("huggingface", _hf(), words="transformers' TimesformerForVideoClassification"),
    KeyMap("mmaction2", _mmaction2(), container="state_dict", words="mmaction2"),
)
