import numpy as np
import pytest

from sightline.datasets.moving import CLASSES, moving_shapes, write_clip, write_pictures
from sightline.datasets.open import open_dataset
from sightline.datasets.read import read_labels_of, read_picture
from sightline.errors import UsageError
from sightline.media.video import read_video


def test_a_seed_gives_the_same_clip_and_another_seed_another():
    first, again, other = (list(moving_shapes(frames=3, seed=s)) for s in (4, 4, 5))
    for a, b in zip(first, again):
        assert (a.image == b.image).all() and (a.instances == b.instances).all()
    assert (first[0].labels != other[0].labels).any()


def test_the_first_frames_do_not_depend_on_the_length():
    short, long = list(moving_shapes(frames=2, seed=1)), list(moving_shapes(frames=9, seed=1))
    assert all((a.image == b.image).all() for a, b in zip(short, long))


@pytest.mark.parametrize("seed", range(5))
def test_labels_ids_classes_and_boxes_tell_one_story(seed: int):
    for frame in moving_shapes(frames=12, size=(61, 47), shapes=6, seed=seed):
        assert frame.image.shape == (61, 47, 3) and frame.image.dtype == np.uint8
        assert set(np.unique(frame.instances)) - {0} == set(frame.ids)
        assert ((frame.labels == 0) == (frame.instances == 0)).all()
        for number, kind, box, centre in zip(frame.ids, frame.classes, frame.boxes, frame.centres):
            pixels = [(x, y) for y, x in np.argwhere(frame.instances == number)]
            assert {frame.labels[y, x] for x, y in pixels} == {kind} and kind in range(1, len(CLASSES))
            xs, ys = zip(*pixels)
            assert box.tolist() == [min(xs), min(ys), max(xs) + 1, max(ys) + 1]
            assert 0 <= centre[0] <= 47 and 0 <= centre[1] <= 61


def test_shapes_stay_inside_and_move_steadily():
    frames = list(moving_shapes(frames=200, size=(40, 60), shapes=1, seed=2))
    assert all(len(f.ids) == 1 for f in frames), "a shape that is alone is always seen"
    steps = np.diff([f.centres[0] for f in frames], axis=0)
    lengths = np.hypot(*steps.T)
    assert lengths.max() < 0.06 * 40 and np.median(lengths) > 0
    np.testing.assert_allclose(lengths.max(), np.median(lengths), rtol=1e-3)  # shorter only where it bounces


def test_areas_are_those_of_the_figures():
    """Alone and large, a shape has the area of geometry: pi r^2, 2 r^2, 3 sqrt(3) / 4 r^2."""
    share = {"disc": np.pi, "square": 2.0, "triangle": 3 * np.sqrt(3) / 4}
    met = set()
    for seed in range(12):
        frame = next(moving_shapes(frames=1, size=(400, 400), shapes=1, seed=seed))
        name, area = CLASSES[frame.classes[0]], (frame.instances == 1).sum()
        left, top, right, bottom = frame.boxes[0]
        reach = max(
            np.hypot(x - frame.centres[0][0], y - frame.centres[0][1]) for y, x in np.argwhere(frame.instances == 1)
        )
        assert area == pytest.approx(share[name] * reach**2, rel=0.06)
        assert area <= (right - left) * (bottom - top)
        met.add(name)
    assert met == set(share)


def test_a_clip_is_written_and_read_back(tmp_path):
    frames = list(moving_shapes(frames=5, size=(48, 64)))
    path = write_clip(tmp_path / "shapes.mp4", frames)
    back = list(read_video(path))
    assert len(back) == 5
    for a, b in zip(frames, back):
        assert np.abs(a.image.astype(int) - b.image).mean() < 10


def test_pictures_open_as_a_segmentation_data_set(tmp_path):
    folder = write_pictures(tmp_path / "shapes", train=3, val=2, size=(32, 40))
    data = open_dataset(folder)
    assert data.classes == CLASSES
    assert [len(data.split(s).records) for s in ("train", "val")] == [3, 2]
    record = data.split("val").records[0]
    truth = next(moving_shapes(frames=1, size=(32, 40), seed=3))
    assert (read_labels_of(record, len(CLASSES)) == truth.labels).all()
    assert (read_picture(record) == truth.image).all()
    with pytest.raises(UsageError, match="not empty"):
        write_pictures(folder)


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"shapes": 0}, {"size": (8, 64)}, {"seed": -1}])
def test_impossible_clips_are_refused_at_once(wrong):
    with pytest.raises(UsageError, match="a clip needs"):
        moving_shapes(**wrong)
