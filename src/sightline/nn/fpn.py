"""Feature pyramid: the meaning of the deep maps at the resolution of the fine ones.

Paper: Feature Pyramid Networks for Object Detection (Lin et al. 2016, arXiv:1612.03144), figure 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import Norm, conv_norm_act

Extra = Literal["none", "pool", "last_output", "last_input"]
Design = Literal["pyramid", "bottom_up", "top_down", "finest"]


class FPN(nn.Module):
    """Maps of a backbone, fine to coarse, to maps of one width at the same strides, and coarser ones.

    in_channels, strides: of the maps it is given. norm: after every convolution but the extra ones.
    extra: `none`; `pool`, one more level, every second place of the last (Faster and Mask R-CNN); or two more levels by
    3x3 convolutions of stride 2, the first on the last output (`last_output`: P6 from P5) or on the backbone's last map
    (`last_input`: P6 from C5, RetinaNet's paper), the second after a ReLU, unless `relu` is off (mmdet).
    smooth: coarse maps are enlarged bilinearly, not by repetition; act: after each output (YOLACT).
    design: `pyramid`, or what the paper compares it with (table 1): `bottom_up`, no way down, every level from its own
    map; `top_down`, no lateral connections, every level from the coarsest map; `finest`, the finest level alone.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 256,
        *,
        strides: Sequence[int],
        extra: Extra = "none",
        relu: bool = True,
        norm: Norm | None = None,
        smooth: bool = False,
        act: type[nn.Module] | None = None,
        design: Design = "pyramid",
    ) -> None:
        super().__init__()
        lateral = in_channels[-1:] if design == "top_down" else in_channels
        outputs = 1 if design == "finest" else len(in_channels)
        self.lateral = nn.ModuleList(conv_norm_act(n, channels, 1, norm=norm, act=None) for n in lateral)
        self.output = nn.ModuleList(conv_norm_act(channels, channels, norm=norm, act=act) for _ in range(outputs))
        self.design = design
        strides = strides[:outputs]
        self.channels, self.extra, self.relu = channels, extra, relu
        self.mode = "bilinear" if smooth else "nearest"
        self.coarse = nn.ModuleList()
        more = {"none": 0, "pool": 1, "last_output": 2, "last_input": 2}[extra]
        if more == 2:
            first = in_channels[-1] if extra == "last_input" else channels
            self.coarse.extend(nn.Conv2d(n, channels, 3, 2, 1) for n in (first, channels))
        self.strides = (*strides, *(strides[-1] * 2 ** (i + 1) for i in range(more)))
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_uniform_(part.weight, a=1)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """`(B, C_l, H_l, W_l)` a level, fine to coarse, to `(B, channels, H_l, W_l)`, and the extra levels."""
        found = [output(x) for output, x in zip(self.output, self.merged(maps))]
        if self.extra == "pool":
            found.append(F.max_pool2d(found[-1], 1, 2))
        elif self.extra != "none":
            x = self.coarse[0](maps[-1] if self.extra == "last_input" else found[-1])
            found += [x, self.coarse[1](F.relu(x) if self.relu else x)]
        return found

    def merged(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """What each level knows before its output convolution, fine to coarse."""
        if self.design == "bottom_up":
            return [lateral(x) for lateral, x in zip(self.lateral, maps)]
        above = self.lateral[-1](maps[-1])
        found = [above]
        for i in range(len(maps) - 2, -1, -1):
            above = F.interpolate(above, size=maps[i].shape[-2:], mode=self.mode)
            if self.design != "top_down":
                above = self.lateral[i](maps[i]) + above
            found.insert(0, above)
        return found
