"""Answers are written so that they read back, drawn on pictures of any kind, and show themselves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sightline.errors import UsageError
from sightline.media.draw import palette
from sightline.media.labels import read_labels
from sightline.segmentation.answer import LabelMap, named
from sightline.segmentation.contract import IGNORE, Scores, decode, labels_of, probabilities
from sightline.segmentation.draw import colours_for, overlay, triptych

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def _labels(height: int = 12, width: int = 20, classes: int = 3) -> Tensor:
    """Upright stripes of the classes."""
    return (torch.arange(width) * classes // width).byte().expand(height, width).contiguous()


def _image(height: int = 12, width: int = 20) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


# Files -------------------------------------------------------------------------------------------------------------


def test_saved_labels_read_back_equal_with_their_colours(tmp_path: Path) -> None:
    found = LabelMap(_labels(), ("sky", "road", "tree"), colours=(RED, GREEN, BLUE), name="street", image=_image())
    written = found.save(tmp_path / "new" / "folder")
    assert sorted(written) == ["labels", "overlay"]
    assert (read_labels(written["labels"]) == found.labels.numpy()).all()
    with Image.open(written["labels"]) as file:
        assert file.mode == "P"
        assert (np.asarray(file.convert("RGB"))[0, [0, 10, 19]] == [RED, GREEN, BLUE]).all()
    with Image.open(written["overlay"]) as file:
        assert file.format == "JPEG" and file.size == found.draw().shape[1::-1]
    assert {p.name for p in (tmp_path / "new" / "folder").iterdir()} == {"street.png", "street-overlay.jpg"}


def test_an_answer_without_a_picture_writes_its_labels_alone(tmp_path: Path) -> None:
    assert list(LabelMap(_labels(), ("a", "b", "c")).save(tmp_path)) == ["labels"]
    assert [p.name for p in tmp_path.iterdir()] == ["picture.png"]


def test_names_of_pictures_in_folders_keep_their_folders(tmp_path: Path) -> None:
    written = LabelMap(_labels(), name="day 1/left.cam").save(tmp_path)
    assert Path(written["labels"]) == tmp_path / "day 1" / "left.cam.png"
    assert (read_labels(written["labels"]) == _labels().numpy()).all()


def test_255_classes_are_written_and_more_are_refused(tmp_path: Path) -> None:
    labels = torch.arange(255).byte().reshape(15, 17)
    names = tuple(f"class {k}" for k in range(255))
    found = LabelMap(labels, names, image=_image(15, 17))
    written = found.save(tmp_path)
    assert (read_labels(written["labels"]) == labels.numpy()).all()
    with Image.open(written["labels"]) as file:
        assert len(np.unique(np.asarray(file.convert("RGB")).reshape(-1, 3), axis=0)) == 255
    with pytest.raises(UsageError, match="300 classes; a label map holds at most 255"):
        labels_of(torch.rand(1, 300, 2, 2))


def test_what_json_says() -> None:
    found = LabelMap(_labels(10, 20, 2), ("a", "b", "c"), name="x")
    assert json.loads(json.dumps(found.to_dict())) == {
        "name": "x",
        "height": 10,
        "width": 20,
        "pixels": {"a": 100, "b": 100, "c": 0},
    }
    assert LabelMap(_labels(10, 20, 2)).pixels == {"0": 100, "1": 100}
    several = torch.zeros(2, 4, 4, dtype=torch.uint8)
    several[1, :2] = 1
    assert LabelMap(several, ("a", "b"), multilabel=True).pixels == {"a": 0, "b": 8}


def test_a_notebook_gets_the_picture_itself() -> None:
    found = LabelMap(_labels(), ("a", "b", "c"), image=_image())
    with Image.open(io.BytesIO(found._repr_png_())) as file:
        assert file.format == "PNG"
        assert (np.asarray(file) == found.draw()).all()


# Names and colours -------------------------------------------------------------------------------------------------


def test_names_of_values() -> None:
    assert named((), 3) == ("0", "1", "2")
    assert named(("cell",), 1) == ("background", "cell")
    assert named(("a", "b"), 2) == ("a", "b")


def test_colours_of_classes() -> None:
    assert colours_for(("a", "b"), (RED, GREEN)).tolist() == [list(RED), list(GREEN)]
    assert colours_for(("background", "cell"), (RED,)).tolist() == [[0, 0, 0], list(RED)]  # a binary set's own
    assert (colours_for(("a", "b", "c")) == palette(3)).all()
    assert (colours_for(("background", "a", "b")) == np.concatenate([np.zeros((1, 3)), palette(2)])).all()
    assert len(np.unique(colours_for([str(k) for k in range(255)]), axis=0)) == 255
    assert colours_for((), ()).shape == (1, 3)


# Pictures ----------------------------------------------------------------------------------------------------------


def test_an_overlay_tints_each_class_and_leaves_the_background() -> None:
    labels = np.zeros((20, 200), np.uint8)
    labels[:, 100:] = 1
    picture = np.full((20, 200, 3), 100, np.uint8)
    painted = overlay(picture, labels, ("background", "cell"), (RED,), alpha=0.5)
    assert painted.shape[1] == 200 and painted.shape[0] > 20  # a legend below
    assert (painted[:20, :99] == 100).all()
    assert np.abs(painted[:20, 102:].astype(int) - [178, 50, 50]).max() <= 1
    assert (painted[:20, 100] == RED).all()  # the outline
    assert (picture == 100).all()  # not written into

    every = overlay(picture, labels, ("sky", "cell"), (GREEN, RED), alpha=1.0)
    assert (every[5, 50] == GREEN).all() and (every[5, 150] == RED).all()


def test_the_legend_names_the_classes_that_occur() -> None:
    names, colours = ("a", "b", "c"), (RED, GREEN, BLUE)
    two = overlay(_image(8, 300), _labels(8, 300, 2).numpy(), names, colours)
    shown = [bool((two[8:] == colour).all(-1).any()) for colour in colours]
    assert shown == [True, True, False]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 700)])
def test_pictures_of_odd_sizes_are_drawn(size: tuple[int, int]) -> None:
    painted = overlay(_image(*size), _labels(*size).numpy(), ("a", "b", "c"))
    assert painted.dtype == np.uint8 and painted.shape[0] > size[0] and painted.shape[1] >= max(size[1], 100)
    assert triptych(_image(*size), _labels(*size).numpy(), _labels(*size).numpy(), ("a", "b", "c")).ndim == 3


@pytest.mark.parametrize(
    "picture",
    [
        np.linspace(0, 4000, 240).reshape(12, 20, 1).astype(np.uint16),
        np.linspace(-1000, 3000, 240).reshape(12, 20, 1).astype(np.float32),
        np.linspace(0, 1, 240 * 7).reshape(12, 20, 7).astype(np.float32),
        np.zeros((12, 20), np.uint8),
    ],
    ids=["12 bits", "CT", "seven bands", "grey"],
)
def test_pictures_of_any_depth_are_drawn(picture: np.ndarray) -> None:
    painted = LabelMap(_labels(), ("a", "b", "c"), image=picture).draw()
    assert painted.dtype == np.uint8 and painted.shape[2] == 3


def test_without_a_picture_the_colours_stand_alone() -> None:
    painted = LabelMap(_labels(), ("a", "b", "c"), colours=(RED, GREEN, BLUE)).draw()
    assert (painted[:12, [0, 10, 19]] == [RED, GREEN, BLUE]).all()
    assert LabelMap(_labels()).draw().shape[2] == 3  # no names either


def test_labels_that_are_never_scored_stay_unpainted() -> None:
    labels = np.full((10, 10), IGNORE, np.uint8)
    assert (overlay(_image(10, 10), labels, ("a", "b")) == 100).all()


def test_several_labels_a_pixel_show_the_highest() -> None:
    labels = np.zeros((2, 10, 10), np.uint8)
    labels[0, :, :8] = 1
    labels[1, :, :4] = 1
    painted = overlay(_image(10, 10), labels, ("a", "b"), (RED, GREEN), alpha=1.0)
    assert (painted[5, 1] == GREEN).all() and (painted[5, 6] == RED).all() and (painted[5, 9] == 100).all()


def test_the_three_panels_show_where_the_answer_is_wrong() -> None:
    truth, answer = np.zeros((20, 30), np.uint8), np.zeros((20, 30), np.uint8)
    truth[5:15, 5:15] = 1
    answer[5:15, 5:20] = 1  # five columns too many
    truth[:, 28:] = IGNORE
    answer[:, 28:] = 1  # never scored: not wrong
    board = triptych(_image(20, 30), truth, answer, ("background", "cell"), (RED,))
    assert board.shape == (20, 3 * 30 + 12, 3)
    picture, true, said = board[:, :30], board[:, 36:66], board[:, 72:]
    assert (picture == 100).all()
    assert (true[10, 10] == true[8, 8]).all() and true[10, 10, 0] > 180 and (true[10, 17] == 100).all()
    white = (said == 255).all(-1)
    wrong = np.zeros((20, 30), bool)
    wrong[5:15, 15:20] = True
    inner = np.zeros((20, 30), bool)
    inner[6:14, 16:19] = True
    assert (white == (wrong & ~inner)).all()  # the outline of what is wrong, and nothing else
    perfect = triptych(_image(20, 30), truth, np.where(truth == IGNORE, 1, truth), ("background", "cell"), (RED,))
    assert not (perfect[:, 72:] == 255).all(-1).any()


# Decoding ----------------------------------------------------------------------------------------------------------


def test_decode_gives_one_answer_a_picture() -> None:
    logits = torch.randn(2, 3, 4, 5)
    found = decode(Scores(logits), classes=("a", "b", "c"))
    assert len(found) == 2
    for i, one in enumerate(found):
        assert torch.equal(one.labels, logits[i].argmax(0).byte()) and one.classes == ("a", "b", "c")
        assert one.probabilities is not None
        assert torch.allclose(one.probabilities, logits[i].softmax(0))


def test_decode_of_one_logit_and_of_several_labels_a_pixel() -> None:
    logits = torch.tensor([[[[-2.0, 0.5]]]])
    (found,) = decode(Scores(logits), classes=("cell",))
    assert found.labels.tolist() == [[0, 1]] and found.classes == ("background", "cell")
    assert torch.allclose(probabilities(logits), logits.sigmoid())
    assert torch.allclose(probabilities(torch.ones(1, 3, 1, 1), multilabel=True), torch.ones(1, 3, 1, 1).sigmoid())
    assert labels_of(torch.tensor([[[[0.2, 0.7]]]]), threshold=0.1).tolist() == [[[1, 1]]]
