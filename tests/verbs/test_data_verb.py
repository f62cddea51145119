"""`sightline data info | check | convert` as functions."""

import json

import numpy as np
from PIL import Image

from sightline.verbs import data


def folder(root, count=5):
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (root / name).mkdir(parents=True)
    for i in range(count):
        Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(root / f"images/q{i}x.png")
        Image.fromarray(np.resize(np.array([0, 1, 2, 255], np.uint8), (6, 8))).save(root / f"masks/q{i}x.png")
    return root


def test_info_prints_and_dumps(tmp_path):
    found = data.info(folder(tmp_path / "d"), classes=("sky", "road", "tree"))
    text = str(found)
    assert "pairs, 3 classes" in text and "road" in text and "25.00% of the pixels are never scored" in text
    content = json.loads(json.dumps(found.as_json()))
    assert content["splits"] == {"train": 4, "val": 1} and content["per_class"]["sky"]["pixels"] == 60
    assert content["size"]["median"] == [6, 8] and len(content["mean"]) == 3


def test_check_writes_its_list(tmp_path):
    root = folder(tmp_path / "d")
    (root / "images/q0x.png").write_bytes(b"")
    found = data.check(root, out=tmp_path / "faults.json")
    assert len(found.errors) == 1 and json.loads((tmp_path / "faults.json").read_text())["errors"] == 1


def test_convert_says_what_it_wrote(tmp_path):
    done = data.convert(folder(tmp_path / "d"), tmp_path / "out", to="voc")
    assert "5 pictures, 5 labelled, as voc" in str(done) and json.dumps(done.as_json())
    assert (tmp_path / "out/SegmentationClass/q0x.png").is_file()


def test_the_module_imports_nothing_heavy():
    import subprocess
    import sys

    code = "import sys; import sightline.verbs.data; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
