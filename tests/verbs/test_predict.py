"""`predict` for every kind of source: answers at the source's own size, saved and read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from sightline.cli import main
from sightline.datasets.moving import moving_shapes, write_clip
from sightline.errors import SightlineError, UsageError
from sightline.media.image import read_image
from sightline.media.labels import read_labels
from sightline.verbs.load import load
from sightline.verbs.predict import predict


@pytest.fixture(scope="module")
def network(tiny_run: Path):
    return load(tiny_run)


def test_a_folder_streams_answers_at_their_own_size_and_saves_them(network, shapes: Path, tmp_path: Path) -> None:
    odd = tmp_path / "photos" / "inner" / "odd.png"
    odd.parent.mkdir(parents=True)
    Image.open(shapes / "images" / "val" / "0006.png").resize((37, 61)).save(odd)
    Image.open(shapes / "images" / "val" / "0007.png").convert("L").save(odd.parent.parent / "grey.png")
    answers = list(predict(network, tmp_path / "photos", out=tmp_path / "out"))
    assert {a.name: tuple(a.labels.shape) for a in answers} == {"grey": (40, 48), "inner/odd": (61, 37)}
    for answer in answers:
        path = tmp_path / "out" / f"{answer.name}.png"
        assert Image.open(path).mode == "P"  # class ids with a palette, not colours
        assert np.array_equal(read_labels(path), answer.labels.numpy())
        assert answer.files["labels"] == str(path)
        drawn = read_image(answer.files["overlay"])
        assert drawn.shape[0] >= answer.labels.shape[0]
        assert answer.probabilities is not None
        torch.testing.assert_close(answer.probabilities.sum(0), torch.ones(answer.labels.shape))
        assert torch.equal(answer.probabilities.argmax(0).to(torch.uint8), answer.labels)


def test_arrays_tensors_and_pictures_are_the_same_picture(network, shapes: Path) -> None:
    path = shapes / "images" / "val" / "0006.png"
    image = read_image(path)
    kinds = [path, str(path), image, torch.from_numpy(image).permute(2, 0, 1), Image.open(path), [image], [path]]
    answers = [next(iter(predict(network, kind))) for kind in kinds]
    assert all(torch.equal(a.labels, answers[0].labels) for a in answers)
    as_float = next(iter(predict(network, image.astype(np.float32) / 255)))
    assert (as_float.labels == answers[0].labels).float().mean() > 0.999


def test_it_is_a_generator(network, shapes: Path, tmp_path: Path) -> None:
    """One picture at a time: a broken one further on does not keep the first from being answered."""
    good = read_image(shapes / "images" / "val" / "0006.png")
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    found = predict(network, [good, bad, good])
    assert next(found).name == "picture-000001"
    with pytest.raises(SightlineError, match=r"bad\.png"):
        next(found)
    skipped: dict[str, str] = {}
    names = [a.name for a in predict(network, [good, bad, good], on_error="skip", skipped=skipped)]
    assert names == ["picture-000001", "picture-000003"]
    assert list(skipped) == ["bad"]


def test_a_video_is_answered_frame_by_frame(network, tmp_path: Path) -> None:
    frames = list(moving_shapes(frames=3, size=(48, 64), seed=4))
    clip = write_clip(tmp_path / "clip.mp4", frames)
    answers = list(predict(network, clip, out=tmp_path / "out"))
    assert [a.name for a in answers] == ["frame-000001", "frame-000002", "frame-000003"]
    assert all(a.labels.shape == (48, 64) for a in answers)
    assert np.array_equal(read_labels(tmp_path / "out" / "frame-000002.png"), answers[1].labels.numpy())


def test_pages_of_a_tiff_are_pictures(network, shapes: Path, tmp_path: Path) -> None:
    pictures = [read_image(p) for p in sorted((shapes / "images" / "val").iterdir())]
    stack = tmp_path / "stack.tif"
    tifffile.imwrite(stack, np.stack(pictures), photometric="rgb")
    answers = list(predict(network, stack, out=tmp_path / "out"))
    assert [a.name for a in answers] == [f"stack-page-{k:04d}" for k in (1, 2, 3)]
    for answer, picture in zip(answers, pictures):
        assert torch.equal(answer.labels, next(iter(predict(network, picture))).labels)
        assert np.array_equal(read_labels(answer.files["labels"]), answer.labels.numpy())


def test_tiles_cover_a_picture_and_agree_with_the_whole_inside(network) -> None:
    image = next(moving_shapes(frames=1, size=(96, 130), seed=9)).image
    whole = next(iter(predict(network, image)))
    tiled = next(iter(predict(network, image, tile=64, overlap=0.5)))
    assert tiled.labels.shape == whole.labels.shape == (96, 130)
    assert (tiled.labels == whole.labels).float().mean() > 0.9
    assert tiled.probabilities is None


def test_the_command_names_every_file(tiny_run: Path, shapes: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    sources = sorted(map(str, (shapes / "images" / "val").iterdir()))
    assert main(["predict", str(tiny_run), *sources, "out=answers", "flips=h", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [a["name"] for a in told["answers"]] == ["0006", "0007", "0008"]
    for answer in told["answers"]:
        assert sum(answer["pixels"].values()) == answer["height"] * answer["width"] == 40 * 48
        assert Path(answer["labels"]).is_file()
        assert Path(answer["overlay"]).is_file()
    assert {p.name for p in (tmp_path / "answers").iterdir()} == {
        f"{n}{s}" for n in ("0006", "0007", "0008") for s in (".png", "-overlay.jpg")
    }
    assert main(["predict", str(tiny_run), str(shapes / "images" / "val" / "*7.png"), "out=again"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1 answers in again"


def test_nothing_is_read_before_the_call_is_right(network, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="on_error"):
        predict(network, tmp_path, on_error="stopp")
    with pytest.raises(UsageError, match="none, h, hv"):
        predict(network, tmp_path, flips="vh")
    with pytest.raises(UsageError, match="is not a run"):
        predict(tmp_path, tmp_path)
