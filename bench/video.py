"""Videos: exact frames beside the usual readers, and files to logits."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench.harness import Row, race, relative_difference
from torch.utils.data import DataLoader, Dataset

from sightline.action.sampling import parse_rule
from sightline.action.targets import ClipSamples
from sightline.classification.targets import collate
from sightline.contracts import Preprocess
from sightline.datasets.open import open_dataset
from sightline.media.clips import read_frames, video_info
from sightline.media.prepare import as_float
from sightline.media.video import VideoWriter
from sightline.verbs.models import create

FRAMES, SIZE, KEPT, VIEWS = 300, (480, 640), 16, 10


def rows() -> Iterator[Row]:
    """Reading, then files to logits."""
    with tempfile.TemporaryDirectory() as folder:
        yield from reading(Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        yield files_to_logits(Path(folder))


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


def by_torchcodec(path: Path, wanted: list[int]) -> np.ndarray:
    """Its exact mode, which scans the file first."""
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(str(path), dimension_order="NHWC", num_ffmpeg_threads=0, seek_mode="exact")
    return decoder.get_frames_at(wanted).data.numpy()


def by_decord(path: Path, wanted: list[int]) -> np.ndarray:
    """A batch of frames."""
    from decord import VideoReader, cpu

    return VideoReader(str(path), ctx=cpu(0)).get_batch(wanted).asnumpy()


def reading(folder: Path) -> Iterator[Row]:
    """16 frames of 300, and ten views of 16, of an H.264 file, beside every reader that is installed.

    A promise holds against readers that return the right frames of all files of `kinds`.
    """
    path, files = written(folder / "clip.mp4"), kinds(folder)
    one = np.linspace(0, FRAMES - 1, KEPT).astype(int).tolist()
    views = [
        start + 2 * k for start in np.linspace(0, FRAMES - 2 * KEPT, VIEWS).astype(int).tolist() for k in range(KEPT)
    ]
    for name, read, bar in (
        ("PyAV, all frames converted", by_pyav, "1.5"),
        ("OpenCV, kept frames retrieved", by_opencv, "0.8"),
        ("torchcodec, exact mode", by_torchcodec, "0.8"),
        ("decord", by_decord, "0.8"),
    ):
        try:
            expected = read(path, one)
        except (ImportError, RuntimeError) as error:
            yield Row(f"exact frames: {name}", "-", "-", None, "-", "-", bar, 1, str(error).splitlines()[0])
            continue
        wrong = [file.name for file in files if not right(file, read)]
        for what, wanted in ((f"{KEPT} frames of {FRAMES}", one), (f"{VIEWS} views of {KEPT}", views)):
            expected = read(path, wanted)
            gap = int(np.abs(expected.astype(int) - read_frames(path, wanted)).max())
            yield race(
                f"exact frames: {what}, {SIZE[1]} x {SIZE[0]}",
                lambda wanted=wanted: read_frames(path, wanted),
                lambda wanted=wanted, read=read: read(path, wanted),
                names=("read_frames", name),
                difference=f"largest difference {gap} of 255",
                bar="" if wrong else bar,
                repeats=5,
                note=f"wrong frames, or none, of {', '.join(wrong)}" if wrong else "",
            )


BITS, COUNT = 8, 120


def kinds(folder: Path) -> list[Path]:
    """Files of several kinds whose frame i shows the bits of i: B-frames in AVI, transport stream, uneven times."""
    made = []
    for name, codec, options in (
        ("h264.mp4", "libx264", {"g": "250", "bf": "3"}),
        ("stream.ts", "libx264", {"g": "30", "bf": "2"}),
        ("divx.avi", "mpeg4", {"bf": "2", "g": "20"}),
        ("uneven.mp4", "libx264", {"bf": "2"}),
        ("vp9.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ):
        import av

        path = folder / name
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt, stream.options = 16 * BITS, 48, "yuv420p", options
            if codec == "mpeg4":
                stream.codec_context.max_b_frames = 2
            for k in range(COUNT):
                bits = np.repeat([220 if k >> bit & 1 else 30 for bit in range(BITS)], 16).astype(np.uint8)
                frame = av.VideoFrame.from_ndarray(np.broadcast_to(bits[None, :, None], (48, 16 * BITS, 3)).copy())
                frame.pts, frame.time_base = (k if name != "uneven.mp4" or k < 40 else 3 * k - 80), Fraction(1, 25)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        assert video_info(path).frames == COUNT and right(path, read_frames)
        made.append(path)
    return made


def right(path: Path, read: Callable[[Path, list[int]], np.ndarray]) -> bool:
    """Whether a reader gives the frames that are asked for."""
    wanted = [0, 3, 17, 39, 40, 41, 77, 78, COUNT - 1]
    try:
        frames = read(path, wanted)
    except Exception:
        return False
    seen = [
        sum(int(frame[:, 16 * bit + 4 : 16 * bit + 12].mean() > 120) << bit for bit in range(BITS)) for frame in frames
    ]
    return seen == wanted


SIDE, CLIP = 112, "segments(8)"


class Plain(Dataset):
    """Videos as many training scripts read them: decode all, keep 8, scale to [0, 1]."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        import av

        with av.open(str(self.paths[index])) as container:
            shown = [
                frame.reformat(SIDE, SIDE, "rgb24", interpolation="BILINEAR").to_ndarray()
                for frame in container.decode(video=0)
            ]
        chosen = parse_rule(CLIP).views(len(shown), 1)[0]
        return torch.from_numpy(np.stack([shown[i] for i in chosen])).permute(3, 0, 1, 2) / 255


def files_to_logits(folder: Path) -> Row:
    """32 videos of 320 x 240 and 150 frames to logits, two loading processes on both sides."""
    clip, size = written(folder / "one.mp4"), (240, 320)
    frames = read_frames(clip, range(150), size=size)
    clip.unlink()
    for k in range(32):
        home = folder / ("a" if k % 2 else "b")
        home.mkdir(exist_ok=True)
        with VideoWriter(home / f"{k}.mp4", 30) as out:
            for frame in np.roll(frames, 5 * k, axis=2):
                out.write(frame)
    torch.manual_seed(0)
    net: Any = create("r3d_18_tv", num_classes=10, mean=None, width=16).eval()
    preprocess = Preprocess(resize=f"exact({SIDE}, {SIDE})", clip=CLIP)
    data = open_dataset(folder, kind="clips", val=0)
    paths = [record.image.path for record in data.records]

    @torch.inference_mode()
    def ours() -> torch.Tensor:
        samples = ClipSamples(data, preprocess=preprocess, seed=0)
        keys = [[(0, i) for i in range(k, k + 4)] for k in range(0, len(samples), 4)]
        loader = DataLoader(samples, batch_sampler=keys, num_workers=2, collate_fn=collate)
        return torch.cat([net(as_float(batch.images)).logits for batch in loader])

    @torch.inference_mode()
    def plain() -> torch.Tensor:
        loader = DataLoader(Plain(paths), batch_size=4, num_workers=2)
        return torch.cat([net(batch).logits for batch in loader])

    gap = relative_difference(ours(), plain())
    return race(
        "32 files of 150 frames to logits, 8 frames each, two loading processes",
        ours,
        plain,
        names=("ClipSamples", "a data set that decodes all frames"),
        difference=f"logits, relative {gap:.1e}",
        repeats=3,
        warm=True,
    )
