"""What is special to YOLACT, SOLO, PolarMask, AdaptIS and embeddings: small cases by hand and by loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sightline.detection.contract import PADDING, Target
from sightline.errors import UsageError
from sightline.instance.cells import Rules, cells_of, dice, last_of, peaks
from sightline.instance.contract import boxes_around
from sightline.instance.models.adaptis import at_points, normalised_focal, normalised_focal_softmax
from sightline.instance.models.embedding import discriminative_loss, mean_shift
from sightline.instance.models.polarmask import RAYS, borders_of, polar_centerness, polar_iou_loss, rays_of, star_points
from sightline.instance.models.yolact import cropped, yolact
from sightline.ops.boxes import iou
from sightline.ops.matching import BACKGROUND, BETWEEN


def test_boxes_around_masks() -> None:
    masks = torch.zeros(3, 6, 8).bool()
    masks[0, 2:4, 3:7] = True
    masks[1, 5, 0] = True
    assert boxes_around(masks).tolist() == [[3, 2, 7, 4], [0, 5, 1, 6], [0, 0, 0, 0]]
    assert boxes_around(masks, (2.0, 4.0))[0].tolist() == [12, 4, 28, 8]


# YOLACT


def test_masks_are_cut_at_their_boxes_as_by_a_loop() -> None:
    masks = torch.ones(1, 2, 10, 12)
    boxes = torch.tensor([[[21.0, 15, 62, 53], [-4, 3, 3, 98]]])
    canvas = torch.tensor([[100, 120]])
    found = cropped(masks, boxes, canvas)[0]
    for n, (x0, y0, x1, y1) in enumerate((boxes[0] / 10).tolist()):
        for i in range(10):
            for j in range(12):
                inside = max(x0 - 1, 0) <= j < min(x1 + 1, 12) and max(y0 - 1, 0) <= i < min(y1 + 1, 10)
                assert found[n, i, j] == float(inside)


def test_every_object_has_an_anchor_of_its_own() -> None:
    net = yolact(2, backbone="mobilenet_v3_small", channels=8, prototypes=2, mask_channels=4)
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(40, 2, generator=random) * 60
    anchors = torch.cat([corner, corner + 10 + 20 * torch.rand(40, 2, generator=random)], 1)
    boxes = torch.cat([anchors[:5] + 3, anchors[:2] + 2.5])  # several want the same anchor
    target = Target(boxes[None], torch.zeros(1, 7, dtype=torch.long))
    overlap = iou(boxes, anchors)
    best, which = overlap.max(0)
    expected = [int(w) if b >= 0.5 else BETWEEN if b >= 0.4 else BACKGROUND for b, w in zip(best, which)]
    left = overlap.clone()
    for _ in range(7):
        g, n = divmod(int(left.argmax()), 40)
        expected[n] = g
        left[g], left[:, n] = -1, -1
    assert net.assign(anchors, target)[0].tolist() == expected
    assert set(range(7)) <= set(expected)


# SOLO


def scene() -> Target:
    masks = torch.zeros(1, 3, 64, 64).bool()
    masks[0, 0, 8:24, 8:24] = True
    masks[0, 1, 32:64, 32:64] = True
    boxes = torch.tensor([[[8.0, 8, 24, 24], [32, 32, 64, 64], [0, 0, 0, 0]]])
    return Target(boxes, torch.tensor([[1, 0, PADDING]]), masks=masks)


def test_cells_around_the_middle_learn_an_object() -> None:
    rules = Rules(grids=(8, 4), strides=(8, 16), ranges=((1, 20), (20, 100)), centre=0.2)
    fine, coarse = cells_of(scene(), rules, (64, 64))
    # middles 15.5 and 47.5; a reach of 1.6 and 3.2 pixels; cells of 8 and 16 pixels
    assert fine[0, 0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]
    assert coarse[0, 1].nonzero().tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    assert not fine[0, 1].any() and not coarse[0, 0].any() and not fine[0, 2].any()
    assert last_of(fine)[0, 1, 1] == 0 and last_of(fine)[0, 0, 0] == -1
    assert last_of(torch.ones(1, 2, 3, 3).bool()).unique().tolist() == [1]


def test_peaks_and_dice_by_hand() -> None:
    logits = torch.full((1, 1, 3, 3), -9.0)
    logits[0, 0, 1, 1], logits[0, 0, 2, 2] = 2.0, 1.0
    found = peaks(logits)[0, :, 0]
    assert found[4] == pytest.approx(1 / (1 + math.exp(-2))) and found[8] == 0
    said, truth = torch.tensor([[[1.0, 0.5]]]), torch.tensor([[[1.0, 0.0]]])
    assert dice(said, truth).item() == pytest.approx(1 - 2 / (1.25 + 1 + 0.002))


def test_levels_and_grids_must_agree() -> None:
    with pytest.raises(UsageError, match="one value a level"):
        Rules(grids=(8, 4), ranges=((1, 20),))


# PolarMask


def test_rays_of_a_disc_have_its_radius_and_draw_it_again() -> None:
    y, x = np.mgrid[:101, :101]
    mask = torch.from_numpy((x - 50) ** 2 + (y - 50) ** 2 <= 40**2)
    (border,), centre = borders_of(mask[None])
    assert centre.tolist() == [[50, 50]]
    rays = rays_of(border, torch.tensor([[50.0, 50.0]]))
    assert rays.shape == (1, RAYS) and bool(((rays - 40).abs() < 1.5).all())
    assert polar_centerness(rays).item() > 0.95 and polar_iou_loss(rays, rays).abs().item() < 1e-6
    outline = star_points(torch.tensor([50.0, 50.0]), rays[0], torch.tensor([101.0, 101.0]))
    assert bool((((outline - 50) ** 2).sum(-1).sqrt() - 40).abs().max() < 1.5)
    empty, centres = borders_of(torch.zeros(1, 5, 5).bool())
    assert len(empty[0]) == 0 and centres[0, 0] < 0


def test_rays_as_by_a_loop() -> None:
    border = torch.tensor([[10, 0], [0, 10], [-7, 3], [12, 1], [-1, -9], [3, 3]])
    found = rays_of(border, torch.zeros(1, 2))[0]
    degrees: dict[int, float] = {}
    for x, y in border.tolist():
        angle = math.degrees(math.atan2(x, y))
        degree = int(angle + 360 if angle < 0 else angle)
        degrees[degree] = max(degrees.get(degree, 0), math.hypot(x, y))
    for k in range(36):
        near = [degrees[10 * k + d] for d in (0, 1, -1, 2, -2, 3, -3) if 10 * k + d in degrees]
        assert found[k].item() == pytest.approx(near[0] if near else 1e-6)


# AdaptIS


def test_points_read_what_stands_there() -> None:
    x = torch.arange(2 * 3 * 4 * 5).float().view(2, 3, 4, 5)
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[2.0, 1.0], [1.5, 1.0]]])
    found = at_points(x, points)
    assert torch.allclose(found[0], torch.stack([x[0, :, 0, 0], x[0, :, 3, 4]]), atol=1e-3)
    assert torch.allclose(found[1, 1], (x[1, :, 1, 1] + x[1, :, 2, 1]) / 2, atol=1e-3)


def test_focal_weights_have_mean_one() -> None:
    logits = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0))
    truth = (torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(1)) < 0.5).long()
    found = normalised_focal(logits, truth)
    for n in range(2):
        right = torch.where(truth[n] > 0, logits[n].sigmoid(), 1 - logits[n].sigmoid())
        weight = (1 - right) ** 2 / ((1 - right) ** 2).mean()
        assert found[n].item() == pytest.approx(float((-0.5 * weight * right.log()).mean()), rel=1e-5)
    hidden = truth.clone()
    hidden[:, :3] = -1
    assert bool(normalised_focal(logits, hidden).isfinite().all())
    classes = torch.randn(1, 3, 4, 4)
    assert normalised_focal_softmax(classes, torch.full((1, 4, 4), -1)).item() == 0


# Embeddings


def test_the_loss_of_two_clusters_by_hand() -> None:
    embedding = torch.tensor([0.0, 2, 3, 3, 3, 3]).view(1, 1, 6).requires_grad_()
    masks = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 1], [0] * 6]).bool().view(3, 1, 6)
    variance, distance, regular = discriminative_loss(embedding, masks)
    assert (variance.item(), distance.item(), regular.item()) == pytest.approx((0.125, 1.0, 2.0))
    (variance + distance + regular).backward()
    assert embedding.grad is not None and bool(embedding.grad.isfinite().all())
    alone = discriminative_loss(embedding, masks[:1])
    assert alone[1].item() == 0 and discriminative_loss(embedding, masks[2:])[0].item() == 0


def test_mean_shift_finds_the_clusters() -> None:
    random = torch.Generator().manual_seed(0)
    embedding = 0.1 * torch.randn(2, 8, 9, generator=random)
    embedding[0, :, 5:] += 4
    chance = torch.full((8, 9), 0.9)
    chance[:, 4] = 0
    masks = mean_shift(embedding, chance, radius=1.5, most=4, rounds=3)
    assert sorted(masks.sum((1, 2)).tolist(), reverse=True) == [32, 32, 0, 0]
    assert not masks[:, :, 4].any() and int(masks.sum(0).max()) == 1
