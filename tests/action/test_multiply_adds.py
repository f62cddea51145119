"""Multiply-adds of the networks, counted by PyTorch, beside those measured of their public implementations.

Nothing is computed: the networks and their clips are on the device "meta".
"""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from sightline.verbs.models import create

KNOWN = {  # entry: classes, clip, 10^9 multiply-adds
    "c3d": (487, (16, 112, 112), 38.55),
    "r2plus1d_18_tv": (400, (16, 112, 112), 40.5),
    "r2plus1d_34_vmz": (400, (32, 112, 112), 152.4),
    "csn_ip_152": (400, (32, 256, 256), 108.8),
    "csn_ir_152": (400, (32, 256, 256), 96.7),
    "i3d_rgb": (400, (64, 224, 224), 111.2),
    "s3d_tv": (400, (16, 224, 224), 17.98),
    "c2d_r50": (400, (8, 256, 256), 25.46),
    "i3d_r50": (400, (8, 256, 256), 37.11),
    "slow_8x8_r50": (400, (8, 256, 256), 54.52),
    "slowfast_8x8_psf": (400, (32, 256, 256), 65.71),
    "slowfast_8x8_r101_ptv": (400, (32, 256, 256), 125.9),
    "slowfast_16x8_r101_ptv": (400, (64, 256, 256), 213.0),
    "x3d_xs_psf": (400, (4, 160, 160), 0.61),
    "x3d_s_psf": (400, (13, 160, 160), 1.96),
    "x3d_m_psf": (400, (16, 224, 224), 4.73),
    "x3d_l_psf": (400, (16, 312, 312), 18.37),
    "tsm_r50": (400, (8, 224, 224), 32.7),
    "blvnet_tam_50": (400, (16, 224, 224), 23.9),
    "blvnet_tam_101": (400, (48, 224, 224), 96.5),
    "timesformer_space": (400, (8, 224, 224), 140.50),
    "timesformer_joint": (400, (8, 224, 224), 179.56),
    "timesformer_divided": (400, (8, 224, 224), 195.83),
    "timesformer_hr": (400, (16, 448, 448), 1702.7),
    "timesformer_l": (400, (96, 224, 224), 2379.9),
    "vivit_m1": (400, (32, 224, 224), 451.5),
}


@pytest.mark.parametrize("name", KNOWN)
def test_multiply_adds_within_a_hundredth(name: str) -> None:
    classes, size, billions = KNOWN[name]
    with torch.device("meta"):
        net = create(name, num_classes=classes).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.empty(1, 3, *size, device="meta"))
    assert counter.get_total_flops() / 2e9 == pytest.approx(billions, rel=0.01)
