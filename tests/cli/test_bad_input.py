"""What goes wrong at users' desks, through the real command line: one sentence, an exit code, nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from sightline.cli import main
from sightline.media.labels import read_labels

Listing = dict[str, tuple[int, int]]


class Desk:
    """A folder with a data set, a run and whatever a case adds; what a command says and leaves behind."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str], shapes: Path, run: Path) -> None:
        self.root, self.capsys = root, capsys
        self.data = shutil.copytree(shapes, root / "data")
        self.run = shutil.copytree(run, root / "run", ignore=shutil.ignore_patterns("state", "samples"))
        self.out = root / "out"

    def first(self, what: str, split: str = "train") -> Path:
        """The first file of `images` or `masks` of a split."""
        return sorted((self.data / what / split).iterdir())[0]

    def put(self, name: str, content: bytes | str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def listing(self) -> Listing:
        return {
            str(p.relative_to(self.root)): (p.stat().st_size, p.stat().st_mtime_ns)
            for p in self.root.rglob("*")
            if p.is_file()
        }

    def sentence(self, *call: Any, code: int = 1) -> str:
        """What a failing command says: one error line on stderr, nothing on stdout with --json, no file touched."""
        words, before = [str(word) for word in call], self.listing()
        said = []
        for more in ([], ["--json"]):
            assert main([*words, *more]) == code
            out, err = self.capsys.readouterr()
            assert out == "" or not more
            lines = [line for line in err.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1, err
            assert "Traceback" not in err
            assert "bug in sightline" not in err
            said.append(lines[0].removeprefix("error: "))
        assert said[0] == said[1]
        assert self.listing() == before
        return said[0]


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str], shapes: Path, tiny_run: Path, monkeypatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path, capsys, shapes, tiny_run)


# Files that a case spoils ----------------------------------------------------------------------------------------


def truncated(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def jpeg(desk: Desk) -> Path:
    path = desk.root / "photo.jpg"
    Image.open(desk.first("images")).save(path, quality=90)
    return path


def huge_png(side: int) -> bytes:
    """A legal header of a picture that would need gigabytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


class Evil:
    """A pickle that runs a command when it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"{sys.executable} -c \"open(r'{self.marker}', 'w')\"",)


# Pictures --------------------------------------------------------------------------------------------------------

PICTURES: dict[str, tuple[Callable[[Desk], Path], list[str]]] = {
    "truncated JPEG": (lambda d: truncated(jpeg(d)), ["photo.jpg", "copy it again"]),
    "truncated PNG": (lambda d: truncated(d.first("images")), ["0000.png", "copy it again"]),
    "zero bytes": (lambda d: d.put("empty.png", b""), ["empty.png", "empty (0 bytes)", "copy it again"]),
    "HEIC": (lambda d: d.put("phone.heic", b"\0\0\0\x18ftypheic" + bytes(64)), ["phone.heic", "HEIC", "JPEG"]),
    "huge header": (lambda d: d.put("huge.png", huge_png(100_000)), ["huge.png", "100000 x 100000", "limit"]),
    "text": (lambda d: d.put("notes.png", "this is no picture"), ["notes.png"]),
    "missing": (lambda d: d.root / "absent.png", ["absent.png", "does not exist"]),
    "empty folder": (lambda d: (d.root / "nothing").mkdir() or d.root / "nothing", ["nothing", "holds no picture"]),
}


@pytest.mark.parametrize("case", PICTURES)
def test_predict_refuses_a_bad_picture(case: str, desk: Desk) -> None:
    make, says = PICTURES[case]
    sentence = desk.sentence("predict", desk.run, make(desk), f"out={desk.out}")
    assert all(word in sentence for word in says), sentence
    assert not desk.out.exists()


def test_one_bad_picture_among_good_ones_is_skipped_when_asked(desk: Desk) -> None:
    bad = truncated(desk.first("images", "val"))
    call = ["predict", str(desk.run), str(bad.parent), f"out={desk.out}", "on_error=skip", "--json"]
    assert main(call) == 0
    out, err = desk.capsys.readouterr()
    told = json.loads(out)
    assert len(told["answers"]) == 2
    assert list(told["skipped"]) == [bad.stem]
    assert str(bad) in told["skipped"][bad.stem]
    assert sorted(p.name for p in desk.out.glob("*.png")) == sorted(f"{a['name']}.png" for a in told["answers"])
    assert "Traceback" not in err


# Data sets -------------------------------------------------------------------------------------------------------


def other_size(desk: Desk) -> Path:
    path = desk.first("masks")
    Image.open(path).resize((20, 20), Image.Resampling.NEAREST).save(path)
    return path


def other_values(desk: Desk) -> Path:
    path = desk.first("masks")
    labels = read_labels(path).astype(np.uint8)
    labels[3, 5] = 77
    Image.fromarray(labels).save(path)
    return path


def painted(desk: Desk) -> Path:
    path = desk.first("masks")
    Image.open(path).convert("RGB").save(path)
    return path


DATA: dict[str, tuple[Callable[[Desk], Path], list[str]]] = {
    "truncated picture": (lambda d: truncated(d.first("images")), ["0000.png", "copy it again"]),
    "zero bytes": (lambda d: d.put("data/images/train/0000.png", b""), ["0000.png", "0 bytes"]),
    "zero bytes mask": (lambda d: d.put("data/masks/train/0000.png", b""), ["masks/train/0000.png", "0 bytes"]),
    "mask of another size": (other_size, ["20 x 20", "48 x 40", "again"]),
    "mask values": (other_values, ["the value 77 at row 3, column 5", "expected 0 to 3", "correct the mask"]),
    "RGB mask": (painted, ["masks/train/0000.png", "colour"]),
    "huge header": (lambda d: d.put("data/images/train/0000.png", huge_png(70_000)), ["70000 x 70000", "limit"]),
    "HEIC": (lambda d: d.put("data/images/train/0000.png", b"\0\0\0\x18ftypheic" + bytes(64)), ["HEIC"]),
}


@pytest.mark.parametrize("case", DATA)
def test_train_and_evaluate_refuse_bad_data_before_anything_is_written(case: str, desk: Desk) -> None:
    spoil, says = DATA[case]
    name = spoil(desk).relative_to(desk.data).as_posix()
    for call in (
        ["train", "unet", desk.data, f"run={desk.root / 'new'}", "device=cpu"],
        ["evaluate", desk.run, desk.data, "split=train"],
    ):
        sentence = desk.sentence(*call)
        assert name in sentence
        assert all(word in sentence for word in says), sentence
    assert not (desk.root / "new").exists()


@pytest.mark.parametrize("verb", ["train", "evaluate", "data info", "data convert"])
def test_a_folder_that_is_no_data_set(verb: str, desk: Desk) -> None:
    empty = desk.root / "empty"
    empty.mkdir()
    strange = desk.put("strange/readme.txt", "nothing to see").parent
    for folder, says in ((empty, "is empty"), (strange, "no format"), (desk.root / "gone", "does not exist")):
        call = {
            "train": ["train", "unet", folder, f"run={desk.root / 'new'}"],
            "evaluate": ["evaluate", desk.run, folder],
            "data info": ["data", "info", folder],
            "data convert": ["data", "convert", folder, desk.root / "new"],
        }[verb]
        sentence = desk.sentence(*call)
        assert str(folder) in sentence
        assert says in sentence


def test_a_picture_without_a_mask_is_told(desk: Desk) -> None:
    gone = desk.first("masks")
    gone.unlink()
    image = desk.first("images")
    assert main(["data", "check", str(desk.data), "--json"]) == 1
    told = json.loads(desk.capsys.readouterr().out)
    assert [f["path"] for f in told["faults"] if f["severity"] == "error"] == [str(image)]
    said = desk.sentence("train", "unet", desk.data, f"run={desk.root / 'new'}", "--dry-run")
    assert image.name in said


def test_check_finds_all_faults_in_one_pass_and_training_skips_them(desk: Desk, tiny_options: dict[str, Any]) -> None:
    images, masks = (sorted((desk.data / what / "train").iterdir()) for what in ("images", "masks"))
    truncated(images[0])
    images[1].write_bytes(b"")
    Image.open(masks[2]).resize((20, 20)).save(masks[2])
    Image.open(masks[3]).convert("RGB").save(masks[3])
    labels = read_labels(masks[4]).astype(np.uint8)
    labels[0, 0] = 200
    Image.fromarray(labels).save(masks[4])
    truncated(desk.first("images", "val"))
    assert main(["data", "check", str(desk.data), "--json"]) == 1
    out, _ = desk.capsys.readouterr()
    told = json.loads(out)
    bad = {str(p) for p in (images[0], images[1], masks[2], masks[3], masks[4], desk.first("images", "val"))}
    assert {f["path"] for f in told["faults"] if f["severity"] == "error"} == bad
    assert told["errors"] == 6
    run = desk.root / "new"
    options = [f"{k}={v}" for k, v in tiny_options.items() if not k.endswith("_values")]
    call = ["train", "unet", desk.data, f"run={run}", *options, "model.width=4", "model.depth=3", "on_error=skip"]
    assert main([*map(str, call), "--json"]) == 0
    out, err = desk.capsys.readouterr()
    assert json.loads(out)["stopped"] == "done"
    assert "Traceback" not in err
    skipped = json.loads((run / "evaluation.json").read_text())["skipped"]
    assert len(skipped) == 6
    assert all(any(str(path) in text for text in skipped.values()) for path in bad)
    assert "6 files" in (run / "report.html").read_text()


def test_nothing_but_broken_pictures_cannot_be_trained_on(desk: Desk) -> None:
    for path in (desk.data / "images" / "train").iterdir():
        path.write_bytes(b"")
    sentence = desk.sentence("train", "unet", desk.data, f"run={desk.root / 'new'}", "on_error=skip", "device=cpu")
    assert "sightline data check" in sentence


# Wrong calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (["evalute", "RUN", "DATA"], "Did you mean 'evaluate'?"),
        (["train", "unett", "DATA"], "Did you mean 'unet'?"),
        (["train", "unet", "DATA", "stepps=3"], "Did you mean --steps?"),
        (["train", "unet", "DATA", "model.widht=3"], "Did you mean 'width'?"),
        (["train", "unet", "DATA", "train.optimzer=sgd"], "Did you mean 'optimizer'?"),
        (["train", "unet", "DATA", "augment.rotte=3"], "Did you mean 'rotate'?"),
        (["train", "unet", "DATA", "format=pairz"], "Did you mean 'pairs'?"),
        (["train", "unet", "DATA", "device=gpu"], "gpu"),
        (["train", "unet", "DATA", "steps=many"], "many"),
        (["train", "unet", "DATA", "model.width=wide"], "width"),
        (["train", "unet", "DATA", "train.clip=yes"], "clip"),
        (["evaluate", "RUN", "DATA", "split=tset"], "it has train, val, all"),
        (["evaluate", "RUN", "DATA", "format=piars"], "Did you mean 'pairs'?"),
        (["evaluate", "RUN", "DATA", "flips=x"], "none, h, hv"),
        (["evaluate", "RUN", "DATA", "scales=0"], "scales"),
        (["evaluate", "RUN", "DATA", "scales=a"], "scales"),
        (["evaluate", "RUN", "DATA", "overlap=1"], "overlap"),
        (["evaluate", "RUN", "DATA", "on_error=sk"], "skip"),
        (["evaluate", "absent", "DATA"], "there is no run at absent"),
        (["evaluate", "DATA", "DATA"], "is not a run"),
        (["predict", "RUN", "http://example.org/a.jpg"], "is an address"),
        (["predict", "absent", "DATA"], "there is no run at absent"),
        (["compare", "RUN"], "two runs"),
        (["compare", "RUN", "DATA"], "is not a run"),
        (["compare", "RUN", "absent"], "absent"),
        (["export", "RUN", "net.onx"], "Did you mean 'onnx'?"),
        (["export", "absent", "net.onnx"], "there is no run at absent"),
        (["info", "deeplab"], "Did you mean 'deeplabv3'?"),
        (["data", "convert", "DATA", "new", "to=cocoo"], "Did you mean 'coco'?"),
        (["train", "resume=absent"], "absent is not a run"),
        (["train"], "sightline train unet DATA"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_words_are_answered_with_the_right_ones(call: list[str], says: str, desk: Desk) -> None:
    places = {"RUN": str(desk.run), "DATA": str(desk.data)}
    sentence = desk.sentence(*(places.get(word, word) for word in call), code=2)
    assert says in sentence, sentence


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model: [unet\ndata: x\n", "is not YAML"),
        ("- unet\n- data\n", "holds a list"),
        ("model: unet\nstepz: 4\n", "Did you mean 'steps'?"),
        ("model: unet\nsteps: soon\n", 'unable to convert "soon" into int'),
        ("steps: 4\nsteps: 5\n", "'steps' stands there twice"),
        ("model: \x00\n", "is not YAML"),
    ],
)
def test_a_wrong_yaml_is_named(text: str, says: str, desk: Desk) -> None:
    path = desk.put("options.yaml", text)
    sentence = desk.sentence("train", f"config={path}", code=2)
    assert str(path) in sentence
    assert says in sentence


# Weights and runs ------------------------------------------------------------------------------------------------


def evil(desk: Desk, save: Callable[[Any, Path], Any]) -> Path:
    path = desk.root / "evil.pth"
    save({"state_dict": Evil(desk.root / "marker")}, path)
    return path


def pickled(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value))


def foreign(desk: Desk) -> Path:
    path = desk.root / "other.pth"
    torch.save({f"blocks.{i}.attn.qkv.weight": torch.zeros(8, 8) for i in range(4)}, path)
    return path


def wider(desk: Desk) -> Path:
    path = desk.root / "wide.safetensors"
    tensors = load_file(desk.run / "best" / "model.safetensors")
    save_file({k: v.repeat_interleave(2, 0).contiguous() if v.ndim else v for k, v in tensors.items()}, path)
    return path


WEIGHTS: dict[str, tuple[Callable[[Desk], Path], list[str]]] = {
    "malicious zip": (lambda d: evil(d, torch.save), ["evil.pth", "throw-away environment"]),
    "malicious legacy": (
        lambda d: evil(d, lambda v, p: torch.save(v, p, _use_new_zipfile_serialization=False)),
        ["evil.pth", "throw-away environment"],
    ),
    "malicious pickle": (lambda d: evil(d, pickled), ["evil.pth", "throw-away environment"]),
    "another architecture": (foreign, ["other.pth"]),
    "another width": (wider, ["wide.safetensors"]),
    "truncated": (
        lambda d: truncated(Path(shutil.copy(d.run / "best" / "model.safetensors", d.root / "cut.safetensors"))),
        ["cut.safetensors"],
    ),
    "zero bytes": (lambda d: d.put("none.pth", b""), ["none.pth"]),
    "text": (lambda d: d.put("text.pth", "weights"), ["text.pth"]),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_cannot_be_used(case: str, desk: Desk) -> None:
    make, says = WEIGHTS[case]
    path = make(desk)
    options = ["model.width=4", "model.depth=3", "steps=1", "size=32", "batch=2", "device=cpu"]
    sentence = desk.sentence("train", "unet", desk.data, f"weights={path}", f"run={desk.root / 'new'}", *options)
    assert all(word in sentence for word in says), sentence
    assert not (desk.root / "marker").exists()


def card(desk: Desk, **changes: Any) -> Path:
    path = desk.run / "best" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


RUNS: dict[str, tuple[Callable[[Desk], Path], list[str]]] = {
    "card is no JSON": (lambda d: d.put("run/best/card.json", "{'model'"), ["card.json is not JSON"]),
    "card is empty": (lambda d: d.put("run/best/card.json", b""), ["card.json is not JSON"]),
    "card is a list": (lambda d: d.put("run/best/card.json", "[]"), ["must hold a JSON object"]),
    "newer card": (lambda d: card(d, format=2), ["newer version of sightline", "upgrade"]),
    "card without model": (lambda d: card(d, model=None), ["'model' is wrong"]),
    "card of an unknown model": (lambda d: card(d, model="unte"), ["Did you mean 'unet'?"]),
    "card of an unknown task": (lambda d: card(d, task="segmentatoin"), ["Did you mean 'segmentation'?"]),
    "card with an unknown value": (lambda d: card(d, arguments={"widht": 4}), ["Did you mean 'width'?"]),
    "card of another network": (lambda d: card(d, arguments={"width": 8, "num_classes": 4}), ["model.safetensors"]),
    "card with an unknown rule": (
        lambda d: card(d, preprocess={"intensity": "magic", "channels": 3, "resize": "none", "multiple": 1}),
        ["magic"],
    ),
    "truncated weights": (lambda d: truncated(d.run / "best" / "model.safetensors"), ["model.safetensors"]),
    "empty weights": (lambda d: d.put("run/best/model.safetensors", b""), ["model.safetensors"]),
    "weights of zeros": (lambda d: d.put("run/best/model.safetensors", bytes(4000)), ["model.safetensors"]),
}


@pytest.mark.parametrize("case", RUNS)
def test_a_damaged_run_is_refused(case: str, desk: Desk) -> None:
    spoil, says = RUNS[case]
    spoil(desk)
    picture = desk.first("images")
    code = 2 if "unknown" in case else 1
    for call in (["predict", desk.run, picture, f"out={desk.out}"], ["evaluate", desk.run, desk.data]):
        sentence = desk.sentence(*call, code=code)
        assert all(word in sentence for word in says), sentence


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("content", [b"", b"not a network", bytes(2000)], ids=["empty", "text", "zeros"])
def test_a_damaged_export_is_refused(suffix: str, content: bytes, desk: Desk) -> None:
    path = desk.put(f"net{suffix}", content)
    sentence = desk.sentence("predict", path, desk.first("images"), f"out={desk.out}")
    assert str(path) in sentence
    assert "cannot be opened" in sentence


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1}'])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("config.json", ["train", "resume=RUN"]),
        ("evaluation.json", ["compare", "RUN", "RUN"]),
    ],
)
def test_a_damaged_file_of_a_run_is_named(name: str, call: list[str], content: str, desk: Desk) -> None:
    path = desk.put(f"run/{name}", content)
    sentence = desk.sentence(*(word.replace("RUN", str(desk.run)) for word in call))
    assert str(path) in sentence


# Folders that cannot be written ----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["predict", "train", "export", "compare", "init", "data convert", "data check"])
def test_a_place_that_cannot_be_written(verb: str, desk: Desk) -> None:
    place = desk.put("file.txt", "in the way") / "below"
    call = {
        "predict": ["predict", desk.run, desk.first("images"), f"out={place}"],
        "train": ["train", "unet", desk.data, f"run={place}", "steps=1", "size=32", "model.width=2", "device=cpu"],
        "export": ["export", desk.run, place / "net.pt2"],
        "compare": ["compare", desk.run, desk.run, f"out={place / 'page.html'}"],
        "init": ["init", place / "options.yaml"],
        "data convert": ["data", "convert", desk.data, place],
        "data check": ["data", "check", desk.data, f"out={place / 'list.json'}"],
    }[verb]
    if verb == "init":  # it answers nothing, so it has no --json
        before = desk.listing()
        assert main([str(word) for word in call]) == 1
        sentence = desk.capsys.readouterr().err
        assert desk.listing() == before
    else:
        sentence = desk.sentence(*call)
    assert str(place) in sentence


# As people start it ----------------------------------------------------------------------------------------------


def test_a_new_interpreter_says_the_same(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "sightline", "compare", "absent", "gone", "--json"]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    expected = "absent is not a run: it holds no config.json; give the folder that `sightline train` named"
    assert done.stderr == f"error: {expected}\n"
    assert list(tmp_path.iterdir()) == []
