"""Draw clips and what a network says of them: `python docs/strip.py RUN CLIP ...` writes docs/images/clips.jpg.

The README's picture is of a run of `python -m sightline.recipes.moving_photos PHOTOS tsm` and of the val clips
left/00002, nearer/00051, turn-left/00013 and up/00031, of two photographs in the public domain.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import sightline as sl
from sightline.media.clips import read_frames, video_info
from sightline.media.draw import caption, grid
from sightline.media.image import write_image

OUT = Path(__file__).with_name("images") / "clips.jpg"
SHOWN, SIDE, GAP = 8, 96, 2


def row(clip: Path, said: str) -> np.ndarray:
    """`SHOWN` frames of one clip, evenly apart, under the true class (its folder) and the answer."""
    chosen = np.linspace(0, video_info(clip).frames - 1, SHOWN).round().astype(int).tolist()
    frames = read_frames(clip, chosen, size=(SIDE, SIDE))
    return caption(grid(list(frames), SHOWN, GAP), f"{clip.parent.name}: the network says {said}", 13)


def main() -> None:
    """RUN, then the clips."""
    run, *clips = sys.argv[1:]
    found = sl.predict(run, clips, device="cpu")
    rows = []
    for clip, answer in zip(clips, found, strict=True):
        best = int(answer.probabilities.argmax())
        rows.append(row(Path(clip), f"{answer.classes[best]}, {float(answer.probabilities[best]):.2f}"))
    write_image(OUT, grid(rows, 1, 8))
    print(OUT)


if __name__ == "__main__":
    main()
