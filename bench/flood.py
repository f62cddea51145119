"""Pour damaged files through every door of the library and see that each ends in an answer or in one sentence.

    python bench/flood.py                          20,000 files of all kinds
    python bench/flood.py --only onnx --count 500
    python bench/flood.py --first 8123 --count 1    one file again

File number N is made from N alone: a good file of kind N mod kinds, with a few bytes, numbers or words changed. A child
process opens it; the parent watches. A finding is any exception but `SightlineError`, a sentence of more than one line,
an answer that takes over 10 seconds of computing, a process of over 2 GB or that dies, and a file that starts a
program, opens a connection or writes outside its folder. Exit code 1 when there is a finding.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import os
import pickle
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

SECONDS, MEGABYTES = 10.0, 2000.0
WAIT = 240.0  # seconds by the clock until a process that does not even compute is given up
LARGEST = 2**24  # pixels that a picture may promise
FORBIDDEN = ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
ODD = ("null", "true", "-1", "0", "1e999", "NaN", "1" + "0" * 30, '""', '"../../x"', "[]", "{}", "[[]]", '"\\u0000"')
Files = dict[str, bytes]  # a kind's folder: the first file is the one that gets damaged


def good_files(folder: Path) -> dict[str, Files]:
    """One good folder of every kind."""
    return {**_pictures(folder), **_annotations(), **_settings(folder), **_weights(folder), **_programs(folder)}


def _pictures(folder: Path) -> dict[str, Files]:
    import tifffile
    from PIL import Image

    from sightline.media.image import write_image
    from sightline.media.labels import write_labels

    rng = np.random.default_rng(0)
    colour = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((6, 6, 1))).astype(np.uint8)
    image, deep = Image.fromarray(colour), colour.astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = {
        "a.jpg": {"exif": exif}, "progressive.jpg": {"progressive": True}, "a.png": {}, "a.webp": {"exif": exif},
        "a.bmp": {}, "a.gif": {}, "lzw.tif": {"compression": "tiff_lzw"}, "jpeg.tif": {"compression": "jpeg"},
    }  # fmt: skip
    for name, options in kinds.items():
        image.save(folder / name, **options)
    image.convert("1").save(folder / "fax.tif", compression="group4")
    for name, array in (("deep.png", deep), ("deep.ppm", deep), ("float.tif", deep / np.float32(3))):
        write_image(folder / name, array)
    tifffile.imwrite(folder / "tiles.tif", colour[..., 0], tile=(16, 16), compression="zlib", predictor=2)
    write_labels(folder / "labels.png", colour[..., 0] % 5, rng.integers(0, 256, (5, 3)))
    write_labels(folder / "ids.png", (colour[..., 0] % 5).astype(np.uint16) * 300)
    return {path.name: {path.name: path.read_bytes()} for path in sorted(folder.iterdir()) if path.is_file()}


def _annotations() -> dict[str, Files]:
    from PIL import Image

    def png(values: np.ndarray) -> bytes:
        out = io.BytesIO()
        Image.fromarray(values).save(out, "png")
        return out.getvalue()

    picture, mask = png(np.full((6, 8, 3), 90, np.uint8)), png(np.eye(6, 8, dtype=np.uint8))
    coco = {
        "images": [{"id": 1, "file_name": "a.png", "height": 6, "width": 8}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]], "area": 12, "iscrowd": 0,
             "bbox": [0, 0, 5, 5]},
            {"id": 2, "image_id": 1, "category_id": 2, "iscrowd": 1,
             "segmentation": {"size": [6, 8], "counts": "08X1"}},
            {"id": 3, "image_id": 1, "category_id": 2, "segmentation": {"size": [6, 8], "counts": [8, 40]}},
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }  # fmt: skip
    labelme = {
        "shapes": [
            {"label": "x", "points": [[0, 0], [5, 0], [5, 5]], "shape_type": "polygon"},
            {"label": "y", "points": [[1, 1], [3, 3]], "shape_type": "circle"},
        ],
        "imagePath": "a.png", "imageHeight": 6, "imageWidth": 8,
    }  # fmt: skip
    cvat = """<?xml version="1.0"?><annotations><meta><labels><label><name>x</name></label></labels></meta>
<image id="0" name="a.png" width="8" height="6"><polygon label="x" points="0,0;5,0;5,5" z_order="0"/>
<mask label="x" rle="1,2,3" left="2" top="1" width="3" height="2" z_order="1"/></image></annotations>"""
    table = "image,mask,split,group\na.png,m/a.png,train,g\nb.png,m/a.png,val,h\n"
    return {
        "coco": {"annotations.json": json.dumps(coco).encode(), "a.png": picture},
        "labelme": {"a.json": json.dumps(labelme).encode(), "a.png": picture},
        "cvat": {"annotations.xml": cvat.encode(), "a.png": picture},
        "table": {"index.csv": table.encode(), "a.png": picture, "b.png": picture, "m/a.png": mask},
        "pairs": {"masks/a.png": mask, "images/a.png": picture, "classes.txt": b"one\nother\n"},
        "classes": {
            "classes.csv": b"name,r,g,b\none,0,0,0\nother,1,1,1\n",
            "masks/a.png": mask,
            "images/a.png": picture,
        },
    }


def _settings(folder: Path) -> dict[str, Files]:
    import torch

    from sightline.weights import card as cards
    from sightline.weights.card import Card

    yaml = "model: unet\nsize: [64, 64]\nmodel_values:\n  width: 4 # narrow\naugment: light\nlr: 1e-3\n"
    place = folder / "card"
    place.mkdir()
    cards.write(place, torch.nn.Linear(2, 2), Card("unet", "segmentation", classes=("a", "b"), scores={"x": 1.0}))
    card = {name: (place / name).read_bytes() for name in ("card.json", cards.WEIGHTS)}
    return {"yaml": {"sightline.yaml": yaml.encode()}, "card": card}


def _weights(folder: Path) -> dict[str, Files]:
    import safetensors.torch
    import torch

    state = {"a.weight": torch.arange(6.0).view(2, 3), "b.running_mean": torch.zeros(4), "n": torch.tensor(3)}
    arrays = {name: value.numpy() for name, value in state.items()}
    new, old, evil, npz = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"epoch": 1, "state_dict": state}, new)
    torch.save({"epoch": 1, "state_dict": state}, old, _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state, "hook": Evil()}, evil)
    np.savez(npz, **arrays)
    return {
        "safetensors": {"w.safetensors": safetensors.torch.save(state)},
        "pth": {"w.pth": new.getvalue()},
        "old.pth": {"w.pth": old.getvalue()},
        "evil.pth": {"w.pth": evil.getvalue()},
        "evil.pkl": {"w.pkl": pickle.dumps({"model": arrays, "hook": Evil()}, 2)},
        "npz": {"w.npz": npz.getvalue()},
    }


class Evil:
    """What a stranger's pickle would do: start a program."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("exit 0",)


def _programs(folder: Path) -> dict[str, Files]:
    import torch

    import sightline as sl
    from sightline.verbs.export import export
    from sightline.weights.card import Card

    torch.manual_seed(0)
    net = sl.create("unet", num_classes=2, width=2, depth=3).eval()
    card = Card(model="unet", task="segmentation", classes=("one", "other"))
    found = {}
    for kind in ("onnx", "pt2"):
        export((net, card), folder / f"net.{kind}")
        found[kind] = {f"net.{kind}": (folder / f"net.{kind}").read_bytes()}
    return found


def damaged(data: bytes, number: int) -> bytes:
    """`data` with one to five changes of the kinds that disks, networks and people make."""
    dice = random.Random(number)
    if data.startswith(b"PK") and dice.random() < 0.5:
        return repacked(data, dice, number)
    content = bytearray(data)
    text = not re.search(rb"[\x00-\x08]", data[:2000])
    for _ in range(dice.choice((1, 1, 2, 5))):
        if not content:
            break
        place = dice.randrange(min(len(content), 300) if dice.random() < 0.5 else len(content))
        end = dice.randrange(len(content) + 1)
        match dice.randrange(14 if text else 7):
            case 0:
                content[place] ^= 1 << dice.randrange(8)
            case 1:
                content[place] = dice.randrange(256)
            case 2:
                del content[place:]
            case 3:
                del content[place : place + dice.randrange(1, 40)]
            case 4:
                content[place:place] = dice.randbytes(dice.randrange(1, 40))
            case 5:
                content[place : place + 8] = dice.choice((b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" + bytes(4)))
            case 6:
                content[place:place] = content[min(place, end) : end]
            case _:  # another value where a value stood
                values = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"]*"|\[[^\[\]]*\]', bytes(content)))
                if values:
                    found = dice.choice(values)
                    content[found.start() : found.end()] = dice.choice(ODD).encode()
    return bytes(content[: 4 * len(data)])


def repacked(data: bytes, dice: random.Random, number: int) -> bytes:
    """A zip archive with one of its files damaged, and the sums right again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        chosen = dice.choice(old.namelist())
        for name in old.namelist():
            new.writestr(name, damaged(old.read(name), number + 1) if name == chosen else old.read(name))
    return out.getvalue()


def knock(kind: str, folder: Path, name: str) -> None:
    """Open the damaged file by every door that its kind has; `SightlineError` passes through."""
    import torch

    from sightline.datasets.check import check
    from sightline.datasets.open import open_dataset
    from sightline.datasets.read import read_labels_of, read_picture
    from sightline.errors import SightlineError
    from sightline.media.image import image_size, pages, read_image
    from sightline.media.labels import read_labels
    from sightline.verbs.config import read_yaml
    from sightline.verbs.export import open_exported
    from sightline.weights import card as cards
    from sightline.weights.read import read_checkpoint

    path = folder / name
    if kind in ("coco", "labelme", "cvat", "table", "pairs", "classes"):
        for fault in check(folder, format="pairs" if kind == "classes" else kind).faults:
            assert "\n" not in fault.sentence, fault.sentence
        data = open_dataset(folder, format="pairs" if kind == "classes" else kind, val=0)
        for record in data.records:
            read_picture(record)
            if record.labels is not None:
                read_labels_of(record, len(data.classes))
    elif kind == "yaml":
        read_yaml(path)
    elif kind == "card":
        cards.read(folder)
    elif kind in ("onnx", "pt2"):
        net, _ = open_exported(path)
        with torch.no_grad():
            net(torch.zeros(1, 3, 32, 32))
    elif path.suffix in (".pth", ".pkl", ".npz", ".safetensors"):
        read_checkpoint(path)
    else:
        refusals = []
        doors: tuple[Callable[[], object], ...] = (
            lambda: read_image(path, max_pixels=LARGEST),
            lambda: read_image(path, max_pixels=LARGEST, reduce_to=(9, 9)),
            lambda: read_labels(path, max_pixels=LARGEST),
            lambda: image_size(path),
            lambda: pages(path),
        )
        for door in doors:
            try:
                door()
            except SightlineError as error:
                assert "\n" not in str(error), str(error)
                refusals.append(error)
        if len(refusals) == len(doors):
            raise refusals[0]


def spread(files: Files, folder: Path) -> Path:
    """Write the files below `folder`, and return it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def child(pipe: Connection, good: dict[str, Files], numbers: range, kinds: list[str], place: str) -> None:
    """Open the files of `numbers` one after another, telling the parent before and after each."""
    from sightline.errors import SightlineError

    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # decoders written in C grumble
    watched, events = [False], []

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watched[0] and event in FORBIDDEN:
            events.append(f"{event} {str(arguments)[:80]}")
        writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
        if watched[0] and writes and not str(arguments[0]).startswith((place, tempfile.gettempdir())):
            events.append(f"writes {arguments[0]}")

    for kind, files in good.items():  # what libraries import and ask of the system at their first file is theirs
        with contextlib.suppress(SightlineError):
            knock(kind, spread(files, Path(place) / f"good-{kind}"), next(iter(files)))
    sys.addaudithook(watch)
    pipe.send((numbers.start, "ready", ""))
    for number in numbers:
        kind = kinds[number % len(kinds)]
        files = good[kind]
        name, content = next(iter(files.items()))
        folder = spread({**files, name: damaged(content, number)}, Path(place) / str(number))
        pipe.send((number, "begin", kind))
        verdict, events[:] = "answered", []
        watched[0] = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # of this process alone, however busy the machine is
        try:
            knock(kind, folder, name)
        except SightlineError as error:
            verdict = "refused" if "\n" not in str(error) and len(str(error)) < 2000 else f"says too much: {error}"
        except BaseException as error:
            verdict = f"{type(error).__name__}: {error}"
        signal.setitimer(signal.ITIMER_PROF, 0)
        watched[0] = False
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        if events:
            verdict = f"executed: {events[0]}"
        elif memory > MEGABYTES:
            verdict = f"the process grew to {memory:.0f} MB"
        pipe.send((number, "end", verdict))
        shutil.rmtree(folder)
        if memory > MEGABYTES:
            os._exit(0)
    pipe.send((-1, "done", ""))


def pour(numbers: range, good: dict[str, Files], kinds: list[str], place: Path) -> tuple[Counter, list[str], float]:
    """All files; (kind, verdict) counted, the findings, the longest time one took."""
    context = multiprocessing.get_context("spawn")
    counted: Counter = Counter()
    findings: list[str] = []
    longest, at = 0.0, numbers.start
    while at < numbers.stop:
        ours, theirs = context.Pipe()
        process = context.Process(target=child, args=(theirs, good, range(at, numbers.stop), kinds, str(place)))
        process.start()
        theirs.close()
        begun, limit, kind = time.monotonic(), WAIT, "start"  # the first imports take a while
        while True:
            try:
                number, what, words = (
                    ours.recv() if ours.poll(max(0.0, limit - (time.monotonic() - begun))) else (0, "", "")
                )
            except EOFError:
                process.join()
                how = f"it computed for over {SECONDS:.0f} s" if process.exitcode == -signal.SIGPROF else "it died"
                findings.append(f"file {at} ({kind}): {how} ({process.exitcode})")
                print(findings[-1], flush=True)
                at += 1
                break
            if what == "begin":
                begun, kind, at, limit = time.monotonic(), words, number, WAIT
            elif what == "end":
                longest = max(longest, time.monotonic() - begun)
                verdict = words if words in ("answered", "refused") else "finding"
                counted[kind, verdict] += 1
                if verdict == "finding":
                    findings.append(f"file {number} ({kind}): {words}")
                    print(findings[-1], flush=True)
                at, begun, limit = number + 1, time.monotonic(), WAIT
                if at % 1000 == 0:
                    print(f"{at} of {numbers.stop} files, {len(findings)} findings", flush=True)
                if "grew to" in words:
                    break
            elif what == "done":
                break
            elif what == "ready":
                begun = time.monotonic()
            else:
                findings.append(f"file {at} ({kind}): no answer after {WAIT:.0f} s")
                print(findings[-1], flush=True)
                at += 1
                break
        process.kill()
        process.join()
    return counted, findings, longest


def main() -> int:
    """Read the options, pour, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="", help="a kind, such as onnx, coco or a.jpg")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "good").mkdir()
        good = good_files(Path(folder) / "good")
        kinds = [options.only] if options.only else list(good)
        if options.only and options.only not in good:
            parser.error(f"no kind '{options.only}'; there are {', '.join(good)}")
        numbers = range(options.first, options.first + options.count)
        counted, findings, longest = pour(numbers, good, kinds, Path(folder))
    for kind in kinds:
        print(f"{kind:16} answered {counted[kind, 'answered']:6} refused {counted[kind, 'refused']:6}")
    total = sum(counted.values())
    print(f"{total} files, {len(findings)} findings, the slowest took {longest:.1f} s")
    for finding in findings[:50]:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
