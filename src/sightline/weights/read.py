"""Reading checkpoint files of any origin without running anything that is in them.

`.safetensors`, PyTorch's zip and legacy files (`torch.load(weights_only=True)`), plain pickles of arrays (read by an
unpickler that knows six names) and `.npz` are read. Everything else is refused with one sentence that says how to
convert it where it came from. What a file is, its first bytes tell, not its name.

An unpacked file may be at most `MAX_RATIO` times as large as on disk (and always up to `FREE_BYTES`), so that a few
kilobytes cannot fill the memory.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import pickle
import pickletools
import re
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sightline.errors import SightlineError

MAX_RATIO = 50
FREE_BYTES = 2**28
MAX_TENSORS = 200_000
MAX_HEADER = 2**25

#: Entries under which training programs keep the tensors, in the order in which they are tried.
CONTAINERS = (
    "state_dict", "model_state_dict", "model_state", "network_weights", "model", "params", "weights", "net", "network",
    "module", "ema", "state_dict_ema", "model_ema", "params_ema",
)  # fmt: skip

#: What DataParallel, DistributedDataParallel and torch.compile put before every name.
WRAPPERS = ("module.", "_orig_mod.")

_TO_NPZ = {
    ".h5": "in an environment with h5py, np.savez('weights.npz', **{name: array for every data set of the file})",
    ".caffemodel": "in an environment with Caffe, np.savez('weights.npz', **{layer + '.weight': blobs[0].data,"
    " layer + '.bias': blobs[1].data for every layer, blobs of net.params.items()})",
    ".params": "in an environment with MXNet, np.savez('weights.npz', **{k: v.asnumpy() for k, v in"
    " mx.nd.load('FILE').items()})",
    ".pb": "in an environment with TensorFlow, np.savez('weights.npz', **{v.name: v.numpy() for v in"
    " tf.saved_model.load('FOLDER').variables})",
    ".ckpt": "in an environment with TensorFlow, r = tf.train.load_checkpoint('FILE'); np.savez('weights.npz',"
    " **{k: r.get_tensor(k) for k in r.get_variable_to_shape_map()})",
    ".msgpack": "in an environment with Flax, np.savez('weights.npz', **{'/'.join(k): v for k, v in"
    " flax.traverse_util.flatten_dict(flax.serialization.msgpack_restore(open('FILE', 'rb').read())).items()})",
}
_FRAMEWORKS = {
    ".h5": "an HDF5 file (Keras)", ".caffemodel": "a Caffe model", ".params": "an MXNet parameter file",
    ".pb": "a TensorFlow graph", ".ckpt": "a TensorFlow checkpoint", ".msgpack": "a Flax checkpoint",
}  # fmt: skip
_SAME_AS = {".hdf5": ".h5", ".keras": ".h5", ".index": ".ckpt", ".meta": ".ckpt"}


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file under its own names, what was done to get there, and the layout if the file says it."""

    tensors: dict[str, Tensor]
    notes: tuple[str, ...] = ()
    source: str = "a state dict"
    layout: str = ""


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint file under its own names, on the CPU.

    Entries such as `state_dict` are opened and the wrappers' prefixes (`module.`, `_orig_mod.`) taken off; other
    prefixes stay, since some layouts need them: `load_weights` tries with and without. Raises SightlineError, one
    sentence, for a file that is missing, damaged, unsafe or of another kind.
    """
    return read_file(path).tensors


def read_file(path: str | Path) -> Checkpoint:
    """`read_checkpoint` with notes on what was opened, stripped and left out."""
    path = Path(path)
    reader = _reader(path)
    try:
        content = reader(path)
    except SightlineError:
        raise
    except (Exception, RecursionError) as error:  # parsers of foreign bytes raise whatever they like
        raise _damaged(path, error) from error
    checkpoint = tensors_in(content, str(path), limit=_limit(path))
    return replace(checkpoint, layout=safetensors_text(path).get("layout", ""))


def tensors_in(content: Any, source: str = "the state dict", limit: int | None = None) -> Checkpoint:
    """The tensors of a state dict or of what wraps one; `limit`: the most bytes they may stand for together."""
    notes: list[str] = []
    if not isinstance(content, Mapping):
        raise SightlineError(
            f"{source} holds a {type(content).__name__}, not tensors by name: save net.state_dict() in its place"
        )
    content = _opened(content, notes)
    tensors: dict[str, Tensor] = {}
    others: list[str] = []
    size = 0
    for name, value in _flat(content):
        tensor = _tensor(value)
        if tensor is None:
            others.append(name)
            continue
        size += tensor.numel() * tensor.element_size()
        if limit is not None and size > limit:
            raise SightlineError(
                f"{source} unpacks to more than {limit >> 20} MB, which is not what weights do: refused"
            )
        tensors[name] = tensor
        if len(tensors) > MAX_TENSORS:
            raise SightlineError(f"{source} holds more than {MAX_TENSORS} tensors: refused")
    if not tensors:
        raise SightlineError(f"{source} holds no tensors by name: save net.state_dict() in its place")
    if others:
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        notes.append(f"left out what is not a tensor: {', '.join(others[:3])}{more}")
    return Checkpoint(_clean(tensors, notes), tuple(notes), source)


def _opened(content: Mapping[Any, Any], notes: list[str]) -> Mapping[Any, Any]:
    """Down into the entries that training programs wrap around a state dict."""
    for _ in range(6):
        inner = next((key for key in CONTAINERS if isinstance(content.get(key), Mapping) and content[key]), None)
        if inner is None:
            break
        content = content[inner]
        notes.append(f"read from its entry '{inner}'")
    return content


def _flat(content: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and depth < 8:
            yield from _flat(value, f"{name}.", depth + 1)
        else:
            yield name, value


def _tensor(value: Any) -> Tensor | None:
    """A dense tensor on the CPU, or None for anything that is not one."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
        value = np.asarray(value, value.dtype.newbyteorder("="), order="C")
        try:
            return torch.from_numpy(value if value.flags.writeable else value.copy())
        except TypeError:
            return None
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return None
    return None if value.is_quantized or value.is_meta or value.is_complex() else value.detach()


def _clean(tensors: dict[str, Tensor], notes: list[str]) -> dict[str, Tensor]:
    """Names without what wrappers and frameworks put around every one of them."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in WRAPPERS:
            if all(name.startswith(prefix) and len(name) > len(prefix) for name in tensors):
                tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
                notes.append(f"took off the prefix '{prefix}'")
                stripped = True
    if all(name.endswith(":0") for name in tensors):  # TensorFlow's tensors of variables
        tensors = {name.removesuffix(":0"): value for name, value in tensors.items()}
    if all(name.startswith(("arg:", "aux:")) for name in tensors):  # MXNet's exported symbols
        tensors = {name[4:]: value for name, value in tensors.items()}
    return tensors


def _reader(path: Path) -> Any:
    if path.is_dir():
        raise SightlineError(f"{path} is a folder: give the file of weights in it")
    try:
        with path.open("rb") as stream:
            head = stream.read(512)
    except FileNotFoundError as error:
        raise SightlineError(f"{path} does not exist: check the path") from error
    except (OSError, ValueError) as error:
        raise SightlineError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    _refuse_other_kinds(path, head)
    if head[:4] == b"PK\x03\x04":
        return _read_zip
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return _read_safetensors
    if head[:1] == b"\x80" and len(head) > 2 and head[1] <= 5:
        return _torch_load if head[2:13] == b"\x8a\nl\xfc\x9cF\xf9 j\xa8P" else _read_pickle
    raise SightlineError(
        f"{path} is no file of weights that can be read, or it is damaged: expected .safetensors, .pth, .pt, .ckpt or"
        " .pkl of PyTorch, or an .npz of arrays by name"
    )


def _refuse_other_kinds(path: Path, head: bytes) -> None:
    if not head:
        raise SightlineError(f"{path} is empty: copy or download it again")
    if head.startswith(b"version https://git-lfs"):
        raise SightlineError(f"{path} is a Git LFS pointer, not the weights: run 'git lfs pull' where it came from")
    if head.lstrip()[:1] == b"<":
        raise SightlineError(f"{path} is a web page, not weights: download the file itself")
    suffix = path.suffix.lower()
    suffix = _SAME_AS.get(suffix, suffix)
    if head.startswith(b"\x89HDF"):
        suffix = ".h5"
    elif ".data-0" in path.name:
        suffix = ".ckpt"
    elif head[:8] == b"\x12\x01\0\0\0\0\0\0":
        suffix = ".params"
    readable = head[:4] == b"PK\x03\x04" or head[:1] == b"\x80" or head[8:9] == b"{"
    if suffix in _TO_NPZ and (not readable or path.suffix.lower() == ".keras"):
        raise SightlineError(
            f"{path} is {_FRAMEWORKS[suffix]}, which is not opened here: {_TO_NPZ[suffix]}, then load weights.npz"
        )
    if suffix == ".weights" and not readable:
        raise SightlineError(
            f"{path} is a darknet file of numbers without names: convert it with the network's .cfg to an .npz of"
            " arrays by name, then load that"
        )
    if suffix == ".onnx":
        raise SightlineError(
            f"{path} is an exported network, not weights by name: load the checkpoint it was made from"
        )


def _limit(path: Path) -> int:
    return max(FREE_BYTES, MAX_RATIO * path.stat().st_size)


def _damaged(path: Path, error: BaseException) -> SightlineError:
    reason = re.split(r"\n|; |\. |\.$", str(error).strip() or type(error).__name__)[0][:120]
    return SightlineError(f"{path} is damaged or truncated ({reason}): copy or download it again")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors.torch

    # from bytes, not memory-mapped: the file may be replaced while its tensors live
    return safetensors.torch.load(path.read_bytes())


def safetensors_text(path: Path) -> dict[str, str]:
    """The free text a `.safetensors` file carries beside its tensors; empty when there is none, or no such file."""
    try:
        with path.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            text = json.loads(stream.read(size)).get("__metadata__") if size <= MAX_HEADER else None
        return {str(key): str(value) for key, value in text.items()} if isinstance(text, dict) else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > _limit(path):
            raise SightlineError(f"{path} unpacks to more than {_limit(path) >> 20} MB, which no weights do: refused")
        names = [entry.filename for entry in entries]
        if any(name.endswith("/data.pkl") for name in names):
            if any("/code/" in name for name in names):
                raise SightlineError(
                    f"{path} is a TorchScript program, which is not run here: in a throw-away environment,"
                    f" torch.save(torch.jit.load('{path.name}').state_dict(), 'weights.pth'), then load weights.pth"
                )
            return _torch_load(path)
        if names and all(name.endswith(".npy") for name in names):
            return {entry.filename.removesuffix(".npy"): _array(path, archive, entry) for entry in entries}
    raise SightlineError(
        f"{path} is a zip archive of something else (first entry {names[0] if names else 'none'}): expected a PyTorch"
        " checkpoint or an .npz of arrays by name"
    )


def _array(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> np.ndarray:
    """One `.npy` of an `.npz`, its header believed only when the bytes are there."""
    data = archive.read(entry)
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(stream)
    if dtype.hasobject or dtype.kind not in "fiub":
        raise SightlineError(
            f"{path}: its array '{entry.filename.removesuffix('.npy')}' holds {dtype}, not numbers:"
            " save arrays of floats"
        )
    count = math.prod(shape)
    if min(shape, default=0) < 0 or len(data) - stream.tell() != count * dtype.itemsize:
        raise ValueError(f"array '{entry.filename}' does not have the bytes of its shape {shape}")
    flat = np.frombuffer(data, dtype, count, stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()


def _torch_load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL (\S+)", str(error)) or re.search(
            r"Unsupported (?:class|operand|global):? (\S+)", str(error)
        )
        if needed is None and "weights_only" in str(error) and "invalid load key" not in str(error):
            needed = re.search(r"(Can only [a-z]+ [^\n]*|Trying to [^\n]*)", str(error))
        if needed is None:
            raise
        raise unsafe(path, needed[1].rstrip(".,")) from error


def unsafe(path: Path, needed: str) -> SightlineError:
    """The sentence for a pickle that wants to run code: what it wants, and how to keep only its tensors."""
    entry = next((key for key in CONTAINERS if _mentions(path, key)), None)
    inner = f"x.get('{entry}', x)" if entry else "x"
    return SightlineError(
        f"{path} was not loaded because it would run code on opening (it asks for {needed}): if you trust where it"
        " comes from, keep only its tensors in a throw-away environment that has the program that wrote it, python -c"
        f" \"import torch; x = torch.load('{path.name}', map_location='cpu', weights_only=False); x = {inner};"
        " torch.save({k: v for k, v in x.items() if torch.is_tensor(v)}, 'weights.pth')\", then load weights.pth"
    )


def _mentions(path: Path, word: str) -> bool:
    """Whether the pickle in a file holds this string, as keys of dictionaries are written; nothing is run."""
    text = word.encode()
    forms = (b"X" + len(text).to_bytes(4, "little") + text, b"\x8c" + bytes([len(text)]) + text)
    try:
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("/data.pkl")))
    except (OSError, zipfile.BadZipFile, StopIteration):
        data = path.read_bytes()
    return any(form in data for form in forms)


def _numpy_globals() -> dict[tuple[str, str], Any]:
    """Names that only build arrays and scalars of NumPy, under its old and its new module names."""
    from numpy._core import multiarray

    names: dict[tuple[str, str], Any] = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
    for module in ("numpy.core.multiarray", "numpy._core.multiarray"):
        names[module, "_reconstruct"] = multiarray._reconstruct
        names[module, "scalar"] = multiarray.scalar
    return names


def _safe_globals() -> list[Any]:
    """What `weights_only=True` may build besides tensors: NumPy's numbers and an argument parser's bare record."""
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    numpy = [(value, ".".join(name)) for name, value in _numpy_globals().items()]
    return [*numpy, *dtypes, (_latin1, "_codecs.encode"), argparse.Namespace]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """Python 2's strings in newer pickles; no other codec is looked up."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"GLOBAL _codecs.encode to {encoding!r}")
    return text.encode("latin1")


class _ArrayUnpickler(pickle.Unpickler):
    """Builds dictionaries, lists, numbers and arrays, and nothing else."""

    allowed: Mapping[tuple[str, str], Any] = {
        **_numpy_globals(),
        ("collections", "OrderedDict"): OrderedDict,
        ("_codecs", "encode"): _latin1,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.allowed:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        return self.allowed[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("GLOBAL of another file")


def _read_pickle(path: Path) -> Any:
    """A plain pickle of arrays by name, as detectron2 publishes them."""
    data = path.read_bytes()
    for code, argument, _ in pickletools.genops(data):
        # the C unpickler makes room for whatever memo number it is told
        if code.name in ("LONG_BINPUT", "PUT") and isinstance(argument, int) and argument > len(data):
            raise ValueError("impossible memo number")
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except pickle.UnpicklingError as error:
        needed = re.search(r"GLOBAL (.+)", str(error))
        if needed is None:
            raise
        raise unsafe(path, needed[1]) from error
