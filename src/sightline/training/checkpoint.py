"""The state of a run on disk: written beside, synced, renamed; a kill at any moment leaves a complete one.

`state/step-00001200.safetensors` holds every tensor under a plain name (`net/...`, `ema/...`,
`optimizer/<parameter>/<key>`) and everything else as JSON in its header. FSDP2 runs write a folder
`state/step-00001200` through `torch.distributed.checkpoint` instead, each process its own part, under the same names.
Either opens on any number of processes. The newest two are kept; nothing in them is executed when they are read.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from sightline.errors import SightlineError
from sightline.files import replacing, write_text
from sightline.training.ema import Ema
from sightline.training.parallel import Crew, whole

FORMAT = 1
KEPT = 2
_NAME = re.compile(r"step-(\d{8,})(\.safetensors)?")

Saved = tuple[dict[str, Tensor], dict[str, Any]]  # tensors by name, and the JSON


def write_tensors(path: Path, tensors: Mapping[str, Tensor], *, header: str = "") -> None:
    """A safetensors file, whole or not at all. Raises a sentence when the disk is full or cannot be written."""
    plain: dict[str, Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in taken:  # tied weights: the format knows no sharing
            value = value.clone()
        taken.add(value.untyped_storage().data_ptr())
        plain[name] = value
    with replacing(path) as temporary:
        mode = temporary.stat().st_mode
        try:
            save_file(plain, temporary, metadata={"format": "pt", **({"sightline": header} if header else {})})
            temporary.chmod(mode)  # safetensors writes files that only their owner may read
        except SafetensorError as error:
            raise SightlineError(f"cannot write {path}: {error}; free some space or choose another folder") from None


def gather(net: nn.Module, optimizer: Optimizer, ema: Ema | None) -> dict[str, Tensor]:
    """Every tensor a run must remember, by name; parts of sharded ones stay where they are."""
    tensors = {f"net/{name}": t for name, t in net.state_dict().items()}
    if ema is not None:
        tensors.update({f"ema/{name}": t for name, t in ema.tensors.items()})
    for name, parameter in net.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"optimizer/{name}/{key}"] = value
    return tensors


@torch.no_grad()
def restore(net: nn.Module, optimizer: Optimizer, ema: Ema | None, tensors: Mapping[str, Tensor]) -> None:
    """Put saved tensors back, each process its own part of sharded ones. Raises when they are of another network."""
    own = net.state_dict()
    _same_names({n.removeprefix("net/") for n in tensors if n.startswith("net/")}, set(own))
    for name, value in own.items():
        _copy(value, tensors[f"net/{name}"], name)
    if ema is not None:
        for name, value in ema.tensors.items():
            _copy(value, tensors.get(f"ema/{name}", tensors[f"net/{name}"]), name)
    parameters = dict(net.named_parameters())
    for full_name, saved in tensors.items():
        if not full_name.startswith("optimizer/"):
            continue
        name, key = full_name.removeprefix("optimizer/").rsplit("/", 1)
        parameter = parameters[name]
        if key == "step":  # PyTorch keeps these counters on the CPU
            optimizer.state[parameter][key] = saved.clone()
        else:
            value = torch.empty_like(parameter)
            _copy(value, saved, name)
            optimizer.state[parameter][key] = value


def _same_names(saved: set[str], own: set[str]) -> None:
    if saved != own:
        odd = sorted(saved ^ own)
        raise SightlineError(
            f"the checkpoint is of another network: {len(odd)} names differ, such as '{odd[0]}'; "
            "resume with the model and options the run began with"
        )


def _copy(to: Tensor, saved: Tensor, name: str) -> None:
    if to.shape != saved.shape:
        raise SightlineError(
            f"the checkpoint is of another network: '{name}' is {tuple(saved.shape)} there and {tuple(to.shape)} here; "
            "resume with the model and options the run began with"
        )
    if hasattr(to, "device_mesh"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(to, DTensor)
        saved = distribute_tensor(saved.to(to.device), to.device_mesh, to.placements, src_data_rank=None)
    to.copy_(saved)


class Checkpoints:
    """The checkpoints in the `state` folder of a run."""

    def __init__(self, folder: Path, crew: Crew) -> None:
        self.folder, self.crew = folder, crew

    def steps(self) -> dict[int, Path]:
        """The complete checkpoints by step, oldest first."""
        found: dict[int, Path] = {}
        for path in sorted(self.folder.glob("step-*")) if self.folder.is_dir() else []:
            match = _NAME.fullmatch(path.name)
            if match:
                found[int(match.group(1))] = path
        return dict(sorted(found.items()))

    def load(self) -> Saved | None:
        """The newest checkpoint that can be read, whole, on the CPU; None when there is none at all."""
        faults = []
        for path in reversed(self.steps().values()):
            try:
                return _read_folder(path) if path.is_dir() else _read_file(path)
            except SightlineError as error:
                faults.append(str(error))
        if faults:
            raise SightlineError(f"no checkpoint can be read: {faults[0]}; start a new run")
        return None

    def save(self, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> Path:
        """Write one checkpoint (all processes call this); older ones go only when it is complete."""
        header = json.dumps({"format": FORMAT, **meta})
        name = f"step-{meta['step']:08d}"
        if self.crew.distribution == "fsdp2":
            path = self._save_folder(name, tensors, header)
        else:
            path = self.folder / f"{name}.safetensors"
            if self.crew.main:
                write_tensors(path, tensors, header=header)
        if self.crew.main:
            for old in list(self.steps().values())[:-KEPT]:
                _remove(old)
        return path

    def _save_folder(self, name: str, tensors: Mapping[str, Tensor], header: str) -> Path:
        from torch.distributed.checkpoint.api import CheckpointException
        from torch.distributed.checkpoint.filesystem import FileSystemWriter
        from torch.distributed.checkpoint.state_dict_saver import save

        temporary, path = self.folder / f".{name}", self.folder / name
        if self.crew.main:
            _remove(temporary)
        self.crew.barrier()
        try:
            save(dict(tensors), storage_writer=FileSystemWriter(temporary, sync_files=True))
        except CheckpointException as error:
            causes = "; ".join(sorted({str(e[0] if isinstance(e, tuple) else e) for e in error.failures.values()}))
            raise SightlineError(f"cannot write {path}: {causes}; free some space or choose another folder") from None
        if self.crew.main:
            write_text(temporary / "run.json", header)
            _remove(path)
            temporary.replace(path)
        self.crew.barrier()
        return path


def sweep(run: Path) -> None:
    """Remove what a kill in the middle of a write left beside the files of a run."""
    for pattern in ("state/.st*", "state/.lock.json.*", "last/.model.*", "best/.model.*", ".metrics.jsonl.*"):
        for torn in run.glob(pattern):
            _remove(torn)


def model_weights(net: nn.Module, ema: Ema | None) -> dict[str, Tensor]:
    """The weights to use (the averaged ones when there are any), whole, on the CPU; all processes call this."""
    return {name: whole(t) for name, t in (ema.tensors if ema is not None else net.state_dict()).items()}


def _read_file(path: Path) -> Saved:
    try:
        with safe_open(path, framework="pt") as stream:
            header = (stream.metadata() or {}).get("sightline", "")
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 (no dict)
    except (SafetensorError, OSError, ValueError) as error:
        raise SightlineError(f"{path}: not a readable checkpoint ({error})") from None
    return tensors, _meta(path, header)


def _read_folder(path: Path) -> Saved:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load

    try:
        header = (path / "run.json").read_text(encoding="utf-8")
        reader = FileSystemReader(path)
        metadata = _safe_unpickle((path / ".metadata").read_bytes())
        reader.read_metadata = lambda *_, **__: metadata  # the reader's own would unpickle anything
        tensors = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in metadata.state_dict_metadata.items()
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it reads alone is what we want
            load(tensors, storage_reader=reader, no_dist=True)
    except (Exception, CheckpointException) as error:  # whatever a damaged pickle or archive makes of itself
        raise SightlineError(f"{path}: not a readable checkpoint ({error})") from None
    return tensors, _meta(path, header)


def _meta(path: Path, header: str) -> dict[str, Any]:
    try:
        meta = json.loads(header)
    except ValueError:
        meta = None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise SightlineError(f"{path}: not a checkpoint of a run in format {FORMAT}")
    return meta


class _Unpickler(pickle.Unpickler):
    """Reads the table of contents that `torch.distributed.checkpoint` pickles: its own data classes, nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        metadata = "torch.distributed.checkpoint.metadata"
        allowed = {
            metadata: {
                "Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "ChunkStorageMetadata", "TensorProperties",
                "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING",
            },
            "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
            "torch": {"Size", "device", "float32", "float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool"},
            "torch.serialization": {"_get_layout"},
            "pathlib": {"Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"},
            "collections": {"OrderedDict"},
        }  # fmt: skip
        if name not in allowed.get(module, ()):
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no checkpoint needs")
        return super().find_class(module, name)


def _safe_unpickle(data: bytes) -> Any:
    return _Unpickler(io.BytesIO(data)).load()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
