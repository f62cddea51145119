"""Networks as darknet's `.cfg` files describe them: a list of layers, each of which reads those before it.

A `.cfg` is a list of sections, `[kind]` and lines `name=value`; the first, `[net]`, holds the size of the input. The
papers' files build theirs with the functions at the end; a published or home-made text goes through `parse`.

Layers: convolutional, maxpool, local, connected, dropout, shortcut, route, upsample, reorg, and the heads detection
(YOLOv1), region (YOLOv2), yolo (YOLOv3). Where the C program and PyTorch differ, the C program's arithmetic stands
here: normalisation divides by sqrt(variance) + 1e-6, a pool of size n pads n - 1 in all (the smaller half first), and
`reorg` mixes channels in its own order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.errors import SightlineError, UsageError
from sightline.weights.darknet import Slot

HEADS = ("detection", "region", "yolo")
KINDS = (
    "convolutional", "maxpool", "local", "connected", "dropout", "shortcut", "route", "upsample", "reorg", *HEADS,
)  # fmt: skip
ACTIVATIONS = ("leaky", "linear", "relu", "logistic", "tanh")


@dataclass(frozen=True)
class Section:
    """One layer: its kind, and its options as text. line: where it stands in a file, for messages."""

    kind: str
    options: Mapping[str, str]
    line: int = 0

    def number(self, name: str, default: float | None = None) -> float:
        """An option as a number."""
        text = self.options.get(name)
        if text is None and default is not None:
            return default
        try:
            return float(text or "")
        except ValueError:
            where = f", line {self.line}" if self.line else ""
            raise SightlineError(
                f"the .cfg{where}: [{self.kind}] has {name}={text}, a number was expected; correct the file"
            ) from None

    def whole(self, name: str, default: int | None = None) -> int:
        """An option as a whole number."""
        return int(self.number(name, default))

    def list(self, name: str) -> tuple[float, ...]:
        """An option as numbers with commas between them."""
        found = [Section(self.kind, {name: part}, self.line) for part in self.options.get(name, "").split(",")]
        return tuple(part.number(name) for part in found if part.options[name].strip())


def parse(text: str) -> list[Section]:
    """The sections of a `.cfg`, `[net]` first. Raises SightlineError, one sentence with the line, for what is none."""
    found: list[tuple[str, dict[str, str], int]] = []
    for number, line in enumerate(text.splitlines(), 1):
        line = line.split("#")[0].split(";")[0].strip()
        if not line:
            continue
        if line.startswith("[") and line.endswith("]"):
            found.append((line[1:-1].strip().lower(), {}, number))
            continue
        name, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not found:
            raise SightlineError(
                f"the .cfg, line {number}: '{line[:60]}' is neither [section] nor name=value; correct the file"
            )
        found[-1][1][name.lower()] = value
    if not found or found[0][0] not in ("net", "network"):
        raise SightlineError("the .cfg does not begin with [net]: give the text of a darknet network, or its path")
    for kind, _, line in found[1:]:
        if kind not in KINDS:
            raise SightlineError(
                f"the .cfg, line {line}: [{kind}] is no layer of a detector; known: {', '.join(KINDS)}"
            )
    return [Section(kind, options, line) for kind, options, line in found]


def cfg_text(sections: Sequence[Section]) -> str:
    """The text of a `.cfg`, for the C program."""
    return "\n\n".join("\n".join([f"[{s.kind}]", *(f"{k}={v}" for k, v in s.options.items())]) for s in sections) + "\n"


def section(kind: str, **options: Any) -> Section:
    """A section from plain values; sequences become numbers with commas between them."""
    words = {k: ",".join(f"{x:g}" for x in v) if isinstance(v, (tuple, list)) else str(v) for k, v in options.items()}
    return Section(kind, words)


def conv(filters: int, size: int, stride: int = 1, *, norm: bool = True, activation: str = "leaky") -> Section:
    """A convolution that keeps the size (but for its stride)."""
    first = {"batch_normalize": 1} if norm else {}
    return section("convolutional", **first, filters=filters, size=size, stride=stride, pad=1, activation=activation)


# Layers ----------------------------------------------------------------------------------------------------------


class Norm(nn.BatchNorm2d):
    """Batch normalisation without a shift of its own, which is the layer's bias.

    outside: eps is added to the deviation (darknet), else to the variance. Running numbers are by PyTorch's rule.
    """

    def __init__(self, channels: int, *, eps: float, outside: bool) -> None:
        super().__init__(channels, eps=eps)
        self.bias = None  # pyright: ignore[reportAttributeAccessIssue]
        self.outside = outside

    def shifted(self, x: Tensor, bias: Tensor) -> Tensor:
        """`(B, C, H, W)`, normalised, scaled and shifted by `bias`."""
        assert self.running_mean is not None and self.running_var is not None
        if self.training:
            eps = 1e-10 if self.outside else self.eps
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, bias, True, self.momentum or 0.1, eps
            )
        deviation = self.running_var.sqrt() + self.eps if self.outside else (self.running_var + self.eps).sqrt()
        scale = self.weight / deviation
        return x * scale[:, None, None] + (bias - self.running_mean * scale)[:, None, None]


class Weighted(nn.Module):
    """What layers with weights have in common: weight, bias, a norm at will, an activation."""

    def __init__(self, shape: tuple[int, ...], bias: int, fan_in: int, activation: str, norm: Norm | None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.zeros(bias))
        self.norm, self.activation = norm, activation
        if activation not in ACTIVATIONS:
            raise UsageError(f"activation '{activation}' is unknown; choose from {', '.join(ACTIVATIONS)}")
        nn.init.normal_(self.weight, std=math.sqrt(2 / fan_in))

    def finish(self, x: Tensor) -> Tensor:
        """Bias (or norm) and activation of `(B, C, H, W)`."""
        x = x + self.bias[:, None, None] if self.norm is None else self.norm.shifted(x, self.bias)
        return activated(x, self.activation)


def activated(x: Tensor, name: str) -> Tensor:
    """One of `ACTIVATIONS`."""
    if name == "leaky":
        return F.leaky_relu(x, 0.1)
    return {"linear": lambda x: x, "relu": F.relu, "logistic": torch.sigmoid, "tanh": torch.tanh}[name](x)


class Convolutional(Weighted):
    """A convolution. eps, outside: of its norm."""

    def __init__(self, section: Section, channels: int, *, eps: float, outside: bool) -> None:
        filters, size, groups = section.whole("filters", 1), section.whole("size", 1), section.whole("groups", 1)
        norm = Norm(filters, eps=eps, outside=outside) if section.whole("batch_normalize", 0) else None
        shape = (filters, channels // groups, size, size)
        activation = section.options.get("activation", "logistic")
        super().__init__(shape, filters, math.prod(shape[1:]), activation, norm)
        self.stride, self.groups = section.whole("stride", 1), groups
        self.padding = size // 2 if section.whole("pad", 0) else section.whole("padding", 0)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`."""
        return self.finish(F.conv2d(x, self.weight, None, self.stride, self.padding, 1, self.groups))


class Local(Weighted):
    """A convolution with weights of its own at every place: `(places, filters, inputs)`; bias `(filters * places)`."""

    def __init__(self, section: Section, size: tuple[int, int, int]) -> None:
        channels, height, width = size
        filters, self.size = section.whole("filters", 1), section.whole("size", 1)
        self.stride, self.padding = section.whole("stride", 1), section.whole("pad", 0)
        self.out = tuple((n + 2 * self.padding - self.size) // self.stride + 1 for n in (height, width))
        places, inputs = math.prod(self.out), channels * self.size**2
        activation = section.options.get("activation", "logistic")
        super().__init__((places, filters, inputs), filters * places, inputs, activation, None)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`."""
        pieces = F.unfold(x, self.size, padding=self.padding, stride=self.stride)  # (B, inputs, places)
        y = torch.einsum("pfi,bip->bfp", self.weight, pieces).flatten(1) + self.bias
        return activated(y, self.activation).unflatten(1, (-1, *self.out))


class Connected(Weighted):
    """A fully connected layer; its answer is `(B, outputs, 1, 1)`."""

    def __init__(self, section: Section, inputs: int, *, eps: float, outside: bool) -> None:
        outputs = section.whole("output", 1)
        norm = Norm(outputs, eps=eps, outside=outside) if section.whole("batch_normalize", 0) else None
        super().__init__((outputs, inputs), outputs, inputs, section.options.get("activation", "logistic"), norm)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`."""
        return self.finish(F.linear(x.flatten(1), self.weight)[..., None, None])


class MaxPool(nn.Module):
    """The largest of `size` x `size` values; `padding` in all, the smaller half at the top and left."""

    def __init__(self, section: Section) -> None:
        super().__init__()
        self.stride = section.whole("stride", 1)
        self.size = section.whole("size", self.stride)
        self.padding = section.whole("padding", self.size - 1)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)`."""
        if self.size == self.stride == self.padding + 1 == 2:
            return F.max_pool2d(x, 2, 2, ceil_mode=True)
        before = self.padding // 2
        after = self.padding - before
        return F.max_pool2d(F.pad(x, (before, after, before, after), value=-math.inf), self.size, self.stride)


def reorg(x: Tensor, stride: int) -> Tensor:
    """`(B, C, H, W)` to `(B, C s^2, H / s, W / s)` in darknet's order, which is not that of a pixel unshuffle."""
    b, c, h, w = x.shape
    parts = x.reshape(b, c // stride**2, h, stride, w, stride).permute(0, 3, 5, 1, 2, 4)
    return parts.reshape(b, c * stride**2, h // stride, w // stride)


# Network ---------------------------------------------------------------------------------------------------------


class Darknet(nn.Module):
    """The layers of a `.cfg`, numbered as in the file; `forward` gives what the heads read, in their order.

    size: channels, height and width of the input; only `local` and `connected` layers depend on the last two.
    eps, outside: of the norms (see `Norm`).
    """

    def __init__(
        self, sections: Sequence[Section], size: tuple[int, int, int], *, eps: float = 1e-6, outside: bool = True
    ) -> None:
        super().__init__()
        self.sections = tuple(sections)
        self.layers = nn.ModuleList()
        shapes: list[tuple[int, int, int]] = []
        for i, part in enumerate(sections):
            layer, shape = self._layer(i, part, shapes[-1] if shapes else size, shapes, eps=eps, outside=outside)
            self.layers.append(layer)
            shapes.append(shape)
        self.shapes = tuple(shapes)
        read = [j for i in range(len(sections)) for j in self._reads(i)]
        self.kept = frozenset(j for j in read)
        self.heads = tuple(i for i, part in enumerate(sections) if part.kind in HEADS)
        if not self.heads:
            raise SightlineError(f"the .cfg has no head: it needs a section [{'], ['.join(HEADS)}]")

    def _reads(self, i: int) -> list[int]:
        """The layers that layer `i` reads besides the one before it."""
        part = self.sections[i]
        if part.kind == "route":
            return [i + int(n) if n < 0 else int(n) for n in part.list("layers")]
        if part.kind == "shortcut":
            n = part.whole("from")
            return [i + n if n < 0 else n]
        return []

    def _layer(
        self, i: int, part: Section, size: tuple[int, int, int], shapes: Sequence[tuple[int, int, int]],
        *, eps: float, outside: bool,
    ) -> tuple[nn.Module, tuple[int, int, int]]:  # fmt: skip
        channels, height, width = size
        if any(not 0 <= j < i for j in self._reads(i)):
            raise SightlineError(f"the .cfg: layer {i}, [{part.kind}], reads a layer that does not come before it")
        if part.kind == "convolutional":
            layer = Convolutional(part, channels, eps=eps, outside=outside)
            place = [(n + 2 * layer.padding - layer.weight.shape[2]) // layer.stride + 1 for n in (height, width)]
            return layer, (layer.weight.shape[0], place[0], place[1])
        if part.kind == "maxpool":
            pool = MaxPool(part)
            place = [(n + pool.padding - pool.size) // pool.stride + 1 for n in (height, width)]
            return pool, (channels, place[0], place[1])
        if part.kind == "local":
            local = Local(part, size)
            return local, (local.weight.shape[1], local.out[0], local.out[1])
        if part.kind == "connected":
            connected = Connected(part, math.prod(size), eps=eps, outside=outside)
            return connected, (connected.weight.shape[0], 1, 1)
        if part.kind == "dropout":
            return nn.Dropout(part.number("probability", 0.5)), size
        if part.kind == "upsample":
            n = part.whole("stride", 2)
            return nn.Identity(), (channels, height * n, width * n)
        if part.kind == "reorg":
            n = part.whole("stride", 1)
            return nn.Identity(), (channels * n * n, height // n, width // n)
        if part.kind == "route":
            return nn.Identity(), (sum(shapes[j][0] for j in self._reads(i)), *shapes[self._reads(i)[0]][1:])
        if part.kind == "shortcut" and shapes[self._reads(i)[0]] != size:
            raise SightlineError(
                f"the .cfg: layer {i}, [shortcut], adds maps of {shapes[self._reads(i)[0]]} and {size}"
            )
        return nn.Identity(), size

    def forward(self, images: Tensor) -> list[Tensor]:
        """`(B, C, H, W)` to the map that each head reads."""
        found: list[Tensor] = []
        self.look(images, lambda i, x: found.append(x) if i in self.heads else None)
        return found

    def look(self, x: Tensor, see: Any) -> None:
        """Go through the layers; `see(number, answer)` is called for each (a head's answer is what it reads)."""
        kept: dict[int, Tensor] = {}
        for i, (part, layer) in enumerate(zip(self.sections, self.layers)):
            if part.kind == "route":
                maps = [kept[j] for j in self._reads(i)]
                x = maps[0] if len(maps) == 1 else torch.cat(maps, 1)
            elif part.kind == "shortcut":
                x = activated(x + kept[self._reads(i)[0]], part.options.get("activation", "linear"))
            elif part.kind == "upsample":
                n = part.whole("stride", 2)
                x = F.interpolate(x, scale_factor=float(n), mode="nearest") * part.number("scale", 1.0)
            elif part.kind == "reorg":
                x = reorg(x, part.whole("stride", 1))
            else:
                x = layer(x)
            if i in self.kept:
                kept[i] = x
            see(i, x)

    def slots(self, prefix: str = "") -> list[Slot]:
        """The tensors in the order of a `.weights` file."""
        found = []
        for i, layer in enumerate(self.layers):
            if not isinstance(layer, Weighted):
                continue
            names = [
                "bias",
                *(f"norm.{n}" for n in ("weight", "running_mean", "running_var") if layer.norm is not None),
            ]
            names = ["bias", "weight", *names[1:]] if isinstance(layer, Connected) else [*names, "weight"]
            tensors = layer.state_dict()
            found += [
                Slot(f"{prefix}layers.{i}.{n}", tuple(tensors[n].shape), n == "weight" and isinstance(layer, Connected))
                for n in names
            ]
        return found
