"""A `.pt2` from a stranger: every way that `torch.export.load` would run code is refused, and ours opens."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim

from sightline.errors import SightlineError
from sightline.weights.program import checked_program

Files = dict[str, bytes]


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (os.environ["SIGHTLINE_MARKER"],)


class Halves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)
        self.register_buffer("scale", torch.ones(2, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(self.conv(images) * self.scale, 2, ceil_mode=True)
        return nn.functional.interpolate(x, (images.shape[2], images.shape[3]))


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("program") / "net.pt2"
    dynamic = {"images": {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    program = torch.export.export(Halves(), (torch.rand(2, 3, 8, 10),), dynamic_shapes=dynamic)
    torch.export.save(program, path, extra_files={"sightline.json": "{}"})
    return path


def test_what_an_export_writes_opens_and_answers_at_any_size(ours: Path) -> None:
    extra = {"sightline.json": ""}
    net = torch.export.load(checked_program(ours), extra_files=extra).module()
    assert extra == {"sightline.json": "{}"}
    assert net(torch.rand(1, 3, 7, 5)).shape == (1, 2, 7, 5)


def pickled(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def change(files: Files, name: str, edit: Callable[[Any], None]) -> None:
    """Edit one JSON file of the archive."""
    path = next(p for p in files if p.endswith(name))
    content = json.loads(files[path])
    edit(content)
    files[path] = json.dumps(content).encode()


def weights(files: Files) -> None:
    def edit(content: Any) -> None:
        next(iter(content["config"].values()))["use_pickle"] = True

    change(files, "model_weights_config.json", edit)
    files[next(p for p in files if p.endswith("weight_0"))] = pickled(Evil())


def constants(files: Files) -> None:
    def edit(content: Any) -> None:
        next(iter(content["config"].values()))["path_name"] = "opaque_obj_0"

    change(files, "model_constants_config.json", edit)
    files[f"{next(iter(files)).split('/')[0]}/data/constants/opaque_obj_0"] = pickle.dumps(Evil())


def example(files: Files) -> None:
    files[next(p for p in files if p.endswith("sample_inputs/model.pt"))] = pickled(Evil())


def operator(files: Files) -> None:
    def edit(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"

    change(files, "models/model.json", edit)


def writer(files: Files) -> None:
    def edit(content: Any) -> None:
        content["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.from_file.default"

    change(files, "models/model.json", edit)


def size(files: Files) -> None:
    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if "expr_str" in value:
                value["expr_str"] = "__import__('os').mkdir(__import__('os').environ['SIGHTLINE_MARKER'])"
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    change(files, "models/model.json", walk)


def guard(files: Files) -> None:
    def edit(content: Any) -> None:
        content["guards_code"] = ["[] == __import__('os').mkdir(__import__('os').environ['SIGHTLINE_MARKER'])"]

    change(files, "models/model.json", edit)


def library(files: Files) -> None:
    files[f"{next(iter(files)).split('/')[0]}/data/aotinductor/model/model.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (weights, "the pickled tensor 'conv.weight'"),
        (constants, "opaque_obj_0"),
        (example, "an example that is no tensor"),
        (operator, "the operator 'torch.os.mkdir'"),
        (writer, "the operator 'torch.ops.aten.from_file.default'"),
        (size, "the size '__import__"),
        (guard, "the guard '[] == __import__"),
        (library, "aotinductor/model/model.so'"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_nothing_of_a_stranger_runs(
    spoil: Callable[[Files], None], says: str, ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIGHTLINE_MARKER", str(tmp_path / "marker"))
    with zipfile.ZipFile(ours) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    spoil(files)
    path = tmp_path / "evil.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises(SightlineError) as caught:
        checked_program(path)
    assert says in str(caught.value)
    assert "was not opened because it holds" in str(caught.value)
    assert not (tmp_path / "marker").exists()


def test_two_files_of_one_name_are_refused(ours: Path, tmp_path: Path) -> None:
    """Readers of zip archives disagree which of the two is meant."""
    path = tmp_path / "twice.pt2"
    with zipfile.ZipFile(ours) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(files)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr(f"{root}/models/model.json", b"{}")
    with pytest.raises(SightlineError, match="two files of one name"):
        checked_program(path)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04" + bytes(100)])
def test_a_damaged_archive_is_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.pt2"
    path.write_bytes(content)
    with pytest.raises(SightlineError, match=r"net\.pt2 cannot be opened as \.pt2 \("):
        checked_program(path)


def test_damage_anywhere_is_one_sentence(ours: Path, tmp_path: Path) -> None:
    whole = ours.read_bytes()
    path = tmp_path / "net.pt2"
    for cut in range(0, len(whole), len(whole) // 25):
        path.write_bytes(whole[:cut])
        with pytest.raises(SightlineError):
            checked_program(path)
