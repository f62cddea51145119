"""What every entry of the room of clips keeps, at tiny sizes; a paper's own tests add only what is special to it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import zlib
from dataclasses import asdict
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sightline.action.catalog import MODELS
from sightline.action.contract import Labels, Scores, Target
from sightline.contracts import Entry
from sightline.verbs.load import key_maps, load_weights, save_weights
from sightline.verbs.models import builder_of, create, defaults_of
from sightline.verbs.optimize import EQUAL, optimize

#: Features of frames are no clips, and answer with a yes or no a class: `test_youtube8m.py`.
NAMES = sorted(name for name in MODELS if "features" not in MODELS[name].traits)


def tiny(name: str, **values: Any) -> nn.Module:
    """The entry at the size its catalogue line gives for tests, with weights that are a function of their names."""
    net = create(name, **{**MODELS[name].tiny, "num_classes": 5, **values})
    with torch.no_grad():
        for key, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
            value = torch.randn(tensor.shape, generator=random)
            if key.endswith(("running_var", "running_mean")) or tensor.ndim == 1:
                value = 0.1 * value + (1.0 if key.endswith(("running_var", "weight")) else 0.0)
            else:
                value = value * (2 / tensor[0].numel()) ** 0.5
            tensor.copy_(value.abs() + 0.1 if key.endswith("running_var") else value)
    return net.eval()


def clip(name: str, batch: int = 2, *, channels: int | None = None, larger: int = 0, seed: int = 0) -> Tensor:
    """Clips of a size the entry takes: odd and not square wherever it can be; `larger` steps more each way."""
    traits, values = MODELS[name].traits, {**defaults_of(builder_of(MODELS[name])), **MODELS[name].tiny}
    channels = values["in_channels"] if channels is None else channels
    size = [8 + 8 * larger, 35 + 2 * larger, 51 + 6 * larger]
    if "patches16" in traits:
        size = [4 + 2 * larger, 32 + 16 * larger, 48 + 16 * larger]
    if "fixed_size" in traits:
        size[-len(values["size"]) :] = values["size"]
    if "frames" in values and "fixed_size" in traits:
        size[0] = values["frames"]
    if "fields" in values and name != "two_stream":
        size[0] = values["fields"]
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def further(name: str, images: Tensor) -> dict[str, Tensor]:
    """The further inputs of `forward`."""
    if "flow_input" not in MODELS[name].traits:
        return {}
    fields = MODELS[name].tiny["fields"]
    return {"flow": torch.rand(len(images), 2, fields, *images.shape[3:], generator=torch.Generator().manual_seed(9))}


def seen(net: nn.Module, name: str, images: Tensor) -> Scores:
    with torch.no_grad():
        return net(images, **further(name, images))


def close(a: Tensor, b: Tensor, *, tolerance: float = 2e-5) -> bool:
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_is_true(name: str) -> None:
    entry = MODELS[name]
    assert isinstance(entry, Entry) and entry.task == "action" and entry.paper
    builder = builder_of(entry)
    for argument in inspect.signature(builder).parameters.values():
        assert argument.kind is not inspect.Parameter.VAR_KEYWORD
        json.dumps(argument.default)
    json.dumps(asdict(entry.preprocess))
    with torch.device("meta"):
        net = builder()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == entry.parameters
    assert all(any(key.startswith(prefix) for key in net.state_dict()) for prefix in net.HEAD)


@pytest.mark.parametrize("name", NAMES)
def test_one_answer_a_clip(name: str) -> None:
    net, images = tiny(name), clip(name)
    before = images.clone()
    out = seen(net, name, images)
    assert isinstance(out, Scores)
    assert tuple(out.logits.shape) == (2, 5) and out.logits.dtype is torch.float32 and bool(out.logits.isfinite().all())
    if out.parts is not None:
        assert close(out.parts.mean(1), out.logits) and out.parts.shape[2] == 5
    assert torch.equal(images, before)
    answers = net.decode(out, classes=("a", "b", "c", "d", "e"))
    assert len(answers) == 2 and isinstance(answers[0], Labels)
    parts = out.logits[:, None] if out.parts is None else out.parts
    assert close(answers[1].probabilities, parts[1].softmax(-1).mean(0))
    assert answers[0].top(1)[0][0] == "abcde"[answers[0].label]


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    torch.manual_seed(1)
    net, images = tiny(name).train(), clip(name)
    target = Target(torch.tensor([1, 4]))
    losses = net.losses(net(images, **further(name, images), targets=target), target)
    torch.stack(list(losses.values())).sum().backward()
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    if "positions" in " ".join(silent) or "pos_embed" in " ".join(silent):
        silent = [k for k in silent if "pos" not in k]
    assert not silent
    evaluated = net.eval().losses(seen(net, name, images), target)
    assert set(evaluated) == set(losses) and all(value.ndim == 0 for value in evaluated.values())


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_batch_are_strangers(name: str) -> None:
    net, images = tiny(name), clip(name, 3)
    flow = further(name, images)
    with torch.no_grad():
        together, alone = net(images, **flow), net(images[1:2], **{k: v[1:2] for k, v in flow.items()})
    assert close(together.logits[1:2], alone.logits)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_network(name: str) -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(7)
        return create(name, **MODELS[name].tiny).eval()

    one, two = fresh(), fresh()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert torch.equal(seen(one, name, clip(name)).logits, seen(two, name, clip(name)).logits)


@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_other_channels(name: str) -> None:
    net = create(name, **MODELS[name].tiny, num_classes=1, in_channels=1).eval()
    images = clip(name, channels=1)
    out = seen(net, name, images)
    assert out.logits.shape == (2, 1)
    assert all(bool(value.isfinite()) for value in net.losses(out, Target(torch.tensor([0, 1]))).values())
    answer = net.decode(out, classes=("fight",))[0]
    assert answer.classes == ("not fight", "fight") and float(answer.probabilities.sum()) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_out_and_come_back(name: str, tmp_path: Any) -> None:
    net, images = tiny(name), clip(name)
    layouts = ["sightline", *(key_map.origin for key_map in key_maps(net)[:1] if writable(name, key_map.origin))]
    for layout in layouts:
        path = save_weights(net, tmp_path / f"{layout}.pth", layout=layout)
        other = create(name, **MODELS[name].tiny, num_classes=5).eval()
        report = load_weights(other, path)
        assert not report.missing and not report.unexpected
        assert torch.equal(seen(other, name, images).logits, seen(net, name, images).logits)


def writable(name: str, origin: str) -> bool:
    """Whether the first public layout has a name for everything: Flax's heads are 64 wide, small forms have none."""
    small = {"lrcn", "two_stream", "two_stream_spatial", "two_stream_temporal", "s3d_g", "fmri_3dcnn_strided"}
    return not name.startswith("vivit") and name not in small and name != "timesformer_axial"


@pytest.mark.parametrize("name", NAMES)
def test_another_class_count_loads_all_but_the_head(name: str) -> None:
    net = create(name, **MODELS[name].tiny, num_classes=3)
    report = load_weights(net, tiny(name).state_dict())
    assert report.reinitialised and all(key.startswith(net.HEAD) for key in report.reinitialised)
    assert not report.missing


@pytest.mark.parametrize("name", NAMES)
def test_its_twin_for_inference_answers_the_same(name: str) -> None:
    net = tiny(name)
    images = clip(name)
    if "flow_input" in MODELS[name].traits:
        images = clip(name, channels=5)[:, :, : MODELS[name].tiny["fields"]]
    found = optimize(net, images, repeats=0)
    assert found.difference <= EQUAL, found.words


@pytest.mark.parametrize("name", NAMES)
def test_exports_with_any_batch(name: str) -> None:
    net, images = tiny(name), clip(name)
    flow = further(name, images)
    shapes = {"images": {0: torch.export.Dim.DYNAMIC}} | {k: {0: torch.export.Dim.DYNAMIC} for k in flow}
    program = torch.export.export(net, (images,), kwargs=flow or None, dynamic_shapes=shapes)
    other = clip(name, 3, seed=2)
    with torch.no_grad():
        assert close(program.module()(other, **further(name, other)).logits, seen(net, name, other).logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiles_without_a_graph_break(name: str) -> None:
    net, images = tiny(name), clip(name)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert close(seen(compiled, name, images).logits, seen(net, name, images).logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_two_clips_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = create(name, **MODELS[name].tiny, num_classes=3).train()
    images = clip(name)
    images[1] = 1 - images[1] / 2
    flow, target = further(name, images), Target(torch.tensor([0, 2]))
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(60):
        optimiser.zero_grad()
        loss = torch.stack(list(net.losses(net(images, **flow), target).values())).sum()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.5 * first


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, sightline.action.catalog, sightline.classification.catalog;"
        "print([m for m in ('torch', 'torchvision', 'timm', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
