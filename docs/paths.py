"""Draw the data's path through every paper's network, from the network itself: `python docs/paths.py [MODULE ...]`.

One picture a paper, `docs/images/paths/MODULE.svg`, of the first entry its file builds, at the builder's own values:
the network is run once without values (PyTorch's meta device), and every part says what it put out. A box is as high
as the map and as wide as its channels, both on a scale of logarithms. Networks that look at values on their way (which
boxes overlap) are run at the small values of their catalogue line, and the picture says so.
"""

from __future__ import annotations

import contextlib
import math
import re
import sys
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from sightline.contracts import Entry
from sightline.files import write_text
from sightline.ops.tree import named_tensors
from sightline.verbs.models import builder_of, catalogue, create, defaults_of

OUT = Path(__file__).resolve().parent / "images" / "paths"
MOST = 22  # boxes in a picture
Shape = tuple[int, ...]


def papers() -> dict[str, str]:
    """The file of every paper (`room-module`) and the name of its first entry."""
    found: dict[str, str] = {}
    for name, entry in catalogue().items():
        if entry.build.startswith("sightline."):
            found.setdefault(key_of(entry), name)
    return found


def key_of(entry: Entry) -> str:
    """`segmentation-unet` of `sightline.segmentation.models.unet:unet`."""
    parts = entry.build.partition(":")[0].split(".")
    return f"{parts[1]}-{parts[-1]}"


def example(name: str, entry: Entry, values: Mapping[str, Any], net: nn.Module) -> Tensor:
    """One picture, volume or clip of a usual size that the network takes, without values."""
    defaults = {**defaults_of(builder_of(entry)), **values}
    channels = defaults.get("in_channels", entry.preprocess.channels)
    if entry.task == "action":
        return torch.zeros(1, channels, *clip_size(defaults, entry))
    side = 64 if entry.preprocess.axes == 3 else 256
    side = net.legal_size(side) if hasattr(net, "legal_size") else side  # pyright: ignore[reportCallIssue]
    return torch.zeros(1, channels, *[side] * entry.preprocess.axes)


def clip_size(values: Mapping[str, Any], entry: Entry) -> tuple[int, ...]:
    """Frames, height and width of a clip (volumes: depth) that the network takes: its own, or those of its weights."""
    size = values.get("size") or [int(n) for n in re.findall(r"\d+", entry.preprocess.resize)]
    size = [size] if isinstance(size, int) else list(size)
    if len(size) == 3:
        return tuple(size)
    rule = re.search(r"\d+", entry.preprocess.clip)
    frames = values.get("frames") or values.get("fields") or (int(rule[0]) if rule else 16)
    return (frames, size[0], size[-1])


def path_of(net: nn.Module, images: Tensor) -> list[tuple[str, Shape]]:
    """Names and shapes of what the parts put out, in the order in which they first did; the picture first."""
    made: dict[str, Shape] = {}
    handles = []
    for name, module in net.named_modules():

        def after(_: nn.Module, __: Any, output: Any, name: str = name) -> None:
            maps = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor) and leaf.ndim > 1]
            if maps and name and name not in made:
                made[name] = tuple(maps[-1].shape[1:])

        handles.append(module.register_forward_hook(after))
    try:
        with torch.no_grad():
            out = net.eval()(images)
    finally:
        for handle in handles:
            handle.remove()
    shown = _parts(made)
    answer = {name: tuple(tensor.shape[1:]) for name, tensor in named_tensors(out).items() if tensor.ndim > 1}
    return [("images", tuple(images.shape[1:])), *((name, made[name]) for name in shown), *list(answer.items())[:3]]


def _parts(made: Mapping[str, Shape]) -> list[str]:
    """Which parts are drawn: the network's own, then theirs, while there is room and they are more than a layer."""
    children: dict[str, list[str]] = {}
    for name in made:
        parent = name.rpartition(".")[0]
        while parent and parent not in made:
            parent = parent.rpartition(".")[0]
        children.setdefault(parent, []).append(name)
    shown = list(children.get("", []))
    while True:
        inner = [name for name in shown if any(child in children for child in children.get(name, []))]
        inner = [name for name in inner if len(shown) - 1 + len(children[name]) <= MOST]
        if not inner:
            break
        name = min(inner, key=lambda n: (n.count("."), len(children[n])))
        at = shown.index(name)
        shown[at : at + 1] = children[name]
    order = list(made)
    return sorted(shown, key=order.index)


def drawing(title: str, path: list[tuple[str, Shape]]) -> str:
    """The picture as SVG, light on any background."""
    x, top, middle, parts = 20.0, 40, 170, []
    for name, shape in path:
        channels, space = shape[0], shape[1:] or (1,)
        if len(shape) == 2:  # tokens and their channels
            channels, space = shape[1], (math.isqrt(shape[0]),)
        high = 8 + 24 * math.log2(max(max(space), 1)) / 2 * 1.2
        wide = 6 + 3.2 * math.log2(max(channels, 1))
        parts.append(
            f'<rect x="{x:.1f}" y="{middle - high / 2:.1f}" width="{wide:.1f}" height="{high:.1f}" rx="2" '
            f'fill="{"#d9822b" if name in ("images", path[-1][0]) else "#3a7ca5"}"/>'
        )
        words = f"{name}  {' × '.join(map(str, shape))}"
        parts.append(
            f'<text transform="translate({x + wide / 2 + 4:.1f},{middle + 75}) rotate(60)">{escape(words)}</text>'
        )
        x += wide + 26
    longest = max(len(name) + 4 * len(shape) for name, shape in path)
    height = middle + 90 + longest * 6.2
    width = x + longest * 3.6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="#fff"/>'
        f'<text x="20" y="{top - 18}" font-size="14">{escape(title)}</text>{"".join(parts)}</svg>\n'
    )


def draw(name: str) -> str:
    """The picture of one entry; empty when it takes more than pictures."""
    entry = catalogue()[name]
    for values, device in (({}, "meta"), (dict(entry.tiny), "cpu")):
        with contextlib.suppress(RuntimeError, NotImplementedError, ValueError, TypeError):
            with torch.device(device):
                net = create(name, **values).to(device)
                images = example(name, entry, values, net)
            title = f"{name}, one input of {' × '.join(map(str, images.shape[1:]))}"
            return drawing(title + (" at its smallest values" if values else ""), path_of(net, images))
    return ""


def main(names: list[str]) -> int:
    """Draw the papers called `names`, or all."""
    for key, name in papers().items():
        if not names or key in names or key.partition("-")[2] in names:
            picture = draw(name)
            if picture:
                write_text(OUT / f"{key}.svg", picture)
            print(f"docs/images/paths/{key}.svg" if picture else f"{name} cannot be drawn from one input", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
