"""The words all rooms share: an entry in a catalogue, how a picture is prepared, a batch, a task.

Nothing heavy is imported here: `sightline models` must answer in a blink.

Units, once, for every room (DESIGN in docs/contract.md tells the whole story):

- images are RGB float32 in [0, 1], `(B, C, H, W)`; clips `(B, C, T, H, W)`; volumes `(B, C, D, H, W)`;
  the network normalises inside. A `Batch` may carry uint8 pictures; whoever feeds the network divides by 255.
- labels are 0..K-1; pixels marked 255 are never scored; one class means 0 (not it) and 1 (it), one logit, a sigmoid.
- boxes are xyxy in absolute, continuous pixels; flow is (u, v) in pixels of the first frame; times are seconds.

Every network is an `nn.Module` with three verbs:

    forward(images, *, sizes=None, targets=None) -> Out      see: raw numbers, a frozen dataclass
    losses(out, targets) -> dict[str, Tensor]                learn: named scalar terms, summed by the loop
    decode(out, *, ...) -> list[Answer]                      say: one answer an input
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class Preprocess:
    """How a picture of any origin becomes the network's input; stored in every card, applied by every `predict`.

    intensity: `dtype_max` (divide by the largest value of the file's type; floats lie in [0, 1] already),
        `window(LO, HI)` (clip to LO..HI, scale to 0..1), `percentile(LO, HI)` (the same between two percentiles of the
        picture itself, a channel at a time) or `zscore` (mean 0, standard deviation 1, a channel at a time).
    channels: channels the network takes; grey pictures are repeated to 3, colour ones averaged to 1.
    resize: `none`, `short(N)`, `long(N)` (that side becomes N pixels), `within(N, M)` (the shorter side becomes N
        unless the longer would pass M), `torchvision(N, M)` (the same, lengths rounded down, without anti-aliasing, as
        torchvision's detectors resize inside) or `exact(H, W)`; volumes: `none` or
        `spacing(Z, Y, X)` (millimetres between voxels); answers are mapped back.
    multiple: the picture is padded at the bottom and right until both sides divide by this.
    axes: of space that the network reads: 2 (pictures) or 3 (volumes).
    tile: the size of the pieces it was trained on, an axis; larger volumes are answered in such tiles. Empty: whole.
    clip: the rule by which frames of a video become a clip, such as `linspace(8, 32)`: see `sightline.action.sampling`.
    """

    intensity: str = "dtype_max"
    channels: int = 3
    resize: str = "none"
    multiple: int = 1
    axes: int = 2
    tile: tuple[int, ...] = ()
    clip: str = ""


@dataclass(frozen=True)
class PublishedWeights:
    """One published file of weights: where it is, what it was trained on, under which terms."""

    name: str
    url: str
    sha256: str = "unknown"  # a full hash, the prefix a source prints in its file names, or "unknown"; never invented
    megabytes: float = 0.0
    licence: str = "unknown"
    trained_on: str = ""
    classes: tuple[str, ...] = ()
    scores: Mapping[str, float] = field(default_factory=dict)  # as published
    origin: str = ""  # the key map that reads it


@dataclass(frozen=True)
class Entry:
    """One line of a room's catalogue; strings, so that names cost no import. A test resolves every one of them."""

    build: str  # "package.module:builder"; its signature, with `values` as defaults, is the configuration
    task: str
    paper: str
    parameters: int  # trainable, with the builder's defaults; a test counts them
    preprocess: Preprocess = Preprocess()
    inputs: tuple[str, ...] = ("images",)
    weights: tuple[PublishedWeights, ...] = ()
    traits: frozenset[str] = frozenset()  # what the common suite must know, one word each, explained in the preface
    fit: str | None = None  # "package.module:function" of a system that learns in stages: see `Stage`
    values: Mapping[str, Any] = field(default_factory=dict)  # builder values that make it this system
    tiny: Mapping[str, Any] = field(default_factory=dict)  # builder values for a seconds-long test


@dataclass(frozen=True)
class Batch:
    """What the loop feeds to a network: pictures, their valid sizes, targets, further inputs by name."""

    images: Tensor  # (B, C, ...) float32 in [0, 1], or uint8 (the loop divides by 255 on the device)
    targets: Any = None  # the room's own target type
    sizes: Tensor | None = None  # (B, 2) valid heights and widths, None when nothing is padded
    keys: tuple[str, ...] = ()  # which samples these are: named when something goes wrong
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # proposals, depth, a flow stack, times ...


class Tools(Protocol):
    """What `train` hands to a stage, for rooms do not know the loop.

    folder: of the run, for files that later stages read; whoever writes one writes it whole (`files.replacing`).
    """

    folder: Path

    def progress(self, done: int, total: int, numbers: Mapping[str, float] | None = None) -> None:
        """Say how far the stage is, and what it counts."""
        ...

    def learn(
        self,
        net: nn.Module,
        samples: Any,
        collate: Callable[[list[Any]], Batch],
        *,
        steps: int,
        lr: float,
        batch: int,
        optimizer: str = "adamw",
    ) -> None:
        """The loop of all other systems, on a network that shares its parameters with the system's; once a stage."""
        ...


@dataclass(frozen=True)
class Stage:
    """One step of a system that learns in stages. `Entry.fit` names the function that lists them:

        stages(data, *, preprocess, seed, OPTION=DEFAULT, ...) -> tuple[Stage, ...]

    data: the `DataSet` to learn from. The options, plain values, are those of `train`.
    run(net, tools): changes `net` by its parameters and buffers alone, each time in the same way. They are stored when
        it ends, and a run that was killed goes on behind the last stage that ended: nothing else passes from one stage
        to the next, but files in `tools.folder`.
    """

    name: str
    run: Callable[[Any, Tools], None]  # of the system's own network


@dataclass(frozen=True)
class Choice:
    """One automatic decision with its reason; printed, and stored in the run's config."""

    value: Any
    reason: str


@dataclass(frozen=True)
class Machine:
    """What the automatic choices may count on."""

    device: str = "cpu"  # cpu, cuda, mps
    cores: int = 1


@dataclass(frozen=True)
class Task:
    """All that the verbs need to know of a room; one instance a room, `TASK` in its `task.py`.

    monitor: the score that decides which weights are best (more is better).
    samples(data, *, preprocess, seed, augment, keep) -> a map-style data set; its item `(epoch, index)` is one sample,
        and everything random about it derives from (seed, epoch, index).
    collate(samples) -> Batch
    augment(name, size, values) -> the room's augmentation, plain values.
    plan(stats, count, entry, values, machine) -> {option: Choice}: every option the user left open.
    configure(net, *, loss, class_weights, ...) -> None: hands the chosen loss to the network; rooms whose classes may
        overlap take `multilabel` too.
    out(tensors) -> the output of `forward` from an exported file's named tensors.
    metric(classes, ...) -> an object with `update`, `merge(other)` and `compute() -> report`; further choices that a
        room knows: `policy` (whose rules), `measures` (scores made on request), `multilabel`.
    procedure(...) -> how `answer` looks at a picture (tiles, mirrored views, scales), plain values.
    answer(net, image, *, preprocess, classes, colours, name, procedure) -> an answer, at the picture's own size.
    stream(net, path, to, *, page, ...) -> the answer for a TIFF too large for memory, written to the file `to`.
    score(net, record, metric, *, preprocess, classes, procedure) -> answers one labelled record and counts it.
    panel(record, answer, colours, num_classes) -> picture, truth and answer side by side, for looking.
    kind: what the room learns from, `pixels`, `objects`, `classes` (of pictures) or `clips`: how a folder is read.
    stats(data, *, seed, skipped) -> what `plan` is told of the training data; None: of pictures with masks or boxes.
    sources(source) -> what `predict` answers one by one, each with a name and `read()`; None: pictures.
    example(preprocess, batch) -> an input to prove a changed or exported network on; None: pictures.
    """

    name: str
    monitor: str
    samples: Callable[..., Any]
    collate: Callable[[list[Any]], Batch]
    augment: Callable[..., Any]
    plan: Callable[..., dict[str, Choice]]
    configure: Callable[..., None]
    out: Callable[[Mapping[str, Any]], Any]
    metric: Callable[..., Any]
    procedure: Callable[..., Any]
    answer: Callable[..., Any]
    stream: Callable[..., Any]
    score: Callable[..., Any]
    panel: Callable[..., Any]
    kind: str = "pixels"
    stats: Callable[..., Any] | None = None
    sources: Callable[..., Any] | None = None
    example: Callable[..., Tensor | None] | None = None
