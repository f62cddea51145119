"""What is special to single papers of the room of clips."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sightline.action.models.c3d import c3d, video_descriptor
from sightline.action.models.lrcn import Recurrent
from sightline.action.models.timesformer import Block, Grid, grouped, ungrouped
from sightline.action.models.tsm import tsm
from sightline.action.models.vivit import tubelet_from_image, vivit
from sightline.errors import UsageError
from sightline.verbs.load import load_weights
from sightline.verbs.models import create

SMALL = {"depths": (1, 1, 1, 1), "width": 16}


def test_a_stream_frame_by_frame_is_the_causal_clip() -> None:
    torch.manual_seed(0)
    net = tsm(5, causal=True, **SMALL).eval()
    clip = torch.rand(2, 3, 6, 40, 56)
    with torch.no_grad():
        whole, state, steps = net(clip).logits, (), []
        for t in range(6):
            logits, state = net.step(clip[:, :, t], state)
            steps.append(logits)
    assert torch.allclose(torch.stack(steps).mean(0), whole, atol=1e-5)
    with pytest.raises(ValueError, match="causal"):
        tsm(5, **SMALL).step(clip[:, :, 0])


@pytest.mark.parametrize("fixed", [("frames",), ("rows", "columns"), ("frames", "rows"), ("frames", "columns")])
def test_groups_of_tokens_come_back(fixed: tuple[str, ...]) -> None:
    grid = Grid(2, 3, 4)
    tokens = torch.arange(2 * 24.0).reshape(2, 24, 1)
    groups = grouped(tokens, grid, fixed)
    assert torch.equal(ungrouped(groups, grid, fixed), tokens)
    place = {(r, c, t): (r * 4 + c) * 2 + t for r in range(3) for c in range(4) for t in range(2)}
    names = {"rows": 0, "columns": 1, "frames": 2}
    for group in groups.squeeze(-1).long().remainder(24):
        members = [key for key, number in place.items() if number in group.tolist()]
        assert all(len({m[names[axis]] for m in members}) == 1 for axis in fixed)


@pytest.mark.parametrize("kind", ["divided", "local_global", "axial"])
def test_what_a_patch_may_look_at(kind: str) -> None:
    """The gradient of one patch's first added attention reaches exactly the patches the paper names."""
    torch.manual_seed(0)
    grid = Grid(3, 4, 4)
    block = Block(16, 2, 32, kind)  # pyright: ignore[reportArgumentType]
    for part in block.modules():
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.normal_(part.weight, std=0.5)
    x = torch.randn(1, 1 + 48, 16, requires_grad=True)
    first = block._local(x, grid) if kind == "local_global" else block._added(x, "temporal", grid, ("rows", "columns"))
    row, column, frame = 1, 2, 1
    first[0, 1 + (row * 4 + column) * 3 + frame].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 1:].abs().sum(-1).reshape(4, 4, 3) > 0
    expected = torch.zeros(4, 4, 3, dtype=torch.bool)
    if kind == "local_global":
        expected[0:3, 1:4] = True
    else:
        expected[row, column] = True
    assert torch.equal(seen, expected)


def test_strided_attention_sees_every_other_place() -> None:
    torch.manual_seed(0)
    grid, block = Grid(4, 4, 4), Block(16, 2, 32, "local_global")
    x = torch.randn(1, 1 + 64, 16, requires_grad=True)
    block._strided(x, grid)[0, 1 + (1 * 4 + 2) * 4 + 3].sum().backward()
    assert x.grad is not None
    seen = x.grad[0, 1:].abs().sum(-1).reshape(4, 4, 4) > 0
    expected = torch.zeros(4, 4, 4, dtype=torch.bool)
    expected[1::2, 0::2, 1::2] = True
    assert torch.equal(seen, expected)


def test_added_attentions_change_nothing_at_first() -> None:
    clip = torch.rand(1, 3, 4, 32, 32)
    sizes = {"size": 32, "patch": 16, "frames": 4, "channels": 24, "depth": 2, "heads": 2, "hidden": 32}
    divided = create("timesformer_divided", **sizes).eval()
    with torch.no_grad():
        before = divided(clip).logits
        for block in divided.blocks:
            block.temporal_attn.qkv.weight.normal_()
        assert torch.equal(divided(clip).logits, before)


def test_from_scratch_time_speaks_at_first() -> None:
    clip = torch.rand(1, 3, 4, 32, 32)
    sizes = {"size": 32, "patch": 16, "frames": 4, "channels": 24, "depth": 2, "heads": 2, "hidden": 32}
    with torch.no_grad():
        for scratch in (False, True):
            torch.manual_seed(0)
            net = create("timesformer", scratch=scratch, **sizes).eval()
            change = (net(clip).logits - net(clip.flip(2)).logits).abs().max()
            assert (float(change) > 1e-3) == scratch  # without, a clip and its reverse are one


def test_transformers_refuse_sides_they_would_group_wrongly() -> None:
    sizes = {"channels": 24, "depth": 1, "heads": 2, "hidden": 32}
    with pytest.raises(UsageError, match="divide by the patch"):
        create("timesformer", size=32, frames=4, **sizes)(torch.rand(1, 3, 4, 40, 32))
    with pytest.raises(UsageError, match="divide by the tubelet"):
        vivit(2, size=(32, 32), frames=4, **sizes)(torch.rand(1, 3, 5, 32, 32))
    with pytest.raises(UsageError, match="multiple of alpha"):
        create("slowfast", width=8)(torch.rand(1, 3, 6, 64, 64))
    with pytest.raises(UsageError, match="window"):
        create("slowfast_8x8_psf", **SMALL)(torch.rand(1, 3, 8, 64, 64))


def test_tubelets_from_pictures() -> None:
    kernel = torch.rand(4, 3, 5, 5)
    central, average = tubelet_from_image(kernel, 2), tubelet_from_image(kernel, 4, rule="average")
    assert torch.equal(central[:, :, 1], kernel) and not central[:, :, 0].any()
    assert torch.allclose(average.sum(2), kernel, atol=1e-6)


@pytest.mark.parametrize(("pool5", "left"), [("ceil", 16), ("pad", 16), ("floor", 9)])
def test_the_last_pool_of_c3d(pool5: str, left: int) -> None:
    net = c3d(3, widths=(2, 2, 2, 2, 2), hidden=4, pool5=pool5).eval()  # pyright: ignore[reportArgumentType]
    assert net.fc6.in_features == 2 * left
    clips = torch.rand(2, 3, 16, 112, 112)
    with torch.no_grad():
        assert net(clips).logits.shape == (2, 3)
    assert float(video_descriptor(net, clips).norm()) == pytest.approx(1, abs=1e-5) or not net.descriptor(clips).any()
    with pytest.raises(UsageError, match="16 frames of 112 x 112"):
        net(clips[:, :, :8])


@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn"])
def test_recurrent_layers_are_the_loop(kind: str) -> None:
    torch.manual_seed(0)
    layer = Recurrent(5, 3, kind)  # pyright: ignore[reportArgumentType]
    layer.bias.data.normal_()
    x = torch.randn(4, 2, 5)
    h, c, steps = torch.zeros(2, 3), torch.zeros(2, 3), []
    for t in range(4):
        a, b = x[t] @ layer.weight_x.T + layer.bias, h @ layer.weight_h.T
        if kind == "lstm":
            i, f, g, o = (a + b).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif kind == "gru":
            (ar, az, an), (br, bz, bn) = a.chunk(3, dim=1), b.chunk(3, dim=1)
            r, z = (ar + br).sigmoid(), (az + bz).sigmoid()
            h = (1 - z) * (an + r * bn).tanh() + z * h
        else:
            h = (a + b).tanh()
        steps.append(h)
    assert torch.allclose(layer(x), torch.stack(steps), atol=1e-5)


def test_the_renamed_tensors_of_transformers_5_load() -> None:
    sizes = {"size": (16, 16), "frames": 4, "tubelet": (2, 8, 8), "channels": 8, "heads": 2, "hidden": 16}
    net = vivit(3, form=1, token=True, depth=1, **sizes)

    def linear(name: str, out: int, into: int) -> dict[str, Tensor]:
        return {f"{name}.weight": torch.rand(out, into), f"{name}.bias": torch.rand(out)}

    layer = "vivit.layers.0"
    file = {
        "vivit.embeddings.cls_token": torch.rand(1, 1, 8),
        "vivit.embeddings.position_embeddings": torch.rand(1, 9, 8),
        "vivit.embeddings.patch_embeddings.projection.weight": torch.rand(8, 3, 2, 8, 8),
        "vivit.embeddings.patch_embeddings.projection.bias": torch.rand(8),
        **{k: v for n in "qkvo" for k, v in linear(f"{layer}.attention.{n}_proj", 8, 8).items()},
        **linear(f"{layer}.mlp.fc1", 16, 8),
        **linear(f"{layer}.mlp.fc2", 8, 16),
        **{f"{layer}.layernorm_{n}.{leaf}": torch.rand(8) for n in ("before", "after") for leaf in ("weight", "bias")},
        "vivit.layernorm.weight": torch.rand(8),
        "vivit.layernorm.bias": torch.rand(8),
        **linear("classifier", 3, 8),
    }
    report = load_weights(net, file)
    assert report.origin == "huggingface5" and not report.missing and not report.unexpected
    qkv = net.encoder.blocks[0].attn.qkv.weight
    assert torch.equal(qkv[8:16], file[f"{layer}.attention.k_proj.weight"])
