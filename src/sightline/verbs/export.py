"""One file for other programs: `torch.export` (`.pt2`) or ONNX, with classes, preprocessing and size rules inside.

The file holds `forward` with its dataclass flattened to named tensors; batch, height and width stay open where the
network allows. Before the command says done, the written file is opened again and compared at two batch and picture
sizes. `predict`, `evaluate` and `compare` take such a file in place of a run.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import SightlineError, UsageError, did_you_mean, missing_extra
from sightline.files import replacing
from sightline.nn.normalize import for_channels, inside
from sightline.ops.boxes import clip_boxes
from sightline.ops.tree import named_tensors
from sightline.verbs.export_clips import clip_program
from sightline.verbs.load import remember
from sightline.verbs.models import builder_of, create, defaults_of, task_named
from sightline.verbs.optimize import largest_difference, without_learning_parts
from sightline.weights.program import checked_program

if TYPE_CHECKING:
    from sightline.weights.card import Card

FORMATS = {"onnx": ".onnx", "pt2": ".pt2"}
AXES = {2: ("height", "width"), 3: ("depth", "height", "width")}
FIRST_WEIGHTS = "backbone_weights"
EQUAL = 1e-4
"""Largest relative difference between the network and its file."""


@dataclass(frozen=True)
class Exported:
    """A verified file. differences: relative, for each size `BxHxW` (volumes `BxDxHxW`) it was compared at."""

    path: Path
    format: str
    outputs: tuple[str, ...]
    differences: dict[str, float]
    dynamic: tuple[str, ...]  # axes that take any size: batch, height, width; of volumes depth too

    def to_json(self) -> dict[str, Any]:
        """The object that `--json` prints."""
        return asdict(self) | {"path": str(self.path), "megabytes": round(self.path.stat().st_size / 1e6, 3)}

    def __str__(self) -> str:
        sizes = ", ".join(f"{size}: {value:.1e}" for size, value in self.differences.items())
        return (
            f"{self.path}: {self.format}, {self.path.stat().st_size / 1e6:.1f} MB, answers {', '.join(self.outputs)}, "
            f"any {' and '.join(self.dynamic) or 'nothing'}; largest difference at {sizes}"
        )


class Flat(nn.Module):
    """A network whose answer is a tuple of its named tensors: what an exported graph can return."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Pictures to the tensors of the answer, in the order of their names."""
        return tuple(named_tensors(self.net(images)).values())


def export(run: str | Path | Any, to: str | Path) -> Exported:
    """Write a run (or a loaded `(net, card)`) to `to`, a file name that ends in .onnx or .pt2, and verify it.

    Raises `SightlineError` when the file answers differently from the network; nothing is left behind then.
    """
    from sightline.verbs.load import load

    path = Path(to)
    kind = _format(path)
    net, card = run if isinstance(run, tuple) else load(run)
    return export_net(net, card, path, kind)


@dataclass(frozen=True)
class Program:
    """A network as `torch.export` has it, and what it is compared on. examples: pictures of two sizes."""

    net: nn.Module
    card: Card
    program: torch.export.ExportedProgram
    names: tuple[str, ...]
    dynamic: tuple[str, ...]
    examples: tuple[Tensor, Tensor]


def export_net(net: nn.Module, card: Card, path: Path, kind: str) -> Exported:
    """Export, write, open again, compare; see `export`."""
    return written(program_of(net, card), path, kind)


def program_of(net: nn.Module, card: Card) -> Program:
    """The network's program, with as many open axes as it allows."""
    further = [
        name
        for name, p in signature(net.forward).parameters.items()
        if p.kind is p.KEYWORD_ONLY and p.default is p.empty
    ]
    if further:
        raise UsageError(
            f"{card.model} reads {' and '.join(further)} beside the picture, which an exported file cannot be given; "
            "use it from Python"
        )
    net = without_learning_parts(net.cpu().eval())
    preprocess, generator = card.preprocess, torch.Generator().manual_seed(0)
    axes: tuple[str, ...] = AXES[preprocess.axes]
    task = task_named(card.task)
    short, long = (_side(net, preprocess, n) for n in _sides(task.kind, len(axes)))
    first = torch.rand(2, preprocess.channels, *[short] * len(axes), generator=generator)
    second = torch.rand(3, preprocess.channels, long, *[short] * (len(axes) - 1), generator=generator)
    given = task.example(preprocess, 2) if task.example is not None and task.kind != "pixels" else None
    if given is not None:  # the room says what it feeds: a batch of any size, no other axis
        axes, first, second = (), given, torch.cat([given, given[:1]])
    with torch.no_grad():
        names = tuple(named_tensors(net(first)))
    if task.kind == "clips":
        program, dynamic, second = clip_program(net, Flat(net), first)
        return Program(net, card, program, names, dynamic, (first, second))
    program, dynamic = _program(net, first, axes, preprocess.multiple if task.kind == "objects" else 1)
    if set(dynamic) < {"batch", *axes}:
        second = first[:1] if "batch" in dynamic else first
    return Program(net, card, program, names, dynamic, (first, second))


def written(made: Program, path: Path, kind: str) -> Exported:
    """Write the program, open the file again, compare."""
    about = json.dumps(_about(made.net, made.card, made.names, made.dynamic))
    with replacing(path) as temporary:
        _write(made.program, temporary, kind, made.examples[0], made.names, about, made.dynamic)
        found = Opened(temporary, kind)
        differences = {}
        for images in made.examples:
            size = "x".join(str(n) for n in (len(images), *images.shape[2:]))
            differences[size] = _compare(made.net, found, images, path)
    return Exported(path, kind, made.names, differences, made.dynamic)


class Opened(nn.Module):
    """An exported file as a network: the same three verbs, so that `predict` and `evaluate` cannot tell."""

    def __init__(self, path: str | Path, kind: str | None = None) -> None:
        super().__init__()
        self.path = Path(path)
        self.kind = kind or _format(self.path)
        opener = _open_onnx if self.kind == "onnx" else _open_pt2
        self.answer, self.about = opener(self.path)
        self.names = tuple(self.about["outputs"])
        self.place = nn.Parameter(
            torch.zeros(0), requires_grad=False
        )  # tells callers which device to bring pictures to
        self.padding = _padding(self.about["card"])
        rule = self.about.get("unpadded")
        if rule:
            self.margin, self.step, self.smallest = rule["margin"], rule["step"], rule["smallest"]

    def forward(self, images: Tensor, *, sizes: Tensor | None = None, targets: object = None) -> Any:
        """The room's own answer type, from the file's named tensors.

        sizes: `(B, 2)`, what is no padding. A file of objects knows of none: padding is made what it is to the
        network, 0 after normalisation, and boxes are cut at the picture's border here.
        """
        sizes = sizes if self.padding is not None else None
        if sizes is not None and self.padding is not None:
            images = torch.where(inside(sizes, images), images, self.padding.to(images.device))
        try:
            tensors = dict(zip(self.names, self.answer(images)))
        except Exception as error:  # onnxruntime's own types, and whatever a program's guards raise
            takes = " and ".join(self.about["dynamic"]) or "nothing"
            raise SightlineError(
                f"{self.path} does not take pictures of {tuple(images.shape)} (it was exported for any {takes}): "
                f"{' '.join(str(error).split())[:200]}"
            ) from error
        if sizes is not None:
            tensors["found.boxes"] = clip_boxes(tensors["found.boxes"], sizes.to(tensors["found.boxes"].device))
            tensors |= {"sizes": sizes.to(tensors["sizes"].device)} if "sizes" in tensors else {}
        return task_named(self.about["card"]["task"]).out(tensors)

    def decode(self, out: Any, **how: Any) -> Any:
        """The network's own `decode`, which looks at no weight: that of a network that takes no memory."""
        values = dict(self.about["card"]["arguments"])
        with torch.device("meta"):
            net: Any = create(self.about["card"]["model"], **{k: v for k, v in values.items() if k != FIRST_WEIGHTS})
        return net.decode(out, **how)

    def legal_size(self, size: int) -> int:
        """The smallest side an unpadded network takes that is at least `size`."""
        return self.smallest + max(0, math.ceil((size - self.smallest) / self.step)) * self.step


def _padding(card: dict[str, Any]) -> Tensor | None:
    """What becomes 0 after a network of objects has normalised it, `(C, 1, 1)`; None for the other rooms."""
    if task_named(card["task"]).kind != "objects":
        return None
    values = {**defaults_of(builder_of(card["model"])), **card["arguments"]}
    mean, _ = for_channels(values.get("mean"), None, card["preprocess"]["channels"])
    return torch.zeros(1, 1, 1) if mean is None else torch.tensor(mean, dtype=torch.float32)[:, None, None]


def open_exported(path: str | Path) -> tuple[nn.Module, Card]:
    """An exported file as `(net, card)`: what `load` gives for it."""
    from sightline.weights import card as cards

    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {path}; give a run's folder or an exported .onnx or .pt2")
    net = Opened(path)
    card = cards.parse(json.dumps(net.about["card"]), path)
    return remember(net.eval(), card), card


def _format(path: Path) -> str:
    kind = path.suffix.lower().lstrip(".")
    if kind not in FORMATS:
        known = ", ".join(FORMATS)
        raise UsageError(f"{path}: the format '{kind}' is unknown; choose from {known}.{did_you_mean(kind, FORMATS)}")
    if kind == "onnx":
        for module in ("onnx", "onnxscript", "onnxruntime"):
            if find_spec(module) is None:
                raise missing_extra(module, "export", "ONNX")
    return kind


def _side(net: nn.Module, preprocess: Preprocess, size: int) -> int:
    """A picture side near `size` that the network takes."""
    if hasattr(net, "legal_size"):
        return net.legal_size(size)  # pyright: ignore[reportCallIssue]
    return math.ceil(size / preprocess.multiple) * preprocess.multiple


def _sides(kind: str, axes: int) -> tuple[int, int]:
    """Picture sides to compare at; the coarsest map of a pyramid, 128 pixels a place, has two places then."""
    if axes == 3:
        return 32, 48
    return (192, 288) if kind == "objects" else (96, 160)


def _program(
    net: nn.Module, example: Tensor, axes: Sequence[str], multiple: int
) -> tuple[torch.export.ExportedProgram, tuple[str, ...]]:
    """The exported program and its open axes; a network that bakes its size in keeps only the batch open.

    multiple: what the sides are padded to before the network sees them.
    """
    from torch.export import Dim

    sides: list[Any] = [Dim.DYNAMIC if multiple == 1 else multiple * Dim(axis) for axis in axes]
    if hasattr(net, "legal_size"):
        step: int = net.step  # pyright: ignore[reportAssignmentType]
        rest: int = net.smallest % step  # pyright: ignore[reportOperatorIssue, reportAssignmentType]
        sides = [step * Dim(axis) + rest if rest else step * Dim(axis) for axis in axes]
    flat = Flat(net)
    tries: tuple[tuple[tuple[str, ...], dict[int, Any]], ...] = (
        (("batch", *axes), {0: Dim.DYNAMIC, **dict(enumerate(sides, start=2))}),
        (("batch",), {0: Dim.DYNAMIC}),
        ((), {}),
    )
    reason: Exception | None = None
    for dynamic, shapes in tries:
        try:
            with torch.no_grad():
                program = torch.export.export(flat, (example,), dynamic_shapes={"images": shapes or None})
            for node in program.graph.nodes:
                node.meta.pop("stack_trace", None)  # paths of this machine
            return program, dynamic
        except Exception as error:  # torch.export has no exception type of its own
            reason = reason or error
    raise SightlineError(f"the network cannot be exported: {' '.join(str(reason).split())[:300]}")


def _about(net: nn.Module, card: Card, names: tuple[str, ...], dynamic: tuple[str, ...]) -> dict[str, Any]:
    about: dict[str, Any] = {"format": 1, "outputs": names, "dynamic": dynamic, "card": asdict(card)}
    if hasattr(net, "margin"):
        about["unpadded"] = {name: getattr(net, name) for name in ("margin", "step", "smallest")}
    return about


def _write(program, path: Path, kind: str, example: Tensor, names, about: str, dynamic) -> None:
    if kind == "pt2":
        torch.export.save(program, path, extra_files={"sightline.json": about})
        return
    import onnx

    try:
        exported = torch.onnx.export(
            program, (example,), dynamo=True, input_names=["images"], output_names=list(names), verbose=False,
            custom_translation_table=_further_operators(),
        )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        words = " ".join(str(error.__cause__ or error).split())
        operator = re.search(r"torch\.ops\.([\w.]+)", words)
        raise SightlineError(
            f"no .onnx was written: torch's translator fails at {operator[1] if operator else words[:200]}; take .pt2"
        ) from error
    assert exported is not None
    model = exported.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "sightline", about
    onnx.save(model, path)


def _further_operators() -> dict[Any, Any]:
    """ONNX forms of operators that torch's exporter lacks."""
    from onnxscript import opset18

    op: Any = opset18

    def sort(self: Any, dim: int = -1, descending: bool = False, stable: bool = False):
        if self.dtype is not None and self.dtype.name in ("BOOL", "UINT8"):  # onnxruntime ranks no bytes
            whole = op.Cast(self, to=6)
            values, indices = sort(whole, dim, descending, stable)
            return op.Cast(values, to=int(self.dtype)), indices
        size = op.Reshape(op.Gather(op.Shape(self), op.Constant(value_int=dim), axis=0), op.Constant(value_ints=[1]))
        return op.TopK(self, size, axis=dim, largest=descending, sorted=True)  # equal values stay in their order

    return {torch.ops.aten.sort.stable: sort}


def _open_onnx(path: Path) -> tuple[Any, dict[str, Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it prints before it raises
            session = onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
        about = json.loads(session.get_modelmeta().custom_metadata_map["sightline"])
    except KeyError:
        raise SightlineError(
            f"{path} was not written by sightline: it says nothing of classes and preprocessing"
        ) from None
    except Exception as error:  # onnxruntime raises its own types, one a fault
        raise SightlineError(f"{path} cannot be opened as ONNX: {' '.join(str(error).split())[:200]}") from error

    def answer(images: Tensor) -> list[Tensor]:
        found = session.run(None, {"images": images.cpu().float().contiguous().numpy()})
        return [torch.from_numpy(array) for array in found]

    return answer, about


def _open_pt2(path: Path) -> tuple[Any, dict[str, Any]]:
    extra = {"sightline.json": ""}
    archive = checked_program(path)
    try:
        program = torch.export.load(archive, extra_files=extra)
        about = json.loads(extra["sightline.json"])
    except Exception as error:  # zip, JSON and torch's own
        raise SightlineError(f"{path} cannot be opened as .pt2: {' '.join(str(error).split())[:200]}") from error
    module = program.module()
    return (lambda images: module(images)), about


def _compare(net: nn.Module, found: Opened, images: Tensor, path: Path) -> float:
    with torch.no_grad():
        expected = named_tensors(net(images))
        try:
            got = dict(zip(found.names, found.answer(images)))
        except Exception as error:  # onnxruntime's own types, and whatever a program's guards raise
            raise SightlineError(
                f"{path}: the file fails at pictures of {tuple(images.shape)}, which the network takes: "
                f"{' '.join(str(error).split())[:200]}; nothing was written"
            ) from error
    for name, tensor in expected.items():
        if got[name].shape != tensor.shape:
            raise SightlineError(
                f"{path}: for pictures of {tuple(images.shape)} the network answers {name} of {tuple(tensor.shape)}, "
                f"the file {tuple(got[name].shape)}: the export baked a size in; nothing was written"
            )
    got = in_order_of(expected, got)
    difference = largest_difference(list(expected.values()), [got[name] for name in expected])
    if not difference <= EQUAL:
        raise SightlineError(
            f"{path}: for pictures of {tuple(images.shape)} the file differs from the network by {difference:.1e} "
            f"(allowed {EQUAL:.0e}); nothing was written"
        )
    return difference


def in_order_of(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`got` with the objects of each picture in the order of `expected`; answers of other kinds as they are.

    Objects stand best first, so that two whose scores differ by a rounding may change places. Each is paired with the
    one of its class that is most alike; what stands beyond the count means nothing and is taken from `expected`.
    """
    from scipy.optimize import linear_sum_assignment

    found = {name: tensor.clone() for name, tensor in got.items()}
    if "found.boxes" not in expected or not torch.equal(expected["found.count"], got["found.count"]):
        return found
    size = expected["found.boxes"].abs().max().clamp(min=1)
    boxes, scores, labels = (
        (expected[name][:, :, None], got[name][:, None]) for name in ("found.boxes", "found.scores", "found.labels")
    )
    apart = (
        (boxes[0] - boxes[1]).abs().amax(-1) / size + (scores[0] - scores[1]).abs() + 10.0 * (labels[0] != labels[1])
    )
    for i, n in enumerate(expected["found.count"].tolist()):
        _, order = linear_sum_assignment(apart[i, :n, :n].nan_to_num(1e3).double().numpy())
        for name, tensor in found.items():
            if name.startswith("found.") and tensor.ndim > 1:
                tensor[i, :n] = got[name][i, torch.from_numpy(order)]
                tensor[i, n:] = expected[name][i, n:]
    return found
