"""Pixels and labels stay together through every augmentation, and a sample is a function of (seed, epoch, index)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from sightline.contracts import Preprocess
from sightline.datasets.records import DataSet, MaskFile, Picture, PixelRecord
from sightline.errors import SightlineError, UsageError
from sightline.media.prepare import prepare
from sightline.segmentation.contract import IGNORE
from sightline.segmentation.targets import Augment, Sample, Samples, collate

PAINT = torch.tensor([(250, 10, 10), (10, 250, 10), (10, 10, 250), (240, 240, 20)], dtype=torch.uint8)
"""The colours of classes 0, 1, 2 and of ignored pixels: no mixture of two of them comes near a third."""


def _rng(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def _painted(
    height: int, width: int, dtype: torch.dtype = torch.uint8, *, ignored: bool = False
) -> tuple[Tensor, Tensor]:
    """Blocks of labels `(H, W)`, and a picture `(3, H, W)` that shows each label in its colour."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ids = (y // 24 + 2 * (x // 27)) % (4 if ignored else 3)
    image = PAINT[ids].permute(2, 0, 1).contiguous()
    labels = torch.where(ids == 3, IGNORE, ids).byte()
    return (image if dtype == torch.uint8 else image.float() / 255), labels


def _far_from_borders(labels: Tensor) -> Tensor:
    """Where a 7 x 7 neighbourhood, all of it inside the picture, holds one label only."""
    x = labels[None].float()
    high, low = (F.max_pool2d(F.pad(v, [3] * 4, value=1e4), 7, 1)[0] for v in (x, -x))
    return high == -low


MOVES: dict[str, dict[str, Any]] = {
    "nothing": {"flip": False},
    "crop": {"crop": (40, 32)},
    "crop beyond the picture": {"crop": (130, 150)},
    "enlarged": {"crop": (64, 64), "scale": (1.7, 2.3)},
    "shrunk": {"crop": (48, 40), "scale": (0.5, 0.8)},
    "shrunk beyond": {"crop": (96, 96), "scale": (0.4, 0.5)},
    "rotated": {"crop": (48, 64), "rotate": 40.0},
    "rotated whole": {"rotate": 180.0},
    "mirrored": {"flip": True, "flip_vertical": True},
    "turned": {"crop": (48, 48), "turn": True},
    "elastic": {"elastic": 3.0, "flip": False},
    "all": {"crop": (64, 64), "scale": (0.7, 1.5), "rotate": 25.0, "flip_vertical": True, "turn": True, "elastic": 2.0},
}


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
@pytest.mark.parametrize("move", MOVES)
def test_colours_and_labels_move_together(move: str, dtype: torch.dtype) -> None:
    augment = Augment(**MOVES[move])
    for seed in range(4):
        image, labels = _painted(80, 90, dtype, ignored=seed % 2 == 0)
        moved, ids = augment(image, labels, _rng(seed))
        assert ids.shape == (augment.crop or (80, 90)) and moved.shape == (3, *ids.shape)
        assert moved.dtype == dtype and ids.dtype == torch.uint8
        sure = _far_from_borders(ids)
        assert sure.float().mean() > 0.05
        expected = PAINT[torch.where(ids == IGNORE, 3, ids).long()].permute(2, 0, 1).float()
        shown = moved.float() if dtype == torch.uint8 else 255 * moved
        assert (shown - expected).abs().amax(0)[sure].max() <= 1.5


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
    scale=st.tuples(st.floats(0.3, 1), st.floats(1, 3)),
    rotate=st.sampled_from([0.0, 15.0, 180.0]),
    elastic=st.sampled_from([0.0, 4.0]),
    seed=st.integers(0, 1000),
)
def test_any_size_gives_the_crop_and_invents_nothing(
    size: tuple[int, int],
    crop: tuple[int, int] | None,
    scale: tuple[float, float],
    rotate: float,
    elastic: float,
    seed: int,
) -> None:
    image, labels = _painted(*size)
    augment = Augment(crop=crop, scale=scale, rotate=rotate, elastic=elastic, turn=True)
    moved, ids = augment(image, labels, _rng(seed))
    assert ids.shape == (crop or size)
    assert moved.shape == (3, *ids.shape)
    assert set(ids.unique().tolist()) <= set(labels.unique().tolist())  # no fill, no mixture
    assert moved.amin() >= 9  # the darkest paint is 10: no black corner came in


def test_a_picture_of_one_pixel() -> None:
    image, labels = torch.full((3, 1, 1), 77, dtype=torch.uint8), torch.ones(1, 1, dtype=torch.uint8)
    moved, ids = Augment(crop=(8, 8), scale=(0.5, 2), rotate=30, elastic=2)(image, labels, _rng(0))
    assert (moved == 77).all() and (ids == 1).all()


def test_what_the_network_was_given_is_not_written_into() -> None:
    image, labels = _painted(40, 40)
    before = image.clone(), labels.clone()
    augment = Augment(scale=(0.7, 1.5), rotate=10, elastic=2, colour=0.5)
    for seed in range(4):
        moved, ids = augment(image, labels, _rng(seed))
        moved.zero_()
        ids.zero_()
    moved, ids = Augment(flip=False)(image, labels, _rng(0))
    assert torch.equal(image, before[0]) and torch.equal(labels, before[1])


# What the geometry is, read off a picture of its own coordinates ---------------------------------------------------


def _coordinates(height: int, width: int) -> tuple[Tensor, Tensor]:
    y, x = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    return torch.stack([x, y]), torch.zeros(height, width, dtype=torch.uint8)


def test_scale_is_drawn_evenly_from_its_logarithm() -> None:
    image, labels = _coordinates(100, 100)
    factors = []
    for seed in range(60):
        (x, _), _ = Augment(crop=(20, 20), scale=(0.5, 2.0), flip=False)(image, labels, _rng(seed))
        step = float((x[10, 15] - x[10, 5]) / 10 * 100)  # source pixels a pixel
        factors.append(1 / step if step > 0 else float("nan"))
    assert min(factors) > 0.45 and max(factors) < 2.2  # windows are whole pixels
    assert 0.35 < np.mean(np.array(factors) > 1) < 0.65


def test_rotation_stays_within_its_limit_and_goes_both_ways() -> None:
    image, labels = _coordinates(100, 100)
    angles = []
    for seed in range(30):
        (x, y), _ = Augment(crop=(20, 20), rotate=20, flip=False)(image, labels, _rng(seed))
        angles.append(float(torch.rad2deg(torch.atan2(y[10, 15] - y[10, 5], x[10, 15] - x[10, 5]))))
    assert max(map(abs, angles)) < 20.5
    assert max(angles) > 8 and min(angles) < -8


def test_elastic_moves_by_about_its_standard_deviation() -> None:
    image, labels = _coordinates(120, 120)
    shifts = []
    for seed in range(20):
        moved, _ = Augment(elastic=6.0, flip=False)(image, labels, _rng(seed))
        shifts.append(120 * (moved - image)[:, 40:80, 40:80])
    moved_by = torch.stack(shifts)
    assert 3 < float(moved_by.std()) < 8
    assert float((moved_by[..., 1:] - moved_by[..., :-1]).abs().max()) < 2  # smooth


def test_mirroring_happens_about_half_the_time() -> None:
    image, labels = _coordinates(4, 4)
    augment = Augment(flip=True, flip_vertical=True)
    seen = [augment(image, labels, _rng(seed))[0] for seed in range(200)]
    for axis in (0, 1):
        turned = [bool(x[axis, -1, 0] < x[axis, -1, -1]) if axis == 0 else bool(x[1, 0, 0] < x[1, -1, 0]) for x in seen]
        assert 0.4 < np.mean(turned) < 0.6


def test_crops_reach_every_pixel() -> None:
    image, labels = _coordinates(12, 12)
    corners = set()
    for seed in range(300):
        x, y = Augment(crop=(8, 8), flip=False)(image, labels, _rng(seed))[0][:, 0, 0].tolist()
        corners.add((round(12 * y), round(12 * x)))
    assert corners == {(y, x) for y in range(5) for x in range(5)}


# Colour ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 7])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=["uint8", "float32"])
def test_colour_changes_pixels_of_any_kind_and_nothing_else(dtype: torch.dtype, channels: int) -> None:
    image = torch.randint(60, 190, (channels, 16, 16), dtype=torch.uint8)
    image = image if dtype == torch.uint8 else image.float() / 255
    labels = torch.randint(3, (16, 16), dtype=torch.uint8)
    means = []
    for seed in range(20):
        moved, ids = Augment(flip=False, colour=0.3)(image, labels, _rng(seed))
        assert torch.equal(ids, labels)
        assert moved.dtype == dtype and moved.shape == image.shape
        means.append(float(moved.float().mean() / image.float().mean()))
    assert np.exp(-0.32) < min(means) < 0.9 and 1.1 < max(means) < np.exp(0.32)
    assert torch.equal(Augment(flip=False)(image, labels, _rng(0))[0], image)


def test_grey_stays_grey_and_contrast_keeps_the_order() -> None:
    grey = torch.linspace(80, 160, 64).byte().reshape(1, 8, 8).expand(3, 8, 8)
    for seed in range(10):
        moved, _ = Augment(flip=False, colour=0.5)(grey, torch.zeros(8, 8).byte(), _rng(seed))
        assert (moved == moved[:1]).all()
        assert (moved[0].flatten().int().diff() >= 0).all()


def test_scores_around_zero_are_not_cut_off() -> None:
    """z-scores run from about -3 to 3; torchvision's colour functions would clip them to 0..1."""
    image = torch.linspace(-3, 3, 300).reshape(3, 10, 10)
    for seed in range(10):
        moved, _ = Augment(flip=False, colour=0.2)(image, torch.zeros(10, 10).byte(), _rng(seed))
        assert (moved < -0.5).float().mean() > 0.25 and (moved > 1.2).float().mean() > 0.1


# Wrong values ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crop": (0, 8)}, "augment.crop (0, 8) must be a height and a width in pixels, such as 256,256"),
        ({"crop": 256}, "augment.crop 256 must be"),
        ({"crop": (2.5, 8)}, "augment.crop (2.5, 8) must be"),
        ({"scale": 0.8}, "augment.scale 0.8 must be a lowest and a highest factor, such as 0.7,1.5"),
        ({"scale": (2.0, 1.0)}, "augment.scale (2.0, 1.0) must be"),
        ({"scale": (0, 1)}, "augment.scale (0, 1) must be"),
        ({"rotate": -5}, "augment.rotate -5 must be a number from 0 to 180"),
        ({"rotate": "10"}, "augment.rotate 10 must be a number"),
        ({"colour": 1.5}, "augment.colour 1.5 must be a number from 0 to 1"),
        ({"elastic": float("nan")}, "augment.elastic nan must be a number from 0 to inf"),
        ({"flip": 0.5}, "augment.flip 0.5 must be true or false"),
    ],
)
def test_wrong_values_get_one_sentence(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        Augment(**values)
    assert str(caught.value).startswith(words)


# Samples of a data set ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """Four PNGs and their masks."""
    folder = tmp_path_factory.mktemp("pairs")
    records = []
    for i, size in enumerate([(40, 50), (40, 50), (30, 60), (24, 24)]):
        image, labels = _painted(*size, ignored=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i}.png")
        Image.fromarray(labels.numpy()).save(folder / f"{i}-mask.png")
        records.append(PixelRecord(f"{i}.png", Picture(folder / f"{i}.png"), MaskFile(folder / f"{i}-mask.png")))
    return DataSet(folder, "pairs", tuple(records), ("a", "b", "c"))


AUGMENT = Augment(crop=(32, 32), scale=(0.7, 1.4), rotate=20, colour=0.2, elastic=1.0)


def _samples(data: DataSet, **options: Any) -> Samples:
    return Samples(data, **({"preprocess": Preprocess(), "seed": 3, "augment": AUGMENT} | options))


def _bits(sample: Sample) -> bytes:
    return sample.image.numpy().tobytes() + sample.labels.numpy().tobytes()


def test_a_sample_is_a_function_of_seed_epoch_and_index(data: DataSet) -> None:
    tickets = [(epoch, index) for epoch in range(3) for index in range(4)]
    first = _samples(data)
    bits = {ticket: _bits(first[ticket]) for ticket in tickets}
    assert len(set(bits.values())) == len(tickets)  # every epoch sees something new

    torch.manual_seed(99)  # whatever a worker's global state is, and in whatever order it works
    again = _samples(data)
    state = torch.get_rng_state(), np.random.get_state()[1].tobytes()  # pyright: ignore[reportAttributeAccessIssue]
    assert {ticket: _bits(again[ticket]) for ticket in reversed(tickets)} == bits
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.random.get_state()[1].tobytes() == state[1]  # pyright: ignore[reportAttributeAccessIssue]

    other = _samples(data, seed=4)
    assert not any(_bits(other[ticket]) == bits[ticket] for ticket in tickets)


def test_without_augmentation_every_epoch_sees_the_picture_itself(data: DataSet) -> None:
    plain = _samples(data, augment=None)
    image, labels = _painted(30, 60, ignored=True)
    for epoch in (0, 7):
        sample = plain[epoch, 2]
        assert sample.key == "2.png"
        assert torch.equal(sample.image, image) and torch.equal(sample.labels, labels)
    assert len(plain) == 4


def test_kept_samples_are_the_same_and_are_read_once(data: DataSet, tmp_path: Path) -> None:
    moved = []
    for record in data.records:
        image, mask = tmp_path / record.image.path.name, tmp_path / record.labels.path.name
        image.write_bytes(record.image.path.read_bytes())
        mask.write_bytes(record.labels.path.read_bytes())
        moved.append(replace(record, image=Picture(image), labels=MaskFile(mask)))
    kept = _samples(replace(data, records=tuple(moved)), keep=True)
    first = [_bits(kept[0, i]) for i in range(4)]
    for path in tmp_path.iterdir():
        path.unlink()
    assert [_bits(kept[0, i]) for i in range(4)] == first
    assert first == [_bits(_samples(data)[0, i]) for i in range(4)]


@pytest.mark.parametrize("resize", ["none", "short(20)", "long(32)", "exact(16, 24)"])
@pytest.mark.parametrize("channels", [1, 3])
def test_training_sees_what_predict_will_see(data: DataSet, resize: str, channels: int) -> None:
    preprocess = Preprocess(resize=resize, channels=channels)
    sample = _samples(data, preprocess=preprocess, augment=None)[0, 2]
    picture = np.asarray(Image.open(data.records[2].image.path))
    assert torch.equal(sample.image, prepare(picture, preprocess).pixels)
    assert sample.labels.shape == sample.image.shape[1:]
    assert set(sample.labels.unique().tolist()) <= {0, 1, 2, IGNORE}


def test_deep_pictures_become_floats(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 20 * 30).astype(np.uint16).reshape(20, 30)
    Image.fromarray(values).save(tmp_path / "deep.png")
    Image.fromarray(np.zeros((20, 30), np.uint8)).save(tmp_path / "mask.png")
    record = PixelRecord("deep.png", Picture(tmp_path / "deep.png"), MaskFile(tmp_path / "mask.png"))
    samples = Samples(
        DataSet(tmp_path, "pairs", (record,), ("a", "b")),
        preprocess=Preprocess(intensity="window(0, 4095)"),
        seed=0,
        augment=Augment(flip=False),
    )
    image = samples[0, 0].image
    assert image.dtype == torch.float32 and image.shape == (3, 20, 30)
    assert image.numpy() == pytest.approx(np.broadcast_to(values / 4095, (3, 20, 30)), abs=1e-6)


def test_faults_name_the_file_and_the_seed(data: DataSet, tmp_path: Path) -> None:
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.full((40, 50), 7, np.uint8)).save(tmp_path / "strange.png")
    for name, words in (("small.png", "9 x 9"), ("strange.png", "value 7"), ("absent.png", "absent.png")):
        record = replace(data.records[0], labels=MaskFile(tmp_path / name))
        with pytest.raises(SightlineError, match=words) as caught:
            _samples(replace(data, records=(record,)))[0, 0]
        assert name in str(caught.value)
    with pytest.raises(UsageError, match="seed -1 must be"):
        _samples(data, seed=-1)


# Batches -----------------------------------------------------------------------------------------------------------


def _sample(height: int, width: int, key: str = "x", dtype: torch.dtype = torch.uint8) -> Sample:
    image, labels = _painted(height, width, dtype)
    return Sample(key, image, labels)


def test_samples_of_one_size_are_stacked() -> None:
    one, two = _sample(8, 9, "one"), _sample(8, 9, "two")
    batch = collate([one, two])
    assert torch.equal(batch.images, torch.stack([one.image, two.image])) and batch.images.dtype == torch.uint8
    assert batch.targets.labels.dtype == torch.int64
    assert torch.equal(batch.targets.labels[1], two.labels.long())
    assert batch.sizes is None and batch.keys == ("one", "two")


def test_samples_of_several_sizes_are_padded_and_say_so() -> None:
    small, large = _sample(4, 9), _sample(7, 5)
    batch = collate([small, large])
    assert batch.images.shape == (2, 3, 7, 9)
    assert batch.sizes is not None and batch.sizes.tolist() == [[4, 9], [7, 5]]
    for i, sample in enumerate((small, large)):
        height, width = sample.labels.shape
        assert torch.equal(batch.images[i, :, :height, :width], sample.image)
        assert torch.equal(batch.targets.labels[i, :height, :width], sample.labels.long())
        outside = torch.ones(7, 9, dtype=torch.bool)
        outside[:height, :width] = False
        assert (batch.targets.labels[i][outside] == IGNORE).all()
        assert (batch.images[i][:, outside] == 0).all()


def test_pictures_of_8_and_of_more_bits_meet_in_one_unit() -> None:
    batch = collate([_sample(4, 4), _sample(4, 4, dtype=torch.float32)])
    assert batch.images.dtype == torch.float32
    assert torch.equal(batch.images[0], batch.images[1])
