"""ViViT.

Paper: ViViT: A Video Vision Transformer (Arnab, Dehghani, Heigold, Sun, Lucic & Schmid 2021, arXiv:2103.15691).

The idea: tokens are small boxes of space and time ("tubelets"); four ways to let them see each other:

- model 1 (`vivit_m1`): every token looks at every token of the clip;
- model 2 (`vivit_m2`), the factorised encoder: a transformer over each time step by itself, then one over the steps;
- model 3 (`vivit_m3`), factorised self-attention: in each block first over space, then over time;
- model 4 (`vivit_m4`), factorised dot product: in each block half of the heads look over time, half over space.

`vivit`, the one to start with, is a small model 2. The numbered ones are ViT-B with tubelets of 16 x 16 x 2 on 32
frames of 224; the authors' Flax checkpoints load (converted to an `.npz`), of model 1 also transformers'.

A clip of another length or size than the network was built for is read with its learned positions resized over time,
rows and columns (trilinear); its sides must be multiples of the tubelet's. GELU is the tanh form, LayerNorm eps 1e-6,
as in the authors' code. `tubelet_from_image` starts the tubelets from a network of pictures.
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
from sightline.nn.transformer import SelfAttention
from sightline.weights.keymap import KeyMap, Row
from sightline.weights.transforms import (
    HWIO,
    TRANSPOSED,
    chain,
    heads_bias,
    heads_in,
    heads_out,
    regrouped,
)

Form = Literal[1, 2, 3, 4]
Order = Literal["space_time", "time_space"]
Shape = tuple[int, int, int]

# Letters: B clips, T x h x w tokens of a clip (N = h w), C channels, H heads.

# Parts -----------------------------------------------------------------------------------------------------------


class Mlp(nn.Module):
    """Two dense layers with the tanh form of GELU between them."""

    def __init__(self, channels: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """`(..., C)` to the same shape."""
        return self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(x), approximate="tanh"))))


class Block(nn.Module):
    """Attention over all tokens (`split=False`), or half the heads over time and half over space (model 4)."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float, *, split: bool = False) -> None:
        super().__init__()
        if split and heads % 2:
            raise UsageError(
                f"heads={heads}: model 4 gives half of them to time and half to space; take an even number"
            )
        self.split = split
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.attn = SelfAttention(channels, heads)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, hidden, dropout)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """`(B, tokens, C)` to the same shape; steps: how many time steps the tokens of a clip have."""
        y = self.norm1(x)
        x = x + (self._halves(y, steps) if self.split else self.attn(y))
        return x + self.mlp(self.norm2(x))

    def _halves(self, x: Tensor, steps: int) -> Tensor:
        heads = self.attn.heads
        q, k, v = self.attn.qkv(x).unflatten(1, (steps, -1)).unflatten(-1, (3, heads, -1)).unbind(3)  # (B, T, N, H, d)
        half = heads // 2
        time = [part[:, :, :, :half].permute(0, 2, 3, 1, 4) for part in (q, k, v)]  # (B, N, H/2, T, d)
        space = [part[:, :, :, half:].permute(0, 1, 3, 2, 4) for part in (q, k, v)]  # (B, T, H/2, N, d)
        over_time = _attended(*time).permute(0, 3, 1, 2, 4)
        over_space = _attended(*space).permute(0, 1, 3, 2, 4)
        return self.attn.proj(torch.cat([over_time, over_space], dim=3).flatten(3).flatten(1, 2))


def _attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention of `(A, B, H, N, d)`, in the four axes that other runtimes know it of."""
    y = F.scaled_dot_product_attention(q.flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1))
    return y.unflatten(0, q.shape[:2])


class FactorisedBlock(nn.Module):
    """Attention over space, then over time (or the other way round), then the dense layers (model 3)."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float, order: Order) -> None:
        super().__init__()
        self.order = order.split("_")
        self.norm_space = nn.LayerNorm(channels, eps=1e-6)
        self.attn_space = SelfAttention(channels, heads)
        self.norm_time = nn.LayerNorm(channels, eps=1e-6)
        self.attn_time = SelfAttention(channels, heads)
        self.norm_mlp = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Mlp(channels, hidden, dropout)

    def forward(self, x: Tensor, steps: int) -> Tensor:
        """`(B, T N, C)` to the same shape."""
        x = x.unflatten(1, (steps, -1))  # (B, T, N, C)
        for name in self.order:
            if name == "space":
                y = self.attn_space(self.norm_space(x).flatten(0, 1)).unflatten(0, (-1, steps))
            else:
                y = self.norm_time(x).transpose(1, 2)  # (B, N, T, C)
                y = self.attn_time(y.flatten(0, 1)).unflatten(0, y.shape[:2]).transpose(1, 2)
            x = x + y
        x = x.flatten(1, 2)
        return x + self.mlp(self.norm_mlp(x))


class Positions(nn.Module):
    """Adds a learned vector a token. grid: steps, rows, columns it was learned for. first: a class token leads."""

    def __init__(self, channels: int, grid: Shape, *, first: bool) -> None:
        super().__init__()
        self.grid, self.first = grid, first
        count = grid[0] * grid[1] * grid[2] + (1 if first else 0)
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, count, channels), std=0.02))

    def forward(self, x: Tensor, grid: Shape) -> Tensor:
        """`(B, tokens, C)` of a clip whose tokens lie in `grid`."""
        if tuple(grid) == self.grid:
            return x + self.table
        start = 1 if self.first else 0
        rest = self.table[:, start:].transpose(1, 2).unflatten(2, self.grid)
        rest = F.interpolate(rest, size=grid, mode="trilinear").flatten(2).transpose(1, 2)
        return x + torch.cat([self.table[:, :start], rest], dim=1)


class Encoder(nn.Module):
    """At will a class token, positions, blocks, a norm."""

    def __init__(self, channels: int, grid: Shape, blocks: Sequence[nn.Module], *, token: bool, dropout: float) -> None:
        super().__init__()
        self.cls = nn.Parameter(torch.zeros(1, 1, channels)) if token else None
        self.positions = Positions(channels, grid, first=token)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor, grid: Shape) -> Tensor:
        """`(B, tokens, C)` to the same shape, one token more where there is a class token."""
        if self.cls is not None:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)
        x = self.dropout(self.positions(x, grid))
        for block in self.blocks:
            x = block(x, grid[0])
        return self.norm(x)

    def summary(self, x: Tensor) -> Tensor:
        """The class token, or the mean of all tokens."""
        return x.mean(1) if self.cls is None else x[:, 0]


# Network ---------------------------------------------------------------------------------------------------------


class ViViT(nn.Module):
    """Tubelets, one encoder (models 1, 3, 4) or a spatial and a temporal one (model 2), a classifier.

    encoder: over all tokens, or over those of one time step when there is a `temporal` encoder behind it.
    """

    HEAD = ("head.",)
    STEM = ("embedding.weight",)

    def __init__(
        self,
        embedding: nn.Conv3d,
        encoder: Encoder,
        num_classes: int,
        *,
        temporal: Encoder | None = None,
        normalize: Normalize,
        criterion: Criterion | None = None,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.embedding = embedding
        self.tubelet = tuple(embedding.kernel_size)
        self.encoder = encoder
        self.temporal = temporal
        self.pre_logits = nn.Identity()
        self.head = nn.Linear(embedding.out_channels, num_classes)
        self.criterion = criterion or Criterion()
        for part in self.modules():
            if isinstance(part, nn.Linear):
                nn.init.xavier_uniform_(part.weight)
                nn.init.zeros_(part.bias)
        nn.init.trunc_normal_(self.head.weight, std=0.02)

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: Target | None = None) -> Scores:
        """See: `(B, C, T, H, W)` clips, sides multiples of the tubelet's, to `(B, K)` logits."""
        if any(n % k for n, k in zip(images.shape[2:], self.tubelet)):
            have, want = "x".join(map(str, images.shape[2:])), "x".join(map(str, self.tubelet))
            raise UsageError(f"clips of {have} (frames, height, width) must divide by the tubelet, {want}")
        x = self.embedding(self.normalize(images, sizes))  # (B, C, T, h, w)
        steps, rows, columns = x.shape[2:]
        if self.temporal is None:
            x = self.encoder(x.flatten(2).transpose(1, 2), (steps, rows, columns))
            return Scores(self.head(self.pre_logits(self.encoder.summary(x))))
        x = x.transpose(1, 2).flatten(0, 1).flatten(2).transpose(1, 2)  # (B T, N, C)
        x = self.encoder.summary(self.encoder(x, (1, rows, columns))).unflatten(0, (-1, steps))
        x = self.temporal(x, (steps, 1, 1))
        return Scores(self.head(self.pre_logits(self.temporal.summary(x))))

    def losses(self, out: Scores, targets: Target) -> dict[str, Tensor]:
        """Learn: the criterion's named terms."""
        return self.criterion(out, targets)

    def decode(self, out: Scores, *, classes: Sequence[str] = ()) -> list[Labels]:
        """Say: one answer a clip."""
        return decode(out, classes=classes)


def tubelet_from_image(kernel: Tensor, frames: int, *, rule: Literal["central", "average"] = "central") -> Tensor:
    """A tubelet's kernel `(C, 3, frames, h, w)` from a picture's `(C, 3, h, w)` (section 3.4).

    central: zero but for the frame `frames // 2`; average: the kernel / frames in every frame.
    """
    if rule not in ("central", "average"):
        raise UsageError(f"rule is '{rule}', expected central or average")
    if rule == "average":
        return (kernel / frames).unsqueeze(2).repeat(1, 1, frames, 1, 1)
    found = kernel.new_zeros(*kernel.shape[:2], frames, *kernel.shape[2:])
    found[:, :, frames // 2] = kernel
    return found


# Builders --------------------------------------------------------------------------------------------------------

MEAN = (0.5, 0.5, 0.5)
STD = (0.5, 0.5, 0.5)


def vivit(
    num_classes: int = 2,
    *,
    form: Form = 2,
    in_channels: int = 3,
    size: Sequence[int] = (112, 112),
    frames: int = 16,
    tubelet: Sequence[int] = (2, 16, 16),
    channels: int = 192,
    depth: int = 4,
    temporal_depth: int = 2,
    heads: int = 4,
    hidden: int = 384,
    token: bool = False,
    order: Order = "space_time",
    dropout: float = 0.0,
    mean: Sequence[float] | None = MEAN,
    std: Sequence[float] | None = STD,
) -> ViViT:
    """A small ViViT; `form` says which of the four models.

    size, frames: of the clips whose positions are learned; others are read too. tubelet: frames, height, width of a
    token. temporal_depth: blocks of model 2's second encoder. token: a class token (models 1 and 2), else the mean.
    order: of the attentions of model 3.
    """
    if form not in get_args(Form):
        raise UsageError(f"form is {form}, expected 1, 2, 3 or 4: the paper's models")
    if order not in get_args(Order):
        raise UsageError(f"order is '{order}', expected one of {', '.join(get_args(Order))}")
    if token and form > 2:
        raise UsageError(f"model {form} has no class token; leave token=False")
    time, high, wide = tubelet
    grid = (frames // time, size[0] // high, size[1] // wide)
    if min(grid) < 1:
        raise UsageError(f"clips of {frames} x {size[0]} x {size[1]} are smaller than one tubelet of {tuple(tubelet)}")

    def plain(count: int) -> list[nn.Module]:
        return [Block(channels, heads, hidden, dropout, split=form == 4) for _ in range(count)]

    embedding = nn.Conv3d(in_channels, channels, (time, high, wide), (time, high, wide))
    temporal = None
    if form == 2:
        encoder = Encoder(channels, (1, *grid[1:]), plain(depth), token=token, dropout=dropout)
        temporal = Encoder(channels, (grid[0], 1, 1), plain(temporal_depth), token=token, dropout=dropout)
    elif form == 3:
        blocks = [FactorisedBlock(channels, heads, hidden, dropout, order) for _ in range(depth)]
        encoder = Encoder(channels, grid, blocks, token=False, dropout=dropout)
    else:
        encoder = Encoder(channels, grid, plain(depth), token=token, dropout=dropout)
    normalize = Normalize(*for_channels(mean, std, in_channels))
    return ViViT(embedding, encoder, num_classes, temporal=temporal, normalize=normalize)


# Public names ----------------------------------------------------------------------------------------------------

#: Flax's query, key and value kernels to one weight; written back for heads of 64, as all published networks have.
_QKV = chain(heads_in(64), regrouped())
_QKV_BIAS = chain(heads_bias(64), regrouped())
_NAMES = ("query", "key", "value")


def _attention(public: str, ours: str) -> tuple[Row, ...]:
    """Flax's names inside one attention."""
    return (
        (tuple(f"{public}/{name}/kernel" for name in _NAMES), f"{ours}.qkv.weight", _QKV),
        (tuple(f"{public}/{name}/bias" for name in _NAMES), f"{ours}.qkv.bias", _QKV_BIAS),
        (f"{public}/out/kernel", f"{ours}.proj.weight", heads_out(64)),
        (f"{public}/out/bias", f"{ours}.proj.bias"),
    )


def _norm(public: str, ours: str) -> tuple[Row, ...]:
    return ((f"{public}/scale", f"{ours}.weight"), (f"{public}/bias", f"{ours}.bias"))


def _dense(public: str, ours: str) -> tuple[Row, ...]:
    return ((f"{public}/kernel", f"{ours}.weight", TRANSPOSED), (f"{public}/bias", f"{ours}.bias"))


def _encoder(public: str, ours: str) -> tuple[Row, ...]:
    """Flax's names of an encoder of any model, and ours."""
    block, here = f"{public}/encoderblock_{{i}}", f"{ours}.blocks.{{i}}"
    return (
        (f"{public}/posembed_input/pos_embedding", f"{ours}.positions.table"),
        *_norm(f"{block}/LayerNorm_0", f"{here}.norm1"),
        *_norm(f"{block}/LayerNorm_1", f"{here}.norm2"),
        *_attention(f"{block}/MultiHeadDotProductAttention_0", f"{here}.attn"),
        *_dense(f"{block}/MlpBlock_0/Dense_0", f"{here}.mlp.fc1"),
        *_dense(f"{block}/MlpBlock_0/Dense_1", f"{here}.mlp.fc2"),
        *_norm(f"{public}/encoder_norm", f"{ours}.norm"),
    )


def _factorised() -> tuple[Row, ...]:
    """Flax's names of model 3's blocks."""
    block, here = "Transformer/encoderblock_{i}", "encoder.blocks.{i}"
    rows: list[Row] = []
    for name in ("space", "time"):
        rows += _norm(f"{block}/LayerNorm_{name}", f"{here}.norm_{name}")
        rows += _attention(f"{block}/MultiHeadDotProductAttention_{name}", f"{here}.attn_{name}")
    rows += _norm(f"{block}/LayerNorm_mlp", f"{here}.norm_mlp")
    for k in (0, 1):
        rows += _dense(f"{block}/MlpBlock/Dense_{k}", f"{here}.mlp.fc{k + 1}")
    return (
        ("Transformer/posembed_input/pos_embedding", "encoder.positions.table"),
        *rows,
        *_norm("Transformer/encoder_norm", "encoder.norm"),
    )


_ENDS: tuple[Row, ...] = (
    ("embedding/kernel", "embedding.weight", HWIO),
    ("embedding/bias", "embedding.bias"),
    *_dense("output_projection", "head"),
)
_HF_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
}
_HF_ENDS: tuple[Row, ...] = (
    ("vivit.embeddings.cls_token", "encoder.cls"),
    ("vivit.embeddings.position_embeddings", "encoder.positions.table"),
    ("vivit.embeddings.patch_embeddings.projection.{leaf}", "embedding.{leaf}"),
    ("vivit.layernorm.{leaf}", "encoder.norm.{leaf}"),
    ("classifier.{leaf}", "head.{leaf}"),
)
_HF5_PARTS = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.o_proj": "attn.proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
KEY_MAPS = (
    KeyMap(
        "scenic",
        (
            ("cls", "encoder.cls"),
            *_encoder("Transformer", "encoder"),
            *_ENDS,
        ),
        words="the authors' Flax checkpoints of models 1 and 4, converted to an .npz",
    ),
    KeyMap(
        "scenic-m2",
        (
            ("cls_SpatialTransformer", "encoder.cls"),
            *_encoder("SpatialTransformer", "encoder"),
            ("cls_TemporalTransformer", "temporal.cls"),
            *_encoder("TemporalTransformer", "temporal"),
            *_ENDS,
        ),
        words="the authors' Flax checkpoints of model 2, converted to an .npz",
    ),
    KeyMap(
        "scenic-m3", (*_factorised(), *_ENDS), words="the authors' Flax checkpoints of model 3, converted to an .npz"
    ),
    KeyMap(
        "huggingface",
        (
            *_HF_ENDS,
            (
                tuple(f"vivit.encoder.layer.{{i}}.attention.attention.{name}.{{leaf}}" for name in _NAMES),
                "encoder.blocks.{i}.attn.qkv.{leaf}",
                regrouped(),
            ),
            *(
                (f"vivit.encoder.layer.{{i}}.{public}.{{leaf}}", f"encoder.blocks.{{i}}.{ours}.{{leaf}}")
                for public, ours in _HF_PARTS.items()
            ),
        ),
        words="transformers' VivitForVideoClassification",
    ),
    KeyMap(
        "huggingface5",
        (
            *_HF_ENDS,
            (
                tuple(f"vivit.layers.{{i}}.attention.{name}_proj.{{leaf}}" for name in "qkv"),
                "encoder.blocks.{i}.attn.qkv.{leaf}",
                regrouped(),
            ),
            *(
                (f"vivit.layers.{{i}}.{public}.{{leaf}}", f"encoder.blocks.{{i}}.{ours}.{{leaf}}")
                for public, ours in _HF5_PARTS.items()
            ),
        ),
        words="transformers 5, which renames the tensors in memory",
    ),
)
