"""What is special to Mask and Keypoint R-CNN: targets in boxes, joints from maps, old names of weights."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sightline.detection.regions import Pooler
from sightline.instance.catalog import MODELS
from sightline.instance.models.mask_rcnn import JointBranch, MaskBranch, ThirdStage, cells_of
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import create
from sightline.weights.read import read_checkpoint


def test_joints_fall_into_cells() -> None:
    box = torch.tensor([10.0, 20.0, 66.0, 76.0])  # 56 pixels: a cell a pixel
    points = torch.tensor([[10.0, 20, 2], [65.9, 20, 1], [66, 76, 2], [30, 40, 0], [9.9, 30, 2], [30.5, 76.1, 2]])
    cells = cells_of(points[None], box[None], 56)[0].tolist()
    assert cells == [0, 55, 56 * 56 - 1, -1, -1, -1]


def test_mask_targets_are_those_of_torchvision() -> None:
    from torchvision.models.detection.roi_heads import project_masks_on_boxes

    masks = torch.rand(2, 3, 40, 50, generator=torch.Generator().manual_seed(0)) < 0.5
    boxes = torch.tensor([[[3.2, 4.1, 30.7, 33.3], [10, 0, 50, 40]], [[0, 0, 9, 5], [20.5, 8, 22, 30]]])
    index = torch.tensor([[2, 0], [1, 1]])
    pooler = Pooler(14, [1.0])
    soft = MaskBranch(4, 2, pooler=pooler, width=4, cut="soft", aligned=False).wanted(boxes, index, masks, 28)
    for b in range(2):
        expected = project_masks_on_boxes(masks[b], boxes[b], index[b], 28)
        assert torch.allclose(soft[b], expected, atol=1e-5)
    hard = MaskBranch(4, 2, pooler=pooler, width=4).wanted(boxes, index, torch.ones_like(masks), 14)
    assert bool((hard == 1).all())
    assert MaskBranch(4, 2, pooler=pooler).wanted(boxes, index, masks[:, :0], 14).sum() == 0


def test_the_mask_loss_is_the_mean_over_objects() -> None:
    branch = MaskBranch(4, 2, pooler=Pooler(14, [1.0]), width=4)
    logits = torch.tensor([[0.0, 3.0]])[..., None, None].expand(1, 2, 4, 4)
    wanted, valid = torch.ones(1, 2, 4, 4), torch.tensor([[True, False]])
    stage = ThirdStage(logits, wanted, valid, torch.zeros(1, 2, 4), torch.zeros(1, 2, dtype=torch.long))
    assert branch.losses(stage)["masks"].item() == pytest.approx(math.log(2))


def test_points_are_those_of_torchvision_and_shares_add_up() -> None:
    from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

    heat = torch.randn(3, 5, 56, 56, generator=torch.Generator().manual_seed(2))
    boxes = torch.tensor([[3.0, 4, 40.5, 90.2], [0, 0, 0.4, 7], [10.2, 11.7, 120, 60]])
    points, scores = heatmaps_to_keypoints(heat, boxes)
    pooler = Pooler(14, [1.0])
    found = JointBranch(4, 5, pooler=pooler, width=4, score="logit").points(heat, boxes)
    assert torch.allclose(found[..., :2], points[..., :2]) and torch.allclose(found[..., 2], scores)
    sharp = F.one_hot(torch.tensor([[7, 3000]]), 56 * 56).float().view(1, 2, 56, 56) * 200
    share = JointBranch(4, 2, pooler=pooler, width=4).points(sharp, torch.tensor([[0.0, 0, 56, 56]]))
    assert torch.allclose(share[..., 2], torch.ones(1, 2))
    assert share[0, :, :2].tolist() == [[7.5, 0.5], [3000 % 56 + 0.5, 3000 // 56 + 0.5]]


def test_files_written_until_2022_are_read(tmp_path) -> None:
    name = "mask_rcnn_torchvision_r50_fpn"
    net = create(name, **MODELS[name].tiny, num_classes=3)
    public = read_checkpoint(save_weights(net, tmp_path / "new.pth", layout="torchvision"))
    old = {}
    for key, value in public.items():
        for i in range(4):
            key = key.replace(f"roi_heads.mask_head.{i}.0.", f"roi_heads.mask_head.mask_fcn{i + 1}.")
        old[key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")] = value
    assert any("mask_fcn4" in key for key in old)
    report = load_weights(create(name, **MODELS[name].tiny, num_classes=3), old)
    assert not report.missing and not report.unexpected
