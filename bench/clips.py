"""Clips: exact frames beside the usual readers; networks made ready beside torchvision's; TSM frame by frame."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.harness import Row, race, relative_difference

from sightline.media.clips import read_frames
from sightline.media.video import VideoWriter
from sightline.verbs.load import load_weights
from sightline.verbs.models import create
from sightline.verbs.optimize import optimize

FRAMES, SIZE, KEPT, VIEWS = 300, (480, 640), 16, 10


def rows() -> Iterator[Row]:
    """Reading, then networks."""
    with tempfile.TemporaryDirectory() as folder:
        yield from reading(written(Path(folder) / "clip.mp4"))
    with torch.inference_mode():
        yield from networks()
        yield online()


def written(path: Path) -> Path:
    """A video of `FRAMES` frames that drift and change."""
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 255, (SIZE[0] + FRAMES, SIZE[1], 3), np.uint8)
    ground = ground[::4, ::4].repeat(4, 0).repeat(4, 1)[: SIZE[0] + FRAMES, : SIZE[1]]
    with VideoWriter(path, 30) as out:
        for t in range(FRAMES):
            out.write(np.roll(ground, t, axis=1)[t : t + SIZE[0]])
    return path


def by_pyav(path: Path, wanted: list[int]) -> np.ndarray:
    """The plain way: decode and convert all frames, keep some."""
    import av

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack([frames[i] for i in wanted])


def by_opencv(path: Path, wanted: list[int]) -> np.ndarray:
    """grab() all, retrieve what is kept."""
    import cv2

    video, keep, found = cv2.VideoCapture(str(path)), set(wanted), {}
    for index in range(max(wanted) + 1):
        video.grab()
        if index in keep:
            found[index] = cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB)
    return np.stack([found[i] for i in wanted])


def reading(path: Path) -> Iterator[Row]:
    """16 frames of 300, and ten views of 16, of an H.264 file; every reader must give the same frames."""
    one = np.linspace(0, FRAMES - 1, KEPT).astype(int).tolist()
    views = [
        start + 2 * k for start in np.linspace(0, FRAMES - 2 * KEPT, VIEWS).astype(int).tolist() for k in range(KEPT)
    ]
    peers: list[tuple[str, Any, str]] = [("PyAV, all frames converted", by_pyav, "1.5")]
    try:
        import cv2  # noqa: F401

        peers.append(("OpenCV, kept frames retrieved", by_opencv, "0.8"))
    except ImportError:
        pass
    for what, wanted in ((f"{KEPT} frames of {FRAMES}", one), (f"{VIEWS} views of {KEPT}", views)):
        ours = read_frames(path, wanted)
        for name, read, bar in peers:
            gap = int(np.abs(read(path, wanted).astype(int) - ours).max())
            yield race(
                f"exact frames: {what}, {SIZE[1]} x {SIZE[0]}",
                lambda wanted=wanted: read_frames(path, wanted),
                lambda wanted=wanted, read=read: read(path, wanted),
                names=("read_frames", name),
                difference=f"largest difference {gap} of 255",
                bar=bar,
                repeats=3,
            )


def networks() -> Iterator[Row]:
    """R(2+1)D and S3D beside torchvision's as built; X3D and SlowFast beside themselves as built."""
    from torchvision.models import video

    for name, peer, size in (
        ("r2plus1d_18_tv", video.r2plus1d_18, (16, 112, 112)),
        ("s3d_tv", video.s3d, (16, 224, 224)),
        ("x3d_s_ptv", None, (13, 182, 182)),
        ("slowfast_8x8_ptv", None, (32, 128, 128)),
    ):
        torch.manual_seed(0)
        values = {} if peer else {"window": None}
        ours = create(name, num_classes=400, mean=None, **values).eval()
        other: Any = peer(num_classes=400) if peer else ours
        clip = torch.rand(1, 3, *size)
        settle(other, clip)
        if peer:
            load_weights(ours, other.state_dict())
        twin: Any = optimize(ours, clip, repeats=0).net
        expected = other(clip) if peer else other(clip).logits
        yield race(
            f"{name}, {' x '.join(map(str, size))}",
            lambda twin=twin, clip=clip: twin(clip),
            lambda other=other, clip=clip: other(clip),
            names=("after optimize", "torchvision as built" if peer else "the same network as built"),
            difference=f"relative {relative_difference(twin(clip).logits, expected):.1e}",
            bar="1.15",
            repeats=3,
            note="" if peer else "pytorchvideo does not install beside this torch; its form is the network as built",
        )


def settle(net: torch.nn.Module, clip: torch.Tensor) -> None:
    """Give the batch norms the statistics of `clip`: of a network just drawn the last maps are nearly constant."""
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.momentum = 1.0
    net.train()(clip)
    net.eval()


def online() -> Row:
    """One more frame of a stream beside one pass of the plain 2-D network."""
    torch.manual_seed(0)
    net: Any = create("tsm_online_r50", num_classes=400).eval()
    plain: Any = create("resnet50_tv", num_classes=400).eval()
    clip = torch.rand(1, 3, 4, 224, 224)
    state, seen = (), []
    for t in range(4):
        logits, state = net.step(clip[:, :, t], state)
        seen.append(logits)
    gap = relative_difference(torch.stack(seen).mean(0), net(clip).logits)
    return race(
        "TSM online, one more frame of 224 x 224",
        lambda: net.step(clip[:, :, 3], state),
        lambda: plain(clip[:, :, 3]),
        names=("tsm_online_r50.step", "one pass of ResNet-50"),
        difference=f"clip against its frames one by one: relative {gap:.1e}",
        bar="0.91",
        repeats=5,
    )
