"""Putting a file's tensors into a network: recognise where they come from, check everything, then copy.

Nothing in the network changes unless the whole load is in order, and what was not loaded one to one is said.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.errors import SightlineError, UsageError, did_you_mean
from sightline.files import write_bytes
from sightline.weights.darknet import encode_darknet, read_darknet
from sightline.weights.keymap import OURS, KeyMap, Translation
from sightline.weights.read import WRAPPERS, Checkpoint, read_file, tensors_in

#: What programs put before the names of the network they hold; tried with and without.
PREFIXES = (*WRAPPERS, "model.", "net.", "network.", "backbone.", "encoder.", "params/", "optimizer/target/", "target/")

#: Families that a file's names give away, for the sentence that says it does not fit.
_FAMILIES = (
    ("decode_head.conv_seg.weight", "an mmsegmentation network"),
    ("bbox_head.", "an mmdetection network"),
    ("roi_heads.", "a two-stage detector"),
    ("encoder.stages.0.0.convs.0.conv.weight", "an nnU-Net"),
    ("inc.double_conv.0.weight", "a padded U-Net (milesial)"),
    ("down_path.0.block.0.weight", "an unpadded U-Net (jvanvugt)"),
    ("score_fr.weight", "an FCN of VGG16"),
    ("segmentation_head.0.weight", "a network of segmentation_models_pytorch or TransUNet"),
    ("classifier.0.convs.0.0.weight", "torchvision's DeepLabv3"),
    ("classifier.0.project.0.weight", "torchvision's DeepLabv3"),
    ("cls.0.weight", "semseg's PSPNet"),
    ("aux_classifier.0.weight", "torchvision's FCN or DeepLabv3"),
    ("patch_embed.proj.weight", "a vision transformer"),
    ("layer4.0.conv1.weight", "a ResNet"),
    ("features.0.weight", "a VGG or AlexNet"),
    ("features.0.0.weight", "a MobileNet"),
)


@dataclass(frozen=True)
class Report:
    """What `load_weights` did. Names are the network's, except in `unexpected`, which are the file's.

    origin: the key map that read the file. loaded: tensors copied as they are (after renaming and transposing).
    missing: tensors of the network the file does not have. unexpected: tensors of the file the network has no use
    for. reinitialised: name -> why it keeps its fresh values. adapted: name -> how the file's values were changed
    to fit. notes: what was opened, stripped, ignored or left out on the way.
    """

    origin: str
    source: str
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reinitialised: Mapping[str, str] = field(default_factory=dict)
    adapted: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.source}: {len(self.loaded)} tensors loaded ({self.origin} names)"]
        for word, reasons in (("adapted", self.adapted), ("reinitialised", self.reinitialised)):
            lines += [f"  {word:<14} {name}: {why}" for name, why in list(reasons.items())[:8]]
            lines += [f"  {word:<14} and {len(reasons) - 8} more"] if len(reasons) > 8 else []
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            if names:
                more = f" and {len(names) - 6} more" if len(names) > 6 else ""
                lines.append(f"  {word:<14} {', '.join(names[:6])}{more}")
        lines += [f"  note           {note}" for note in self.notes]
        return "\n".join(lines)


def load_weights(
    net: nn.Module,
    source: str | Path | Mapping[str, Any],
    *,
    maps: Sequence[KeyMap] = (),
    strict: bool = True,
    head: Sequence[str] | None = None,
    stem: Sequence[str] | None = None,
    optional: Sequence[str] | None = None,
    origin: str | None = None,
) -> Report:
    """Load a checkpoint of any known origin into `net` and say what happened.

    source: a path, a state dict, or a dictionary that wraps one. The origin is recognised by trying every map and
    our own names, with and without the usual prefixes; the one that fits most tensors wins, the first among equals
    (`.safetensors` of `save_weights` say their layout themselves).

    head: prefixes of our names of the layers whose first dimension is the number of classes. When the file was made
        for another number, all but these layers are loaded. Default: `net.HEAD`, or none. Those of them whose inputs
        are scores too stand in `net.READS_SCORES`.
    stem: our names of the weights that see the picture; adapted when the file has another number of input channels
        (mean over the channels, repeated, with the sum kept). Default: `net.STEM`, or the first convolution.
    optional: prefixes of our names of parts a file or a network may lack (an auxiliary head). Default: `net.OPTIONAL`.
    origin: read as this map, without guessing.
    strict: with False, whatever fits is loaded; the report still lists the rest.

    Raises SightlineError, and leaves `net` untouched, when the file does not fit; UsageError for an unknown origin.
    """
    net = _bare(net)
    if isinstance(source, Mapping):
        checkpoint = tensors_in(source)
    elif isinstance(source, (str, Path)):
        checkpoint = _darknet(net, Path(source)) or read_file(source)
    else:
        raise UsageError(f"weights come from a path or a state dict, not from a {type(source).__name__}")
    target = _tensors_of(net)
    if not target:
        raise UsageError(f"{type(net).__name__} has no weights to load into")
    parts = _Parts(
        tuple(getattr(net, "HEAD", ()) if head is None else head),
        tuple(_first_kernel(target) if (s := getattr(net, "STEM", None) if stem is None else stem) is None else s),
        tuple(getattr(net, "OPTIONAL", ()) if optional is None else optional),
    )
    if origin is None and checkpoint.layout in {key_map.origin for key_map in (*maps, OURS)}:
        origin = checkpoint.layout  # a file of `save_weights` says it itself
    best = max(
        (
            _fit(net, target, key_map, spelling, note, parts)
            for key_map, spelling, note in _readings(checkpoint, maps, origin)
        ),
        key=lambda fit: fit.rank,
    )
    if not best.values or (strict and best.faults):
        raise SightlineError(_does_not_fit(net, checkpoint, best, target, origin or "", maps))
    with torch.no_grad():
        for name, value in best.values.items():
            target[name].copy_(value)
    return best.report(checkpoint)


@dataclass(frozen=True)
class _Parts:
    head: tuple[str, ...]
    stem: tuple[str, ...]
    optional: tuple[str, ...]


@dataclass
class _Fit:
    """One reading of a file against a network: what would be copied, and what stands against it."""

    origin: str
    note: str
    total: int
    values: dict[str, Tensor] = field(default_factory=dict)
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: dict[str, str] = field(default_factory=dict)
    reinitialised: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)  # optional parts the file lacks
    adapted: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def rank(self) -> tuple[int, int, int]:
        good = len(self.loaded) + len(self.adapted) + len(self.reinitialised)
        return good, -len(self.misshapen), -len(self.unexpected)

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unexpected) + len(self.misshapen)

    def report(self, checkpoint: Checkpoint) -> Report:
        notes = [*checkpoint.notes, *([self.note] if self.note else []), *self.notes]
        odd = [name for name, value in self.values.items() if not value.float().isfinite().all()]
        if odd:
            notes.append(f"holds values that are not finite: {_some(odd)}")
        return Report(
            origin=self.origin,
            source=checkpoint.source,
            loaded=tuple(self.loaded),
            missing=tuple(self.missing),
            unexpected=tuple(self.unexpected),
            reinitialised={**self.reinitialised, **self.absent, **self.misshapen},
            adapted=self.adapted,
            notes=tuple(notes),
        )


def _darknet(net: nn.Module, path: Path) -> Checkpoint | None:
    """A `.weights` file, whose numbers only a network of darknet's layers can name (`net.darknet_tensors()`)."""
    slots = getattr(net, "darknet_tensors", None)
    if slots is None or path.suffix.lower() != ".weights" or not path.is_file():
        return None
    tensors, seen = read_darknet(path, slots())
    note = f"trained on {seen} pictures"
    if isinstance(buffer := getattr(net, "seen", None), Tensor):
        buffer.fill_(seen)
    return Checkpoint(tensors, (note,), str(path))


def _readings(
    checkpoint: Checkpoint, maps: Sequence[KeyMap], origin: str | None
) -> Iterator[tuple[KeyMap, dict[str, Tensor], str]]:
    """Every key map against every spelling of the file's names."""
    known = (*maps, OURS)
    if origin is not None:
        known = tuple(key_map for key_map in known if key_map.origin == origin)
        if not known:
            names = sorted({key_map.origin for key_map in (*maps, OURS)})
            raise UsageError(
                f"unknown origin '{origin}' of weights.{did_you_mean(origin, names)} Known: {', '.join(names)}"
            )
    spellings = list(_spellings(checkpoint.tensors))
    for key_map in known:
        for note, tensors in spellings:
            yield key_map, tensors, note


def _spellings(tensors: dict[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The names as they are, then without one, two or three prefixes that at least half of them share."""
    yield "", tensors
    taken = ""
    for _ in range(3):
        shared = [p for p in PREFIXES if 2 * sum(name.startswith(p) for name in tensors) >= len(tensors)]
        if not shared:
            return
        prefix = shared[0]
        taken += prefix
        shorter = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        others = {name: value for name, value in tensors.items() if not name.startswith(prefix)}
        tensors = {**others, **shorter}
        yield f"took off the prefix '{taken}'", tensors


def _fit(
    net: nn.Module, target: Mapping[str, Tensor], key_map: KeyMap, tensors: dict[str, Tensor], note: str, parts: _Parts
) -> _Fit:
    read = key_map.read(tensors, {name: value.shape for name, value in target.items()})
    fit = _Fit(key_map.origin, note, len(target), misshapen=dict(read.failed))
    for name, place in target.items():
        if name in read.ours and name not in fit.misshapen:
            _place(net, name, read.ours[name], place, parts, fit)
    _spread_over_layers(fit)
    for name in target:
        if name not in read.ours and name not in fit.misshapen and not name.endswith("num_batches_tracked"):
            if name.startswith((*parts.optional, *key_map.lacks)):
                fit.absent[name] = "the file has no such part"
            else:
                fit.missing.append(name)
    _sort_leftovers(read, parts, fit)
    return fit


def _place(net: nn.Module, name: str, value: Tensor, place: Tensor, parts: _Parts, fit: _Fit) -> None:
    """Decide what happens to one tensor: copied, adapted, left fresh, or in the way."""
    if value.shape == place.shape:
        fit.values[name] = value
        fit.loaded.append(name)
    elif parts.head and name.startswith(parts.head) and _other_classes(net, name, value, place):
        fit.reinitialised[name] = f"made for another number of classes: {_size(value)} in the file, {_size(place)} here"
    elif name in parts.stem and _other_inputs(value, place):
        have, want = value.shape[1], place.shape[1]
        mean = value.to(torch.float32).mean(1, keepdim=True) * (have / want)
        fit.values[name] = mean.expand(place.shape)
        fit.adapted[name] = f"mean of {have} input channels, times {have}/{want}, for each of {want}"
    else:
        fit.misshapen[name] = f"{_size(value)} in the file, {_size(place)} here"


def _spread_over_layers(fit: _Fit) -> None:
    """A layer is loaded whole or not at all: the bias of a reinitialised weight stays fresh too."""
    layers = {name.rpartition(".")[0]: why for name, why in fit.reinitialised.items() if "." in name}
    for name in [name for name in fit.loaded if name.rpartition(".")[0] in layers]:
        fit.loaded.remove(name)
        del fit.values[name]
        fit.reinitialised[name] = "its layer was " + layers[name.rpartition(".")[0]]


def _sort_leftovers(read: Translation, parts: _Parts, fit: _Fit) -> None:
    left_out = [name for name, ours in read.foreign.items() if parts.optional and ours.startswith(parts.optional)]
    fit.unexpected.extend(name for name in read.foreign if name not in left_out)
    fit.unexpected.extend(read.unknown)
    fit.unexpected[:] = [name for name in fit.unexpected if not name.endswith("num_batches_tracked")]
    if left_out:
        fit.notes.append(f"left out {_some(left_out)}: this network has no such part")
    if read.ignored:
        fit.notes.append(f"ignored {_some(read.ignored)}")


def _other_classes(net: nn.Module, name: str, value: Tensor, place: Tensor) -> bool:
    """Whether two tensors of a head differ in nothing but the number of classes."""
    if value.ndim != place.ndim or value.ndim == 0:
        return False
    differ = {dim for dim in range(value.ndim) if value.shape[dim] != place.shape[dim]}
    layer = net.get_submodule(name.rpartition(".")[0])
    transposed = isinstance(layer, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d))
    both = transposed or name.startswith(tuple(getattr(net, "READS_SCORES", ("-",))))
    return differ <= ({0, 1} if both else {0})


def _other_inputs(value: Tensor, place: Tensor) -> bool:
    return value.ndim == place.ndim >= 3 and all(
        value.shape[dim] == place.shape[dim] for dim in range(value.ndim) if dim != 1
    )


def _first_kernel(target: Mapping[str, Tensor]) -> tuple[str, ...]:
    return tuple(name for name, value in target.items() if value.ndim >= 3)[:1]


def _bare(net: nn.Module) -> nn.Module:
    """The network itself, out of torch.compile's and DistributedDataParallel's wrappers."""
    if isinstance(net, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return _bare(net.module)
    inner = getattr(net, "_orig_mod", None)
    return _bare(inner) if isinstance(inner, nn.Module) else net


def _tensors_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value for name, value in net.state_dict().items() if isinstance(value, Tensor)}


def _does_not_fit(
    net: nn.Module, checkpoint: Checkpoint, fit: _Fit, target: Mapping[str, Tensor], origin: str, maps: Sequence[KeyMap]
) -> str:
    """One sentence: file, network, share, up to three examples, remedy."""
    wanted = [name for name in target if not name.endswith("num_batches_tracked")]
    good = sum(name in fit.values for name in wanted)
    examples = [f"{name} is {shapes}" for name, shapes in fit.misshapen.items()][:3]
    examples += [f"{name} is missing" for name in fit.missing][: 3 - len(examples)]
    examples += [f"{name} is not known" for name in fit.unexpected][: 3 - len(examples)]
    counts = ((fit.misshapen, "of another shape"), (fit.missing, "missing"), (fit.unexpected, "not known here"))
    told = ", ".join(f"{len(names)} {words}" for names, words in counts if names)
    family = _family(checkpoint.tensors) if 10 * fit.faults > len(wanted) else ""
    known = ", ".join(key_map.origin for key_map in (*maps, OURS))
    if 10 * fit.faults > len(wanted):
        remedy = f"choose the model the file was made for (known layouts: {known})"
    else:
        remedy = "build the model with the values the file was made with, or load what fits with strict=False"
    names = f"{origin or fit.origin} names" if good or origin else "any known names"
    return (
        f"{checkpoint.source} does not fit {type(net).__name__}: {good} of {len(wanted)} tensors"
        f" ({math.floor(100 * good / max(1, len(wanted)))} %) match under {names}"
        f"{f', it looks like {family}' if family else ''}; {told or 'nothing fits'} ({'; '.join(examples)}): {remedy}"
    )


def _family(tensors: Mapping[str, Tensor]) -> str:
    return next((words for sign, words in _FAMILIES if any(sign in name for name in tensors)), "")


def _size(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "one number"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def save_weights(net: nn.Module, path: str | Path, *, layout: str = "sightline", maps: Sequence[KeyMap] = ()) -> Path:
    """Write a network's tensors under our names, or under those of `layout`, an origin among `maps`.

    The suffix chooses the format: `.safetensors`, `.pth`/`.pt` (PyTorch), `.npz` (NumPy, bfloat16 as float32), or, for
    networks of darknet's layers, `.weights`. The file appears as a whole or not at all. Raises UsageError for an
    unknown layout or suffix, SightlineError when the layout has no name for some tensor (then nothing is written).
    """
    path = Path(path)
    known = {key_map.origin: key_map for key_map in (OURS, *maps)}
    if layout not in known:
        raise UsageError(f"unknown layout '{layout}'.{did_you_mean(layout, known)} Known: {', '.join(known)}")
    net = _bare(net)
    if path.suffix.lower() == ".weights" and hasattr(net, "darknet_tensors"):
        seen = getattr(net, "seen", None)
        count = int(seen) if isinstance(seen, Tensor) else 0
        return write_bytes(path, encode_darknet(_tensors_of(net), net.darknet_tensors(), seen=count))  # pyright: ignore[reportCallIssue]
    if path.suffix.lower() not in (".safetensors", ".pth", ".pt", ".npz"):
        raise UsageError(f"cannot write weights as '{path.name}': use .safetensors, .pth, .pt or .npz")
    try:
        tensors, unknown = known[layout].write(_tensors_of(net))
    except (ValueError, RuntimeError) as error:
        raise SightlineError(f"this {type(net).__name__} cannot be written in the {layout} layout: {error}") from error
    unknown = [name for name in unknown if not name.endswith("num_batches_tracked")]
    if unknown:
        raise SightlineError(
            f"the {layout} layout has no name for {_some(unknown)} of this {type(net).__name__}: save it with"
            " layout='sightline'"
        )
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return write_bytes(
        path, encoded(tensors, path.suffix.lower(), container=known[layout].container, metadata={"layout": layout})
    )


def encoded(
    tensors: Mapping[str, Tensor], suffix: str, *, container: str = "", metadata: Mapping[str, str] | None = None
) -> bytes:
    """The bytes of a `.safetensors` (with free text beside the tensors), `.npz` or PyTorch file of CPU tensors."""
    if suffix == ".safetensors":
        import safetensors.torch

        return safetensors.torch.save(dict(tensors), metadata={"format": "pt", **(metadata or {})})
    stream = io.BytesIO()
    if suffix == ".npz":
        arrays = {k: (v.float() if v.dtype == torch.bfloat16 else v).numpy() for k, v in tensors.items()}
        with zipfile.ZipFile(stream, "w") as archive:  # not np.savez, which takes names as Python arguments
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, array, allow_pickle=False)
    else:
        torch.save({container: dict(tensors)} if container else dict(tensors), stream)
    return stream.getvalue()


def tensors_of(net: nn.Module) -> dict[str, Tensor]:
    """Copies of a network's tensors on the CPU, under our names."""
    return {name: value.detach().cpu().contiguous().clone() for name, value in _tensors_of(_bare(net)).items()}
