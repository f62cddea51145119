"""Photographs that move: short videos of eight motions, made from pictures, for learning what only time tells.

Each clip shows a window of a photograph. It starts at a pose (place, size, angle) drawn from one distribution, whatever
its class, and moves evenly: left, right, up, down, closer, farther, or turning either way. No single frame says which:
sizes of the start spread so much wider than a zoom that even who saw them exactly would guess no 5 points above chance.
Photographs of the validation clips are in no training clip. Beyond its borders a photograph is continued by its mirror
image. Every clip has the same brightness and contrast: else the shade of a photograph, which says nothing, is most of
what differs between clips, and networks take many times as long to see the motion. With `flow`, the videos hold the
motion itself: red and green its x and y, blue its length, 128 for none.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sightline.datasets.classes import order_by_hash
from sightline.errors import UsageError
from sightline.media.draw import to_display
from sightline.media.image import is_image, read_image
from sightline.media.video import VideoWriter
from sightline.ops.resize import resize

MOTIONS = ("down", "farther", "left", "nearer", "right", "turn-left", "turn-right", "up")
SIDE = 240  # pixels of a photograph's shorter side, from which windows are cut
PLAIN = 25.0  # standard deviation of the first frame's values, below which there is nothing to follow
CONTRAST = 50.0  # standard deviation of a clip's values, around 128
FLOW_SCALE = 16.0  # values of 255 for a pixel of motion


def write_moving_photos(
    photos: str | Path,
    out: str | Path,
    *,
    train: int = 2400,
    val: int = 400,
    size: int = 64,
    frames: int = 16,
    held_out: float = 0.3,
    flow: bool = False,
    seed: int = 0,
) -> Path:
    """Write `out/train/MOTION/*.mp4` and `out/val/MOTION/*.mp4` from the pictures directly in `photos`.

    The two pictures of a stereo pair (NAME_left, NAME_right) show one scene and stay on one side.

    train, val: clips in all. held_out: share of the photographs that only val shows (two at least).
    Raises `UsageError` for fewer than four photographs.
    """
    found = sorted(p for p in Path(photos).iterdir() if is_image(p)) if Path(photos).is_dir() else []
    if len(found) < 4:
        raise UsageError(f"{photos} holds {len(found)} pictures; moving photographs need four or more in one folder")
    scenes = sorted({_scene(p) for p in found})
    order = [scenes[i] for i in order_by_hash(scenes, seed)]
    apart = set(order[: min(max(2, round(held_out * len(scenes))), len(scenes) - 2)])
    parts = {"val": [p for p in found if _scene(p) in apart], "train": [p for p in found if _scene(p) not in apart]}
    for split, number in (("val", val), ("train", train)):
        part = parts[split]
        pictures = [_photo(p) for p in part]
        for index in range(number):
            rng = np.random.default_rng([seed, split == "train", index])
            motion = MOTIONS[index % len(MOTIONS)]
            picture = pictures[int(rng.integers(len(pictures)))]
            poses = path(motion, frames, start(picture, size, rng), rng)
            clip = shown_flow(poses, size) if flow else levelled(shown(picture, poses, size))
            path_out = Path(out) / split / motion / f"{index:05d}.mp4"
            path_out.parent.mkdir(parents=True, exist_ok=True)
            with VideoWriter(path_out, 25, quality=12) as sink:
                for image in clip:
                    sink.write(image)
    return Path(out)


def _scene(path: Path) -> str:
    """What a photograph shows, by its name: the left and the right picture of a pair are one scene."""
    return re.sub(r"[_-](left|right|l|r)$", "", path.stem.lower())


def start(picture: Tensor, size: int, rng: np.random.Generator) -> np.ndarray:
    """The first pose: centre x and y in windows, log size, angle; drawn again where there is nothing to see."""
    pose = np.zeros(4)
    for _ in range(20):
        pose = np.array([rng.uniform(0, 5), rng.uniform(0, 5), rng.uniform(-0.9, 0.4), rng.uniform(0, 2 * np.pi)])
        if shown(picture, pose[None], size).std() > PLAIN:
            break
    return pose


def path(motion: str, frames: int, start: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Poses `(frames, 4)` from `start` on, evenly, at a speed that is drawn the same way for all motions."""
    speed = rng.uniform(0.6, 1.4)
    x, y, zoom, turn = {
        "left": (0.36, 0, 0, 0),  # the window goes right, so the picture goes left
        "right": (-0.36, 0, 0, 0),
        "up": (0, 0.36, 0, 0),
        "down": (0, -0.36, 0, 0),
        "nearer": (0, 0, -0.4, 0),
        "farther": (0, 0, 0.4, 0),
        "turn-left": (0, 0, 0, 1.0),
        "turn-right": (0, 0, 0, -1.0),
    }[motion]
    cos, sin, scale = np.cos(start[3]), np.sin(start[3]), np.exp(start[2])
    step = np.array([(cos * x - sin * y) * scale, (sin * x + cos * y) * scale, zoom, turn]) * speed
    return start + np.linspace(0, 1, frames)[:, None] * step


def shown(picture: Tensor, poses: np.ndarray, size: int) -> np.ndarray:
    """What the window sees at each pose, uint8 `(frames, size, size, 3)`; picture: float `(3, H, W)` in 0..255."""
    places = grid(poses, size) * (size * 2 / torch.tensor([picture.shape[2], picture.shape[1]])) - 1
    views = F.grid_sample(
        picture[None].expand(len(poses), -1, -1, -1), places, padding_mode="reflection", align_corners=False
    )
    return views.permute(0, 2, 3, 1).round().clamp(0, 255).to(torch.uint8).numpy()


def levelled(clip: np.ndarray) -> np.ndarray:
    """A clip `(frames, H, W, 3)` of bytes with the mean 128 of each colour and one contrast over the whole of it."""
    values = clip.astype(np.float32)
    spread = max(float(values.std()), CONTRAST / 8)
    return (128 + (values - values.mean((0, 1, 2))) * (CONTRAST / spread)).round().clip(0, 255).astype(np.uint8)


def shown_flow(poses: np.ndarray, size: int) -> np.ndarray:
    """The motion of every pixel to the next frame as flow pictures, uint8 `(frames - 1, size, size, 3)`."""
    found = []
    rows = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    for now, after in itertools.pairwise(poses):
        place = _moved(torch.stack([x, y], dim=-1), now) - torch.tensor(after[:2], dtype=torch.float32)
        cos, sin, scale = (float(v) for v in (np.cos(after[3]), np.sin(after[3]), np.exp(after[2])))
        back = torch.stack([cos * place[..., 0] + sin * place[..., 1], cos * place[..., 1] - sin * place[..., 0]], -1)
        moved = (back / scale - torch.stack([x, y], dim=-1)) * size
        length = moved.norm(dim=-1, keepdim=True)
        values = torch.cat([moved, length], dim=-1) * FLOW_SCALE + 128
        found.append(values.round().clamp(0, 255).to(torch.uint8).numpy())
    return np.stack(found)


def grid(poses: np.ndarray, size: int) -> Tensor:
    """Where each pixel of the window looks at each pose, in windows: float32 `(frames, size, size, 2)`."""
    rows = (torch.arange(size) + 0.5) / size - 0.5
    y, x = torch.meshgrid(rows, rows, indexing="ij")
    return torch.stack([_moved(torch.stack([x, y], dim=-1), pose) for pose in poses])


def _moved(place: Tensor, pose: Sequence[float] | np.ndarray) -> Tensor:
    """Places in the window `(..., 2)` as places in the photograph, both in windows."""
    x, y, size, angle = (float(v) for v in pose)
    cos, sin, scale = np.cos(angle), np.sin(angle), np.exp(size)
    turned = torch.stack([cos * place[..., 0] - sin * place[..., 1], sin * place[..., 0] + cos * place[..., 1]], -1)
    return turned * scale + torch.tensor([x, y])


def _photo(path: Path) -> Tensor:
    """A picture as float `(3, H, W)` in 0..255, its shorter side `SIDE` pixels."""
    x = torch.from_numpy(to_display(read_image(path)).copy()).permute(2, 0, 1).float()
    factor = SIDE / min(x.shape[1:])
    return resize(x[None], [round(n * factor) for n in x.shape[1:]], rule="antialias")[0]
