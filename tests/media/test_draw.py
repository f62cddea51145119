"""Drawing: exact colours where they can be computed by hand, and nothing written into what the caller gave."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sightline.errors import UsageError
from sightline.media.draw import (
    blend,
    boundary,
    caption,
    demonstration,
    grid,
    legend,
    main,
    outline,
    palette,
    text,
    to_display,
)

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (9, 12, 3), np.uint8)
LABELS = RNG.integers(0, 3, (9, 12)).astype(np.uint8)
LABELS[2:4, 2:5] = 255
COLOURS = [(255, 0, 0), (0, 255, 0), (10, 20, 30)]


def frozen(*arrays: np.ndarray) -> list[np.ndarray]:
    """Read-only copies: whoever writes into them raises."""
    copies = [a.copy() for a in arrays]
    for copy in copies:
        copy.flags.writeable = False
    return copies


def test_palette_is_distinct_stable_and_starts_the_same() -> None:
    many = palette(256)
    assert many.shape == (256, 3) and many.dtype == np.uint8
    assert len({tuple(c) for c in many.tolist()}) == 256
    for n in (0, 1, 8, 10, 11, 40):
        assert np.array_equal(palette(n), many[:n])
    apart = [np.abs(a.astype(int) - b).sum() for a, b in itertools.combinations(many[:24], 2)]
    assert min(apart) > 40
    with pytest.raises(UsageError, match="1001"):
        palette(1001)


def test_blend_is_the_weighted_mean_pixel_by_pixel() -> None:
    image, labels = frozen(IMAGE, LABELS)
    for alpha in (0.0, 0.3, 0.5, 1.0):
        painted = blend(image, labels, COLOURS, alpha)
        assert painted.dtype == np.uint8
        for y, x in itertools.product(range(9), range(12)):
            expected = image[y, x].astype(float)
            if labels[y, x] != 255:
                expected = (1 - alpha) * expected + alpha * np.array(COLOURS[labels[y, x]])
            assert np.abs(painted[y, x] - expected).max() <= 1.01
    assert np.array_equal(blend(image, labels, COLOURS, 0.0), image)
    known = labels != 255
    assert np.array_equal(blend(image, labels, COLOURS, 1.0)[known], np.array(COLOURS)[labels[known]])


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 6), w=st.integers(1, 6), seed=st.integers(0, 99))
def test_boundary_and_outline_against_a_loop(h: int, w: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (labels,) = frozen(rng.choice(np.array([0, 1, 255], np.uint8), (h, w)))
    (image,) = frozen(rng.integers(0, 256, (h, w, 3), np.uint8))
    expected = np.zeros((h, w), bool)
    painted = image.copy()
    for y, x in itertools.product(range(h), range(w)):
        around = [(y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)]
        expected[y, x] = any(labels[b, a] != labels[y, x] for b, a in around if 0 <= b < h and 0 <= a < w)
        if expected[y, x] and labels[y, x] != 255:
            painted[y, x] = COLOURS[labels[y, x]]
    assert np.array_equal(boundary(labels), expected)
    assert np.array_equal(outline(image, labels, COLOURS), painted)


def test_labels_without_a_colour_or_of_another_size_are_refused() -> None:
    with pytest.raises(UsageError, match="need as many colours, got 2"):
        blend(IMAGE, LABELS, COLOURS[:2])
    with pytest.raises(UsageError, match="sizes differ"):
        outline(IMAGE, LABELS[1:], COLOURS)
    with pytest.raises(UsageError, match="use to_display"):
        blend(IMAGE.astype(np.float32), LABELS, COLOURS)
    with pytest.raises(UsageError, match=r"alpha is 1\.5"):
        blend(IMAGE, LABELS, COLOURS, 1.5)


def test_text_is_anti_aliased_and_grows_with_size_and_lines() -> None:
    small, large, two = text("Ångström", 12), text("Ångström", 24), text("Ång\nström", 12)
    assert small.dtype == np.uint8 and small.shape[2] == 3
    assert large.shape[0] > 1.7 * small.shape[0] and large.shape[1] > 1.7 * small.shape[1]
    assert two.shape[0] == 2 * small.shape[0] and two.shape[1] < small.shape[1]
    assert len(np.unique(large)) > 20  # many greys between ink and paper
    assert (text("", 12) == 255).all()
    inverse = text("I", 20, colour=(255, 255, 255), background=(0, 0, 0))
    assert inverse[0, -1].tolist() == [0, 0, 0] and inverse.max() > 200


def test_caption_keeps_the_picture_and_its_width() -> None:
    (image,) = frozen(RNG.integers(0, 256, (20, 60, 3), np.uint8))
    for words in ("one", "a line that is far too long for sixty pixels", ""):
        with_words = caption(image, words)
        assert with_words.shape[1] == 60
        assert np.array_equal(with_words[-20:], image)
        assert (with_words[:-20, 0] == 255).all()
    assert (caption(image, "one")[:-20] < 255).any()


def test_legend_shows_every_colour_and_fills_the_width() -> None:
    names = ["sky", "building", "tree"]
    (colours,) = frozen(np.array([(200, 0, 0), (0, 200, 0), (0, 0, 200)], np.uint8))
    narrow, wide = legend(names, colours), legend(names, colours, width=400)
    assert wide.shape[1] == 400
    assert wide.shape[0] < narrow.shape[0]  # side by side rather than below each other
    for picture in (narrow, wide):
        for colour in colours:
            assert (picture == colour).all(-1).sum() > 100
    for width in (1, 10, 50):
        assert legend(names, colours, width=width).shape[1] == width
    with pytest.raises(UsageError, match="3 names and 2 colours"):
        legend(names, colours[:2])


def test_grid_places_pictures_of_several_sizes_in_their_cells() -> None:
    sizes = [(4, 6), (2, 2), (3, 5)]
    pictures = frozen(*[np.full((*s, 3), k, np.uint8) for k, s in enumerate(sizes)])
    board = grid(pictures, columns=2, gap=1)
    assert board.shape == (4 + 1 + 3, 6 + 1 + 2, 3)
    assert (board[:4, :6] == 0).all()
    assert (board[1:3, 7:9] == 1).all() and (board[0, 7:9] == 255).all()  # centred in the row's height
    assert (board[5:8, 0:5] == 2).all() and (board[5:8, 5:] == 255).all()
    assert np.array_equal(grid(pictures[:1], columns=5), pictures[0])
    with pytest.raises(UsageError, match="at least one picture"):
        grid([], columns=2)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.array([[0, 128, 255]], np.uint8), [0, 128, 255]),
        (np.array([[True, False]]), [255, 0]),
        (np.array([[0.0, 0.2, 1.0]]), [0, 51, 255]),
        (np.array([[np.nan, 0.2, np.inf]]), [0, 51, 255]),
        (np.array([[7, 7]], np.uint16), [0, 0]),
        (np.array([[np.nan]]), [0]),
    ],
)
def test_to_display_of_every_type(image: np.ndarray, expected: list[int]) -> None:
    shown = to_display(*frozen(image))
    assert shown.shape == (*image.shape, 3) and shown.dtype == np.uint8
    assert shown[0, :, 0].tolist() == expected
    assert (shown == shown[..., :1]).all()


def test_to_display_stretches_twelve_bits_and_negative_floats() -> None:
    for ramp in (np.arange(1000, 4000, 10, dtype=np.uint16), np.linspace(-900, 3000, 301, dtype=np.float32)):
        shown = to_display(np.tile(ramp, (5, 1)))[0, :, 0].astype(int)
        assert shown[0] == 0 and shown[-1] == 255
        assert (np.diff(shown) >= 0).all() and len(np.unique(shown)) > 200


def test_to_display_chooses_channels() -> None:
    many = RNG.integers(0, 256, (2, 3, 5), np.uint8)
    assert np.array_equal(to_display(many), many[..., :3])
    assert np.array_equal(to_display(many[..., :2]), many[..., [0, 0, 0]])
    same = to_display(IMAGE)
    assert np.array_equal(same, IMAGE) and not np.shares_memory(same, IMAGE)
    with pytest.raises(UsageError, match="height, width, channels"):
        to_display(np.zeros((2, 2, 2, 2)))


def test_the_demonstration_uses_everything_and_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = demonstration()
    for colour in palette(5):
        assert (board == colour).all(-1).any()
    monkeypatch.setattr("sys.argv", ["draw", str(tmp_path / "out.png")])
    main()
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), board)
