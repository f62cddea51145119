"""Detectors beside torchvision's of the same weights: answers, training steps, pasted masks.

Fresh weights find nothing, and finding nothing is cheap. So the heads' weights are scaled until they are sure of many
things: a picture gives a hundred objects of many classes with masks that are neither full nor empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bench.harness import Row, race
from torch import Tensor, nn

import sightline as sl
from sightline.detection.contract import Target
from sightline.detection.predict import answer
from sightline.verbs.models import catalogue

MASK_RCNN, RETINANET = "mask_rcnn_torchvision_r50_fpn", "retinanet_torchvision_r50_fpn"


def rows() -> Iterator[Row]:
    """Every comparison of this page."""
    yield from paste()
    yield from mask_rcnn()
    yield from retinanet()


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    """Blots of three sizes, `(3, H, W)` in [0, 1]."""
    random = torch.Generator().manual_seed(seed)
    layers = [
        F.interpolate(
            torch.rand(1, 3, height // step + 1, width // step + 1, generator=random), (height, width), mode="bicubic"
        )
        for step in (8, 24, 80)
    ]
    x = sum(layers)[0]  # pyright: ignore[reportIndexIssue]
    return (x - x.min()) / (x.max() - x.min())


@torch.no_grad()
def awaken(peer: nn.Module, image: Tensor, wanted: Mapping[str, float]) -> None:
    """Scale the layers named in `wanted` so that what they say of `image` spreads as told; residual units stay mild."""
    for name, part in peer.named_modules():
        if name.endswith("bn3"):
            part.weight.fill_(0.25)  # pyright: ignore[reportCallIssue]
    for name, spread in wanted.items():  # in the order of the network, as one changes what the next one sees
        layer, said = peer.get_submodule(name), []
        handle = layer.register_forward_hook(lambda module, inputs, out, said=said: said.append(out))
        peer([image])
        handle.remove()
        layer.weight.mul_(spread / torch.cat([x.flatten() for x in said]).std())  # pyright: ignore


def backbone() -> nn.Module:
    """ResNet-50 with frozen norms of eps 0, as in torchvision's published detectors."""
    from torchvision.models import resnet50
    from torchvision.models.detection._utils import overwrite_eps
    from torchvision.ops.misc import FrozenBatchNorm2d

    net = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    overwrite_eps(net, 0.0)
    return net


def peer_mask_rcnn(**values: Any) -> Any:
    """torchvision's Mask R-CNN with weights that find a hundred objects."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    torch.manual_seed(0)
    peer = MaskRCNN(_resnet_fpn_extractor(backbone(), 3), 91, **values).eval()
    spreads = {
        "rpn.head.cls_logits": 2.0,
        "rpn.head.bbox_pred": 0.2,
        "roi_heads.box_predictor.cls_score": 2.5,
        "roi_heads.box_predictor.bbox_pred": 0.5,
        "roi_heads.mask_predictor.mask_fcn_logits": 2.0,
    }
    awaken(peer, picture(240, 320), spreads)
    return peer


def peer_retinanet(**values: Any) -> Any:
    """torchvision's RetinaNet with weights that find as many objects as it may."""
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.models.detection.retinanet import _default_anchorgen
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    torch.manual_seed(0)
    body = _resnet_fpn_extractor(backbone(), 3, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256))
    peer = RetinaNet(body, 91, anchor_generator=_default_anchorgen(), **values).eval()
    spreads = {"head.classification_head.cls_logits": 0.8, "head.regression_head.bbox_reg": 0.2}
    awaken(peer, picture(240, 320), spreads)
    return peer


def same(ours: Any, theirs: Mapping[str, Tensor], shift: int) -> str:
    """How far apart two answers are; raises where they are not the same. shift: our label plus it is theirs.

    Objects whose scores differ by less than rounding may have changed places: each is compared with its like.
    """
    assert len(ours) == len(theirs["boxes"]) > 20, (len(ours), len(theirs["boxes"]))
    far = (ours.boxes[None] - theirs["boxes"][:, None]).abs().amax(-1)
    far = far + 1e6 * (ours.labels[None] + shift != theirs["labels"][:, None])
    boxes, like = far.min(1)
    assert len(like.unique()) == len(like) and float(boxes.max()) <= 1e-3, float(boxes.max())
    assert float((ours.scores[like] - theirs["scores"]).abs().max()) <= 1e-4
    words = f"{len(ours)} objects, the same labels, boxes within {float(boxes.max()):.0e} pixels"
    if "masks" in theirs:
        differ = int(((theirs["masks"][:, 0] >= 0.5) != ours.masks.dense()[like]).sum())
        share = differ / max(1, theirs["masks"].numel())
        assert share <= 1e-5, share
        words += f", {differ} pixels of masks differ"
    return words


def mask_rcnn() -> Iterator[Row]:
    """A picture of 480 x 640 (800 x 1066 to the network) through to whole masks; a training step."""
    peer, image = peer_mask_rcnn(), picture(480, 640, seed=1)
    net = sl.create(MASK_RCNN).eval()
    sl.load_weights(net, peer.state_dict())
    twin = sl.optimize(net, torch.rand(1, 3, 192, 192), repeats=0).net
    array, how = np.ascontiguousarray(image.permute(1, 2, 0).numpy()), catalogue()[MASK_RCNN].preprocess

    def ours() -> Any:
        found = answer(twin, array, preprocess=how)
        assert found.masks is not None
        found.masks.dense()
        return found

    def theirs() -> Any:
        found = peer([image])[0]
        return found | {"sure": found["masks"] >= 0.5}

    with torch.inference_mode():
        difference = same(ours(), theirs(), 1)
        yield race(
            f"{MASK_RCNN}: 480 x 640, whole masks, float32", ours, theirs, names=("optimize", "torchvision"),
            difference=difference, bar="1.4", repeats=3,
        )  # fmt: skip
    yield step("Mask R-CNN R50-FPN", MASK_RCNN, peer_mask_rcnn(min_size=256, max_size=320), shift=1, masks=True)


def retinanet() -> Iterator[Row]:
    """A picture of 480 x 640 (800 x 1066 to the network); a training step."""
    peer, image = peer_retinanet(), picture(480, 640, seed=1)
    net = sl.create(RETINANET).eval()
    sl.load_weights(net, peer.state_dict())
    array, how = np.ascontiguousarray(image.permute(1, 2, 0).numpy()), catalogue()[RETINANET].preprocess
    with torch.inference_mode():
        expected = peer([image])[0]

        for compiled, bar in ((False, "1.2"), (True, "1.4")):
            twin = sl.optimize(net, torch.rand(1, 3, 192, 192), repeats=0, compile=compiled).net

            def ours(twin: Any = twin) -> Any:
                return answer(twin, array, preprocess=how)

            words = "compiled" if compiled else "float32"
            yield race(
                f"{RETINANET}: 480 x 640, {words}", ours, lambda: peer([image]), names=("optimize", "torchvision"),
                difference=same(ours(), expected, 0), bar=bar, repeats=3, warm=True,
            )  # fmt: skip
    yield step("RetinaNet R50-FPN", RETINANET, peer_retinanet(min_size=256, max_size=320), shift=0, masks=False)


def step(words: str, name: str, peer: Any, *, shift: int, masks: bool) -> Row:
    """One step of SGD on two pictures of 256 x 320 with five objects each."""
    net = sl.create(name)
    sl.load_weights(net, peer.state_dict())
    net = net.train().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    peer.train()
    size, random = (256, 320), torch.Generator().manual_seed(2)
    images = torch.stack([picture(*size, seed=s) for s in (3, 4)])
    corner = torch.rand(2, 5, 2, generator=random) * torch.tensor([200.0, 140.0])
    boxes = torch.cat([corner, corner + 30 + torch.rand(2, 5, 2, generator=random) * 80], -1)
    labels = torch.randint(0, 90, (2, 5), generator=random)
    y, x = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    inside = (x > boxes[..., 0, None, None]) & (x < boxes[..., 2, None, None])
    inside = inside & (y > boxes[..., 1, None, None]) & (y < boxes[..., 3, None, None])
    target = Target(boxes, labels, masks=inside if masks else None)
    listed = [
        {"boxes": b, "labels": k + shift} | ({"masks": m.to(torch.uint8)} if masks else {})
        for b, k, m in zip(boxes, labels, inside)
    ]
    sides = []
    for model in (net, peer):
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-4)

        def run(model: Any = model, optimizer: torch.optim.Optimizer = optimizer) -> float:
            optimizer.zero_grad(set_to_none=True)
            if model is peer:
                loss = sum(peer(list(images), listed).values())
            else:
                given = images.contiguous(memory_format=torch.channels_last)
                loss = sum(net.losses(net(given, targets=target), target).values())
            loss.backward()
            optimizer.step()
            return float(loss.detach())

        sides.append(run)
    torch.manual_seed(0)
    mine = sides[0]()
    torch.manual_seed(0)
    both = f"losses {mine:.3f} and {sides[1]():.3f} before training; what is sampled differs"
    return race(
        f"{words}, training step, 2 x 256 x 320", *sides,
        names=("channels-last, as `train` runs it", "torchvision"), difference=both, bar="0.95", repeats=3,
    )  # fmt: skip


def paste() -> Iterator[Row]:
    """100 masks of a picture of 1080 x 1920."""
    from bench.masks import scene
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    from sightline.instance.masks import BoxMasks

    size = (1080, 1920)
    boxes, grids = scene(100, size)
    masks = BoxMasks(boxes, grids[:, 0], size, rule="whole")
    differ = int((masks.dense() != (paste_masks_in_image(grids, boxes, size)[:, 0] >= 0.5)).sum())
    assert differ == 0, differ
    yield race(
        "100 masks pasted, 1080 x 1920", masks.dense, lambda: paste_masks_in_image(grids, boxes, size) >= 0.5,
        names=("BoxMasks.dense", "paste_masks_in_image"), difference="no pixel differs", bar="5", repeats=5,
    )  # fmt: skip
