"""Drawing on pictures: colours for classes, overlays, outlines, legends, captions and grids, with numpy and Pillow.

Pictures are `(H, W, 3)` uint8 RGB; every function returns a new one and writes into nothing it was given. Pictures of
other kinds become such pictures through `to_display`. `python -m sightline.media.draw OUT.png` shows all of it at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sightline.errors import UsageError

Colour = tuple[int, int, int]
Colours = np.ndarray | Sequence[Sequence[int]]
"""A colour a class: `(K, 3)`, 0..255."""

WHITE: Colour = (255, 255, 255)
INK: Colour = (32, 36, 42)

FIRST = (  # chosen by hand: far apart, also for most colour-blind eyes, and pleasant together
    (31, 119, 200), (255, 140, 26), (44, 162, 95), (222, 45, 68), (148, 103, 220),
    (23, 190, 207), (240, 200, 40), (227, 106, 180), (150, 90, 60), (150, 200, 60),
)  # fmt: skip


def palette(n: int) -> np.ndarray:
    """`n` distinct colours, `(n, 3)` uint8; the first ones are the same whatever `n` is. At most 1000.

    After ten colours chosen by hand, each further one is that of a 16 x 16 x 16 cube which is farthest from all
    before it in Oklab (Ottosson 2020), where equal distances look equal; greys and extremes are left out.
    """
    if not 0 <= n <= 1000:
        raise UsageError(f"cannot make {n} distinct colours: choose 0 to 1000")
    chosen = list(FIRST[:n])
    if n > len(FIRST):
        cube = np.stack(np.meshgrid(*[np.arange(0, 256, 17)] * 3, indexing="ij"), -1).reshape(-1, 3)
        places = _oklab(cube)
        lively = (np.hypot(places[:, 1], places[:, 2]) > 0.06) & (places[:, 0] > 0.35) & (places[:, 0] < 0.95)
        cube, places = cube[lively], places[lively]
        nearest = np.min([((places - p) ** 2).sum(1) for p in _oklab(np.array(FIRST))], axis=0)
        while len(chosen) < n:
            k = int(nearest.argmax())
            chosen.append(tuple(cube[k].tolist()))
            nearest = np.minimum(nearest, ((places - places[k]) ** 2).sum(1))
    return np.array(chosen, np.uint8).reshape(n, 3)


def blend(image: np.ndarray, labels: np.ndarray, colours: Colours, alpha: float = 0.5, ignore: int = 255) -> np.ndarray:
    """Tint each pixel of `image` with the colour of its label `(H, W)`; pixels labelled `ignore` stay as they are.

    alpha: 0 leaves the picture, 1 shows the colours alone.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}, expected a share from 0 to 1")
    tint, known = _tint(image, labels, colours, ignore)
    share = round(alpha * 256)
    mixed = (image.astype(np.uint16) * (256 - share) + tint.astype(np.uint16) * share + 128) >> 8
    return np.where(known[..., None], mixed.astype(np.uint8), image)


def boundary(labels: np.ndarray) -> np.ndarray:
    """Where a pixel of `(H, W)` differs from one of its four neighbours, `(H, W)` bool: both sides of each border."""
    edge = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def outline(image: np.ndarray, labels: np.ndarray, colours: Colours, ignore: int = 255) -> np.ndarray:
    """Draw the border of every region of `labels` `(H, W)` in the colour of its class; `ignore` draws none."""
    tint, known = _tint(image, labels, colours, ignore)
    return np.where((boundary(labels) & known)[..., None], tint, image)


def text(words: str, size: int = 14, colour: Colour = INK, background: Colour = WHITE) -> np.ndarray:
    """Words as a picture just large enough for them; `size`: the height of the font in pixels; `\\n` starts a line."""
    font = _font(size)
    lines = words.split("\n")
    ascent, descent = font.getmetrics()
    step = round((ascent + descent) * 1.1)
    width = max(1, *(round(font.getlength(line) + 0.5) for line in lines))
    mask = Image.new("L", (width, step * len(lines)))
    pen = ImageDraw.Draw(mask)
    for k, line in enumerate(lines):
        pen.text((0, k * step), line, fill=255, font=font)
    share = np.asarray(mask, np.float32)[..., None] / 255
    mixed = np.asarray(background) * (1 - share) + np.asarray(colour) * share
    return mixed.round().astype(np.uint8)


def caption(image: np.ndarray, words: str, size: int = 14) -> np.ndarray:
    """The picture below a line of words; words that are too long for its width end in an ellipsis."""
    _check_image(image)
    margin = size // 3
    room = image.shape[1] - 2 * margin
    line = text(_shorten(words, room, size), size)
    strip = _canvas(line.shape[0] + 2 * margin, image.shape[1])
    _paste(strip, line, margin, margin)
    return np.concatenate([strip, image])


def legend(names: Sequence[str], colours: Colours, *, width: int | None = None, size: int = 14) -> np.ndarray:
    """A swatch and a name for each class, in columns of equal width that fill `width` pixels; one column without it."""
    if len(names) > len(colours):
        raise UsageError(f"{len(names)} names and {len(colours)} colours: give each name a colour")
    table = np.asarray(colours, np.uint8).reshape(-1, 3)
    pad, height = size // 2, round(size * 1.7)
    longest = max((round(_font(size).getlength(name) + 0.5) for name in names), default=0)
    cell = height + longest + 2 * pad
    width = width or cell
    columns = min(max(1, width // cell), max(1, len(names)))
    rows = -(-len(names) // columns)
    picture = _canvas(rows * height + pad, width)
    for k, name in enumerate(names):
        top, left = (k % rows) * height + pad // 2, (k // rows) * (width // columns) + pad
        _paste(picture, _swatch(table[k], size), top + (height - size) // 2, left)
        line = text(_shorten(name, width // columns - height - pad, size), size)
        _paste(picture, line, top + (height - line.shape[0]) // 2, left + height)
    return picture


def grid(images: Sequence[np.ndarray], columns: int, gap: int = 6) -> np.ndarray:
    """Pictures in rows of `columns`, on white, `gap` pixels apart; each stands in the middle of its cell."""
    if not images or columns < 1:
        raise UsageError(f"a grid needs at least one picture and one column, got {len(images)} and {columns}")
    for image in images:
        _check_image(image)
    columns = min(columns, len(images))
    rows = [images[k : k + columns] for k in range(0, len(images), columns)]
    heights = [max(i.shape[0] for i in row) for row in rows]
    widths = [max(i.shape[1] for i in images[c::columns]) for c in range(columns)]
    picture = _canvas(sum(heights) + gap * (len(rows) - 1), sum(widths) + gap * (columns - 1))
    top = 0
    for row, height in zip(rows, heights):
        left = 0
        for image, width in zip(row, widths):
            _paste(picture, image, top + (height - image.shape[0]) // 2, left + (width - image.shape[1]) // 2)
            left += width + gap
        top += height + gap
    return picture


def to_display(image: np.ndarray) -> np.ndarray:
    """Any picture `(H, W)` or `(H, W, C)` as `(H, W, 3)` uint8 for the eye; never for a network.

    8 bits stay as they are; floats in [0, 1] are multiplied by 255; all others are stretched between their percentiles
    0.5 and 99.5. Grey is repeated, of more than three channels the first three are shown, of two the first.
    """
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or 0 in image.shape or image.dtype.kind not in "buif":
        raise UsageError(
            f"a picture is an array (height, width, channels) of numbers, got {image.shape} of {image.dtype}"
        )
    image = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    if image.dtype == np.uint8:
        return image.copy()
    values = image.astype(np.float32)
    low, high = _range(values, image.dtype)
    stretched = np.nan_to_num((values - low) * (255 / (high - low)), nan=0.0)
    return np.clip(stretched, 0, 255).round().astype(np.uint8)


def _range(values: np.ndarray, dtype: np.dtype) -> tuple[float, float]:
    """The values that are shown black and white, from a grid of about a million pixels."""
    step = max(1, max(values.shape) // 1000)
    sample = values[::step, ::step]
    sample = sample[np.isfinite(sample)]
    if not sample.size or (dtype.kind in "bf" and sample.min() >= 0 and sample.max() <= 1):
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(sample, (0.5, 99.5)))
    return low, max(high, low + 1e-6 * max(1.0, abs(low)))


def _tint(image: np.ndarray, labels: np.ndarray, colours: Colours, ignore: int) -> tuple[np.ndarray, np.ndarray]:
    """The colour of every pixel's class `(H, W, 3)`, and which pixels have a class `(H, W)`."""
    _check_image(image)
    if labels.shape != image.shape[:2]:
        raise UsageError(f"labels of {labels.shape} cannot be drawn on a picture of {image.shape[:2]}: sizes differ")
    table = np.asarray(colours, np.uint8).reshape(-1, 3)
    known = labels != ignore
    ids = np.where(known, labels, 0)
    if known.any() and (ids.min() < 0 or ids.max() >= len(table)):
        raise UsageError(f"labels {ids.min()} to {ids.max()} need as many colours, got {len(table)}")
    return (table[ids] if len(table) else np.zeros_like(image)), known


def _check_image(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise UsageError(
            f"drawing needs a picture (height, width, 3) of uint8, got {image.shape} of {image.dtype}: use to_display"
        )


def _canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 255, np.uint8)


def _paste(canvas: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
    """Put `image` on `canvas` (one that was made here); what reaches beyond is cut off."""
    place = canvas[top : top + image.shape[0], left : left + image.shape[1]]
    place[...] = image[: place.shape[0], : place.shape[1]]


def _swatch(colour: np.ndarray, size: int) -> np.ndarray:
    """A square of `colour` with round corners on white."""
    mask = Image.new("L", (4 * size, 4 * size))
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * size - 1, 4 * size - 1), radius=size, fill=255)
    share = np.asarray(mask.resize((size, size), Image.Resampling.BOX), np.float32)[..., None] / 255
    return (255 * (1 - share) + colour * share).round().astype(np.uint8)


@lru_cache(maxsize=16)
def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise UsageError("this Pillow was built without FreeType; install the usual one: pip install pillow")
    return font


def _shorten(words: str, room: int, size: int) -> str:
    """`words`, or as many of their letters as fit into `room` pixels, and an ellipsis."""
    font = _font(size)
    if font.getlength(words) <= room:
        return words
    while words and font.getlength(words + "…") > room:
        words = words[:-1]
    return words.rstrip() + "…"


def _oklab(rgb: np.ndarray) -> np.ndarray:
    """sRGB 0..255 `(N, 3)` to Oklab `(N, 3)`: lightness 0..1 and two opponent axes (Ottosson 2020)."""
    c = rgb / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    cones = linear @ np.array(
        [
            [0.4122214708, 0.2119034982, 0.0883024619],
            [0.5363325363, 0.6806995451, 0.2817188376],
            [0.0514459929, 0.1073969566, 0.6299787005],
        ]
    )
    return np.cbrt(cones) @ np.array(
        [
            [0.2104542553, 1.9779984951, 0.0259040371],
            [0.7936177850, -2.4285922050, 0.7827717662],
            [-0.0040720468, 0.4505937099, -0.8086757660],
        ]
    )


def demonstration() -> np.ndarray:
    """A made-up landscape, its labels, and everything this file can draw about them."""
    height, width = 180, 270
    y, x = np.mgrid[:height, :width]
    names = ("sky", "sun", "far hills", "near hills", "lake", "a class with a very long name")
    labels = np.zeros((height, width), np.uint8)
    labels[(y - 45) ** 2 + (x - 200) ** 2 < 22**2] = 1
    labels[y > 95 + 18 * np.sin(x / 31)] = 2
    labels[y > 125 + 14 * np.sin(x / 47 + 2)] = 3
    labels[((y - 158) / 14) ** 2 + ((x - 90) / 60) ** 2 < 1] = 4
    labels[:12, :40] = 255
    paints = np.array([(150, 190, 235), (255, 236, 170), (110, 130, 140), (88, 112, 70), (70, 110, 150), (0, 0, 0)])
    grain = np.random.default_rng(0).normal(0, 6, (height, width, 1))
    light = (1.15 - 0.45 * y / height)[..., None]
    image = np.clip(paints[np.minimum(labels, 5)] * light + grain, 0, 255).astype(np.uint8)
    image[labels == 255] = 90
    colours = palette(len(names))
    panels = [
        caption(image, "picture"),
        caption(blend(image, labels, colours), "blend"),
        caption(outline(image, labels, colours), "outline"),
        caption(to_display(y * 300 + x), "to_display, 16 bits"),
        caption(np.where(boundary(labels)[..., None], np.uint8(0), blend(image, labels, colours, 0.8)), "boundary"),
        caption(legend(names, colours, width=width), "legend; a caption too long for its picture is shortened"),
    ]
    board = grid(panels, columns=3, gap=12)
    swatches = grid([_swatch(c, 20) for c in palette(72)], columns=36, gap=4)
    return grid([board, caption(swatches, "palette(72)")], columns=1, gap=12)


def main() -> None:
    """Write the demonstration to the path given on the command line."""
    from sightline.media.image import write_image

    if len(sys.argv) != 2:
        raise SystemExit("usage: python -m sightline.media.draw OUT.png")
    write_image(sys.argv[1], demonstration())


if __name__ == "__main__":
    main()
