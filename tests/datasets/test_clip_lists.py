"""Lists of videos in the field's formats, on files made here: classes, splits, groups, and every missing file told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sightline.datasets.check import check
from sightline.datasets.open import look_into, open_dataset
from sightline.errors import SightlineError
from sightline.media.image import write_image
from sightline.media.video import VideoWriter


def video(path: Path, *, frames: int = 4, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    with VideoWriter(path, 25) as out:
        for _ in range(frames):
            out.write(rng.integers(0, 255, (32, 48, 3), np.uint8))
    return path


def test_kinetics(tmp_path: Path) -> None:
    rows = ["label,youtube_id,time_start,time_end,split"]
    for k, name in enumerate(("abc-123_xy", "defghijk", "lmnopqrs", "gone0001", "gone0002")):
        action = "massaging person's head" if k % 2 else "archery"
        rows.append(f"{action},{name},{k},{k + 10},train")
        if not name.startswith("gone"):
            video(tmp_path / "train" / f"{name}_{k:06d}_{k + 10:06d}.mp4", seed=k)
    (tmp_path / "kinetics_train.csv").write_text("\r\n".join(rows) + "\r\n")
    survey = look_into(tmp_path, kind="clips")
    assert survey.format == "kinetics" and survey.classes == ("archery", "massaging person's head")
    assert [r.labels for r in survey.records] == [0, 1, 0] and {r.split for r in survey.records} == {"train"}
    assert sum("gone000" in f.sentence for f in survey.faults) == 2
    with pytest.raises(SightlineError, match=r"gone0001.*1 more"):
        open_dataset(tmp_path, kind="clips")
    assert len([f for f in check(tmp_path).errors if "not there" in f.sentence]) == 2


def test_lists_of_paths_with_spaces_and_brackets(tmp_path: Path) -> None:
    names = ["a b/v [1](x).avi.mp4", "a b/v_2.mp4", "plain.mp4"]
    for k, name in enumerate(names):
        video(tmp_path / name, seed=k)
    (tmp_path / "train.csv").write_text(f"{names[0]} 1\r\n{names[1]} 0\r\n", newline="")
    (tmp_path / "val_list.txt").write_text(f"{names[2]} 4 1\n")  # path, frames, label
    (tmp_path / "classes.txt").write_text("quiet\nloud\n")
    data = open_dataset(tmp_path, kind="clips")
    assert data.format == "clip_list" and data.classes == ("quiet", "loud")
    assert {r.key: (r.labels, r.split) for r in data.records} == {
        names[0]: (1, "train"), names[1]: (0, "train"), names[2]: (1, "val"),
    }  # fmt: skip
    (tmp_path / "val_list.txt").write_text("../outside.mp4 1\nnothere.mp4 0\nplain.mp4 loud\n")
    told = [f.sentence for f in look_into(tmp_path, kind="clips").faults]
    assert len(told) == 2 and any("outside" in t for t in told) and any("nothere" in t for t in told)
    (tmp_path / "val_list.txt").write_text("plain.mp4 9\nplain.mp4 dog\n")
    told = [f.sentence for f in look_into(tmp_path, kind="clips", classes=["quiet", "loud"]).faults]
    assert len(told) == 2 and all("none of the 2 known" in t for t in told)
    (tmp_path / "val_list.txt").write_text("a b/v_2.mp4 0\n")
    assert any("listed in train and in val" in f.sentence for f in look_into(tmp_path, kind="clips").faults)


def test_something_something(tmp_path: Path) -> None:
    for k in (3, 14, 15):
        video(tmp_path / "videos" / f"{k}.mp4", seed=k)
    labels = {"Putting something on something": "1", "Approaching something with your camera": "0"}
    (tmp_path / "something-something-v2-labels.json").write_text(json.dumps(labels))
    entry = {"label": "putting a cup on a table", "template": "Putting [something] on [something]"}
    (tmp_path / "something-something-v2-train.json").write_text(
        json.dumps([{"id": "3", **entry}, {"id": "14", "template": "Approaching [something] with your camera"}])
    )
    (tmp_path / "something-something-v2-validation.json").write_text(json.dumps([{"id": "15", **entry}]))
    data = open_dataset(tmp_path, kind="clips")
    assert data.format == "something" and data.classes[0].startswith("Approaching")
    assert {r.image.path.stem: (r.labels, r.split) for r in data.records} == {
        "3": (1, "train"), "14": (0, "train"), "15": (1, "val"),
    }  # fmt: skip


def test_sports1m(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("boomerang\nrowing\ncurling\n")
    url = "http://www.youtube.com/watch?v="
    (tmp_path / "train_partition.txt").write_text(f"{url}aaaaaaaaaaa 2,0\n{url}bbbbbbbbbbb 0\n")
    (tmp_path / "test_partition.txt").write_text(f"{url}ccccccccccc 1\n")
    for name in "abc":
        video(tmp_path / "videos" / f"{name * 11}.mp4", seed=ord(name))
    data = open_dataset(tmp_path, kind="clips", val=0)
    assert data.format == "sports1m" and data.classes == ("boomerang", "rowing", "curling")
    assert {r.image.path.stem[0]: (r.labels, r.split) for r in data.records} == {
        "a": (2, "train"), "b": (0, "train"), "c": (1, "test"),
    }  # fmt: skip
    assert any("1 videos have more than one label" in note for note in data.notes)
    (tmp_path / "train_partition.txt").write_text(f"{url}aaaaaaaaaaa 3\n")
    with pytest.raises(SightlineError, match=r"train_partition.txt, line 1.*from 0 to 2"):
        open_dataset(tmp_path, kind="clips")


def test_weizmann(tmp_path: Path) -> None:
    for k, name in enumerate(("daria_walk", "lena_run1", "lena_run2", "ido_wave2", "ido_walk")):
        video(tmp_path / f"{name}.mp4", seed=k)
    data = open_dataset(tmp_path, kind="clips", val=0)
    assert data.format == "weizmann" and data.classes == ("run", "walk", "wave2")
    assert {r.image.path.stem: (r.labels, r.group) for r in data.records}["lena_run2"] == (0, "lena")


def test_folders_of_frames_by_class(tmp_path: Path) -> None:
    for name in ("jump", "run"):
        for k in range(3):
            for t in range(4):
                write_image(
                    tmp_path / name / f"v{k}" / f"img_{t + 1:05d}.png",
                    np.full((32, 40, 3), 40 * t + k + 9 * len(name), np.uint8),
                )
    data = open_dataset(tmp_path, kind="clips")
    assert data.format == "frames_by_class" and len(data.records) == 6 and all(r.video for r in data.records)
    assert check(tmp_path, kind="clips").errors == ()
    (tmp_path / "run" / "v1" / "img_00003.png").unlink()
    assert "no frame 3" in check(tmp_path, kind="clips").errors[0].sentence


def test_a_list_beside_the_classes_names_what_is_missing(tmp_path: Path) -> None:
    for name in ("Biking", "Diving"):
        for k in range(2):
            video(tmp_path / name / f"v_{name}_g0{k}_c01.mp4", seed=k)
    (tmp_path / "trainlist01.txt").write_text(
        "".join(f"{n}/v_{n}_g0{k}_c01.avi 1\r\n" for n in ("Biking", "Diving") for k in (0, 7))
    )
    (tmp_path / "testlist01.txt").write_text("".join(f"{n}/v_{n}_g01_c01.avi\r\n" for n in ("Biking", "Diving")))
    told = [f.sentence for f in look_into(tmp_path, kind="clips").faults]
    assert len(told) == 2 and all("g07" in t for t in told)
