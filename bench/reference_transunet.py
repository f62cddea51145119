"""TransUNet as its paper describes it, written plainly: the form that the bench compares the optimized network with.

Separate projections for query, key and value, attention as two products with a softmax between them, kernels
standardised in every call, batch norm after each convolution. `python -m bench.reference_transunet CASE.json` compares
it with a golden case; the names are those of the public checkpoint, so that its tensors go in unchanged.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class StandardConv(nn.Conv2d):
    """A convolution of kernels of mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
        kernel = (self.weight - mean) / torch.sqrt(variance + 1e-5)
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding)


class Unit(nn.Module):
    """Three convolutions with group norm, and the shortcut."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.gn1 = StandardConv(inputs, width, 1, bias=False), nn.GroupNorm(32, width, eps=1e-6)
        self.conv2 = StandardConv(width, width, 3, stride, 1, bias=False)
        self.gn2 = nn.GroupNorm(32, width, eps=1e-6)
        self.conv3, self.gn3 = StandardConv(width, 4 * width, 1, bias=False), nn.GroupNorm(32, 4 * width, eps=1e-6)
        if stride != 1 or inputs != 4 * width:
            self.downsample = StandardConv(inputs, 4 * width, 1, stride, bias=False)
            self.gn_proj = nn.GroupNorm(4 * width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.gn1(self.conv1(x)))
        y = F.relu(self.gn2(self.conv2(y)))
        y = self.gn3(self.conv3(y))
        around = self.gn_proj(self.downsample(x)) if hasattr(self, "downsample") else x
        return F.relu(around + y)


class Hybrid(nn.Module):
    """The ResNet: its deepest map and the finer ones, coarse to fine."""

    def __init__(self) -> None:
        super().__init__()
        self.root = nn.Sequential()
        self.root.add_module("conv", StandardConv(3, 64, 7, 2, 3, bias=False))
        self.root.add_module("gn", nn.GroupNorm(32, 64, eps=1e-6))
        self.root.add_module("relu", nn.ReLU(inplace=True))
        self.body, inputs = nn.Sequential(), 64
        for b, (width, depth) in enumerate(((64, 3), (128, 4), (256, 9)), 1):
            block = nn.Sequential()
            for u in range(1, depth + 1):
                block.add_module(f"unit{u}", Unit(inputs, width, 2 if b > 1 and u == 1 else 1))
                inputs = 4 * width
            self.body.add_module(f"block{b}", block)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = self.root(x)
        finer = [x]
        x = F.max_pool2d(x, 3, 2)
        for b, block in enumerate(self.body):
            x = block(x)
            if b < 2:
                height, width = finer[0].shape[2] // 2 ** (b + 1), finer[0].shape[3] // 2 ** (b + 1)
                finer.append(F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2])))
        return x, finer[::-1]


class Embeddings(nn.Module):
    """Map to tokens with their places."""

    def __init__(self, tokens: int, channels: int) -> None:
        super().__init__()
        self.hybrid_model = Hybrid()
        self.patch_embeddings = nn.Conv2d(1024, channels, 1)
        self.position_embeddings = nn.Parameter(torch.zeros(1, tokens, channels))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, finer = self.hybrid_model(x)
        tokens = self.patch_embeddings(x).flatten(2).transpose(1, 2)
        return self.dropout(tokens + self.position_embeddings), finer


class Attention(nn.Module):
    """Multi-head attention, one product at a time."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("query", "key", "value", "out"):
            self.add_module(name, nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (self._split(self.get_submodule(name)(x)) for name in ("query", "key", "value"))
        weights = torch.softmax(torch.matmul(q, k.transpose(2, 3)) / q.shape[3] ** 0.5, dim=-1)
        joined = torch.matmul(weights, v).permute(0, 2, 1, 3).contiguous().flatten(2)
        return self.get_submodule("out")(joined)

    def _split(self, x: Tensor) -> Tensor:
        return x.view(x.shape[0], x.shape[1], self.heads, -1).permute(0, 2, 1, 3)


class Layer(nn.Module):
    """Attention and dense layers, each behind a norm and added."""

    def __init__(self, channels: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention_norm, self.ffn_norm = nn.LayerNorm(channels, eps=1e-6), nn.LayerNorm(channels, eps=1e-6)
        self.attn = Attention(channels, heads)
        self.ffn = nn.ModuleDict({"fc1": nn.Linear(channels, hidden), "fc2": nn.Linear(hidden, channels)})
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.attention_norm(x))
        y = self.dropout(F.gelu(self.ffn["fc1"](self.ffn_norm(x))))
        return x + self.dropout(self.ffn["fc2"](y))


class Up(nn.Module):
    """Twice the size, the skip joined, two convolutions."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.UpsamplingBilinear2d(scale_factor=2)
        self.conv1, self.conv2 = conv_norm_relu(inputs, outputs), conv_norm_relu(outputs, outputs)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        x = self.up(x)
        if skip is not None:
            x = torch.cat([x, skip], dim=1)
        return self.conv2(self.conv1(x))


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """A 3x3 convolution with batch norm and ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


class ReferenceTransUNet(nn.Module):
    """R50-ViT-B/16 for squares of `image_size` pixels."""

    def __init__(self, num_classes: int = 9, image_size: int = 224) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "embeddings": Embeddings((image_size // 16) ** 2, 768),
                "encoder": nn.ModuleDict(
                    {
                        "layer": nn.ModuleList(Layer(768, 12, 3072) for _ in range(12)),
                        "encoder_norm": nn.LayerNorm(768, eps=1e-6),
                    }
                ),
            }
        )
        ups = [Up(512 + 512, 256), Up(256 + 256, 128), Up(128 + 64, 64), Up(64, 16)]
        self.decoder = nn.ModuleDict({"conv_more": conv_norm_relu(768, 512), "blocks": nn.ModuleList(ups)})
        self.segmentation_head = nn.Sequential(nn.Conv2d(16, num_classes, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """`(B, 3, S, S)` to logits `(B, K, S, S)`."""
        x, skips = self.transformer["embeddings"](images)
        encoder: nn.ModuleDict = self.transformer["encoder"]  # pyright: ignore[reportAssignmentType]
        for layer in encoder["layer"]:  # pyright: ignore[reportGeneralTypeIssues]
            x = layer(x)
        x = encoder["encoder_norm"](x)
        side = int(x.shape[1] ** 0.5)
        x = self.decoder["conv_more"](x.permute(0, 2, 1).contiguous().view(x.shape[0], -1, side, side))
        for i, up in enumerate(self.decoder["blocks"]):  # pyright: ignore[reportArgumentType]
            x = up(x, skips[i] if i < 3 else None)
        return self.segmentation_head(x)


def main(path: str) -> int:
    """Compare with the golden case at `path`; 1 when an answer is farther away than the case allows."""
    import sys
    from pathlib import Path

    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "golden"))
    import fill  # pyright: ignore[reportMissingImports]

    case, expected = fill.load(Path(path))
    net = ReferenceTransUNet(case["config"]["num_classes"], case["config"]["img_size"]).eval()
    net.load_state_dict({name: torch.from_numpy(array) for name, array in fill.checkpoint(case).items()})
    images = torch.from_numpy(fill.image(case["input"]["seed"], tuple(case["input"]["shape"])))
    with torch.inference_mode():
        found = net(images)[:, :, ::5, ::5].numpy()
    difference = float(abs(found - expected["logits"]).max() / abs(expected["logits"]).max())
    print(f"logits: largest difference {difference:.1e}, allowed {case['tolerance']:.0e}")
    return int(difference > case["tolerance"])


if __name__ == "__main__":
    import sys

    raise SystemExit(main(sys.argv[1]))
