"""Clips: networks beside their peers; TSM frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from bench.harness import Row, race, relative_difference

from sightline.verbs.load import load_weights
from sightline.verbs.models import create
from sightline.verbs.optimize import optimize


def rows() -> Iterator[Row]:
    """Every comparison of this room but the reading of files, which `bench/video.py` has."""
    with torch.inference_mode():
        yield from networks()
        yield from transformers()
        yield online()


def networks() -> Iterator[Row]:
    """R(2+1)D and S3D beside torchvision's as built; X3D and SlowFast beside themselves as built."""
    from torchvision.models import video

    for name, peer, size in (
        ("r2plus1d_18_tv", video.r2plus1d_18, (16, 112, 112)),
        ("s3d_tv", video.s3d, (16, 224, 224)),
        ("x3d_s_ptv", None, (13, 182, 182)),
        ("slowfast_8x8_ptv", None, (32, 128, 128)),
    ):
        torch.manual_seed(0)
        values = {} if peer else {"window": None}
        ours = create(name, num_classes=400, mean=None, **values).eval()
        other: Any = peer(num_classes=400) if peer else ours
        clip = torch.rand(1, 3, *size)
        settle(other, clip)
        if peer:
            load_weights(ours, other.state_dict())
        twin: Any = optimize(ours, clip, repeats=0).net
        expected = other(clip) if peer else other(clip).logits
        yield race(
            f"{name}, {' x '.join(map(str, size))}",
            lambda twin=twin, clip=clip: twin(clip),
            lambda other=other, clip=clip: other(clip),
            names=("after optimize", "torchvision as built" if peer else "the same network as built"),
            difference=f"relative {relative_difference(twin(clip).logits, expected):.1e}",
            bar="1.15",
            repeats=3,
            note="" if peer else "pytorchvideo does not install beside this torch; its form is the network as built",
        )


def transformers() -> Iterator[Row]:
    """TimeSformer, joint and divided, and ViViT model 1 beside transformers' eager form with the same weights."""
    what = {"timesformer_joint": "1.4", "timesformer_divided": "1", "vivit_m1": "1.4"}
    try:
        import transformers as hf
    except ImportError:
        yield from (
            Row(n, "-", "-", None, "-", "-", bar, 2, "transformers is not installed") for n, bar in what.items()
        )
        return
    for name, bar in what.items():
        torch.manual_seed(0)
        peer: Any
        if name == "vivit_m1":
            peer = hf.VivitForVideoClassification(hf.VivitConfig(num_labels=400, attn_implementation="eager"))
            size = (32, 224, 224)
        else:
            kind = "joint_space_time" if name == "timesformer_joint" else "divided_space_time"
            peer = hf.TimesformerForVideoClassification(hf.TimesformerConfig(num_labels=400, attention_type=kind))
            size = (8, 224, 224)
        peer.eval()
        ours: Any = create(name, num_classes=400, mean=None).eval()
        load_weights(ours, peer.state_dict())
        clip = torch.rand(1, 3, *size)
        theirs = clip.transpose(1, 2)  # (B, T, 3, H, W)
        twin: Any = optimize(ours, clip, repeats=0).net
        difference = relative_difference(twin(clip).logits, peer(theirs).logits)
        assert difference <= 1e-4, difference
        yield race(
            f"{name}, {' x '.join(map(str, size))}",
            lambda twin=twin, clip=clip: twin(clip),
            lambda peer=peer, theirs=theirs: peer(theirs),
            names=("after optimize", "transformers, eager"),
            difference=f"relative {difference:.1e}",
            bar=bar,
            repeats=3,
        )


def settle(net: torch.nn.Module, clip: torch.Tensor) -> None:
    """Give the batch norms the statistics of `clip`: of a network just drawn the last maps are nearly constant."""
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.momentum = 1.0
    net.train()(clip)
    net.eval()


def online() -> Row:
    """One more frame of a stream beside one pass of the plain 2-D network."""
    torch.manual_seed(0)
    net: Any = create("tsm_online_r50", num_classes=400).eval()
    plain: Any = create("resnet50_tv", num_classes=400).eval()
    clip = torch.rand(1, 3, 4, 224, 224)
    state, seen = (), []
    for t in range(4):
        logits, state = net.step(clip[:, :, t], state)
        seen.append(logits)
    gap = relative_difference(torch.stack(seen).mean(0), net(clip).logits)
    return race(
        "TSM online, one more frame of 224 x 224",
        lambda: net.step(clip[:, :, 3], state),
        lambda: plain(clip[:, :, 3]),
        names=("tsm_online_r50.step", "one pass of ResNet-50"),
        difference=f"clip against its frames one by one: relative {gap:.1e}",
        bar="0.91",
        repeats=5,
    )
