"""Make a data set out of nothing, train on it, and answer a video frame by frame.

    python examples/moving_shapes.py

The made-up shapes have a truth for everything (labels, instances, boxes), so the last line can say how well the video
was read.
"""

from pathlib import Path

import numpy as np

import sightline as sl
from sightline.datasets.moving import CLASSES, moving_shapes, write_clip, write_pictures
from sightline.media.video import VideoWriter


def main(
    folder: str = "runs/shapes", steps: int = 200, pictures: int = 32, frames: int = 24, **options: object
) -> None:
    """Write data, run, clip and answered clip below `folder`; `options` are those of `sl.train`."""
    out = Path(folder)
    data = write_pictures(out / "data", train=pictures, val=max(1, pictures // 4))
    run = sl.train("unet", data, run=out / "run", steps=steps, say=print, **options)

    truth = list(moving_shapes(frames=frames, seed=1))
    clip = write_clip(out / "clip.mp4", truth)
    right = []
    with VideoWriter(out / "answered.mp4", fps=12) as video:
        for frame, answer in zip(truth, sl.predict(run.folder, clip)):
            right.append(np.mean(answer.labels.numpy() == frame.labels))
            painted = answer.draw()
            video.write(painted[: frame.image.shape[0], : frame.image.shape[1]])  # without the legend below
    print(f"{len(right)} frames, classes {', '.join(CLASSES)}: {np.mean(right):.1%} of the pixels right")


if __name__ == "__main__":
    main()
