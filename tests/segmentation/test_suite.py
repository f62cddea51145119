"""What every entry of the room keeps, at tiny sizes; a paper's own tests add only what is special to it."""

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

from sightline.contracts import Entry
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.catalog import MODELS
from sightline.segmentation.contract import IGNORE, Scores, Target
from sightline.verbs.load import key_maps, load_weights, save_weights
from sightline.verbs.models import builder_of, create, defaults_of

SCENES = sorted(name for name, entry in MODELS.items() if "scene" in entry.traits)
"""Entries that answer on another grid than the picture's: their own tests keep all of this."""

NAMES = sorted(set(MODELS) - set(SCENES))
DEEP = {
    "pspnet",
    "pspnet101",
    "deeplabv3",
    "deeplabv3_torchvision_mobilenet_v3_large",
    "deeplabv3_torchvision_r101",
    "fcn_torchvision_r101",
}


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
            tensor.copy_(value)
    return net.eval()


def picture(name: str, batch: int = 2, *, larger: int = 0, seed: int = 0) -> Tensor:
    """Pictures, or volumes, of a size the entry takes: an odd one wherever it can be; `larger` steps more each side."""
    channels = defaults_of(builder_of(MODELS[name]))["in_channels"]
    size = [35 + 2 * larger, 51 + 6 * larger]
    if "volume" in MODELS[name].traits:
        size = [17 + 2 * larger, 21 + 2 * larger, 27 + 4 * larger]
    if "unpadded" in MODELS[name].traits:
        net = create(name, **MODELS[name].tiny)
        size = [net.legal_size(n) for n in [5 + 4 * larger] * (len(size) - 1) + [13 + 8 * larger]]
    return torch.rand(batch, channels, *size, generator=torch.Generator().manual_seed(seed))


def labels_for(images: Tensor, classes: int) -> Tensor:
    labels = torch.randint(0, max(classes, 2), images[:, 0].shape, generator=torch.Generator().manual_seed(3))
    labels[:, :2] = IGNORE
    return labels


def seen(net: nn.Module, images: Tensor) -> Scores:
    with torch.no_grad():
        return net(images)


def close(a: Tensor, b: Tensor, *, tolerance: float = 1e-5) -> bool:
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_entry_says_what_is_true(name: str) -> None:
    entry = MODELS[name]
    assert isinstance(entry, Entry) and entry.task == "segmentation" and entry.paper
    builder = builder_of(entry)
    for argument in inspect.signature(builder).parameters.values():
        assert argument.kind is not inspect.Parameter.VAR_KEYWORD
        json.dumps(argument.default)
    json.dumps(asdict(entry.preprocess))
    with torch.device("meta"):
        net = builder()
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == entry.parameters
    assert all(any(key.startswith(prefix) for key in net.state_dict()) for prefix in net.HEAD[:1])


@pytest.mark.parametrize("name", NAMES)
def test_one_answer_a_pixel(name: str) -> None:
    net, images = tiny(name), picture(name)
    before = images.clone()
    out = seen(net, images)
    assert isinstance(out, Scores)
    lost = 2 * getattr(net, "margin", 0)
    size = (2, 5, *(n - lost for n in images.shape[2:]))
    for logits in (out.logits, *out.aux):
        assert (logits is not out.logits and "coarse_aux" in MODELS[name].traits) or tuple(logits.shape) == size
        assert logits.shape[:2] == size[:2] and logits.dtype is torch.float32 and bool(logits.isfinite().all())
    assert torch.equal(images, before)
    answers = net.decode(out, classes=("a", "b", "c", "d", "e"))
    assert len(answers) == 2 and isinstance(answers[0], LabelMap)
    assert torch.equal(answers[1].labels.long(), out.logits[1].argmax(0))
    assert answers[0].classes == ("a", "b", "c", "d", "e")


@pytest.mark.parametrize("name", NAMES)
def test_every_parameter_learns(name: str) -> None:
    net, images = tiny(name).train(), picture(name)
    torch.manual_seed(1)
    labels = labels_for(images, 5)
    target = Target(labels.clone())
    losses = net.losses(net(images, targets=target), target)
    sum(losses.values()).backward()
    assert torch.equal(target.labels, labels)
    silent = [k for k, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert not [k for k in silent if not k.startswith(getattr(net, "IDLE", ("-",)))]  # heads a paper leaves untaught
    evaluated = net.eval().losses(seen(net, images), target)
    assert set(evaluated) == set(losses) and all(value.ndim == 0 for value in evaluated.values())


@pytest.mark.parametrize("name", NAMES)
def test_pictures_of_a_batch_are_strangers(name: str) -> None:
    net, images = tiny(name), picture(name, 3)
    assert close(seen(net, images).logits[1:2], seen(net, images[1:2]).logits)


@pytest.mark.parametrize("name", NAMES)
def test_what_lies_outside_a_pictures_size_is_not_seen(name: str) -> None:
    net, images = tiny(name), picture(name)
    whole = list(images.shape[2:])
    sizes = torch.tensor([whole, [n - lost for n, lost in zip(whole, (9, 7, 5))]])
    other = images.clone()
    other[1, :, -9:] = 0.77
    other[1, :, :, -7:] = 0.33
    if len(whole) == 3:
        other[1, ..., -5:] = 0.11
    with torch.no_grad():
        a, b = net(images, sizes=sizes).logits, net(other, sizes=sizes).logits
    assert torch.equal(a, b)
    assert close(a[:1], seen(net, images[:1]).logits)


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_network(name: str) -> None:
    def fresh() -> nn.Module:
        torch.manual_seed(7)
        return create(name, **MODELS[name].tiny).eval()

    one, two = fresh(), fresh()
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    images = picture(name)
    assert torch.equal(seen(one, images).logits, seen(two, images).logits)


@pytest.mark.parametrize("name", NAMES)
def test_one_class_and_any_channels(name: str) -> None:
    for classes, channels in ((1, 1), (3, 5)):
        net = create(name, **MODELS[name].tiny, num_classes=classes, in_channels=channels).eval()
        images = picture(name)[:, :1].repeat_interleave(channels, dim=1)
        out = seen(net, images)
        assert out.logits.shape[:2] == (2, classes)
        target = Target(labels_for(images, classes))
        assert all(bool(value.isfinite()) for value in net.losses(out, target).values())
        assert int(net.decode(out)[0].labels.max()) < max(classes, 2)


@pytest.mark.parametrize("name", NAMES)
def test_weights_go_out_and_come_back(name: str, tmp_path: Any) -> None:
    net, images = tiny(name), picture(name)
    for layout in ("sightline", *written(name)):
        path = save_weights(net, tmp_path / f"{layout}.pth", layout=layout)
        other = create(name, **MODELS[name].tiny, num_classes=5).eval()
        report = load_weights(other, path)
        assert not report.missing and not report.unexpected
        assert torch.equal(seen(other, images).logits, seen(net, images).logits)


def written(name: str) -> tuple[str, ...]:
    """The public layouts that hold the whole network."""
    papers = {
        "unet_same": "milesial",
        "unet_same_bilinear": "milesial",
        "unet_valid": "jvanvugt",
        "unet_mmseg": "mmseg",
    }
    if name == "segnet_semseg":
        return ("semseg",)
    if name.startswith("resunet_a"):
        return ("resuneta",)
    if name.startswith("attention_unet"):
        return ("oktay",) if "3d" in name else ("leejunhyun",)
    if name.startswith("transunet_"):
        return ("transunet",)
    if name.startswith(("nnunet_plain", "unet3d_wolny")):
        return ("wolny" if "wolny" in name else "nnunet",)
    if name in ("pspnet50", "pspnet101"):
        return ("semseg",)
    if name.startswith("deeplabv3plus_"):
        return (name.split("_")[1],)
    if "torchvision" in name:
        return ("torchvision",)
    return ("pytorch-fcn",) if name.startswith("fcn") else (papers[name],) if name in papers else ()


@pytest.mark.parametrize("name", NAMES)
def test_another_class_count_loads_all_but_the_head(name: str) -> None:
    net = create(name, **MODELS[name].tiny, num_classes=3)
    report = load_weights(net, tiny(name).state_dict())
    assert report.reinitialised and all(key.startswith(net.HEAD) for key in report.reinitialised)
    assert not report.missing


@pytest.mark.parametrize("name", NAMES)
def test_deterministic_weights_give_the_stored_number(name: str) -> None:
    logits = seen(tiny(name), picture(name)).logits.double()
    found = (float(logits.mean()), float(logits.std()))
    print(f'    "{name}": ({found[0]:.6g}, {found[1]:.6g}),')
    assert found == pytest.approx(STORED[name], rel=1e-4, abs=1e-6)


STORED = {  # mean and deviation of the logits
    "attention_unet": (0.348546, 0.73309),
    "attention_unet_3d": (0.0961296, 0.511271),
    "attention_unet_3d_single": (-0.0397677, 0.550883),
    "bayesian_segnet": (2.48937, 8.53106),
    "deconvnet": (0.129271, 0.668659),
    "deconvnet_ensemble": (5.75811, 19.3845),
    "deeplabv3": (0.198764, 0.192439),
    "deeplabv3_torchvision_mobilenet_v3_large": (1.87812, 3.22431),
    "deeplabv3_torchvision_r101": (7.42608, 6.15945),
    "deeplabv3_torchvision_r50": (7.42608, 6.15945),
    "deeplabv3plus": (0.22027, 0.556087),
    "deeplabv3plus_google_xception65": (0.952496, 4.97007),
    "deeplabv3plus_jfzhang95_r101": (0.485788, 3.96346),
    "deeplabv3plus_smp_r101": (1.92242, 5.24183),
    "deeplabv3plus_smp_r50": (1.92242, 5.24183),
    "deeplabv3plus_vainf_r101": (1.75726, 7.74963),
    "deeplabv3plus_vainf_r50": (1.75726, 7.74963),
    "farabet": (-0.606643, 0.932945),
    "fcn16s": (-0.00769421, 3.45727),
    "fcn32s": (0.00728814, 1.52031),
    "fcn8s": (1.63758, 13.8756),
    "fcn8s_atonce": (-0.0191912, 2.60218),
    "fcn_torchvision_r101": (-1.59116, 15.3157),
    "fcn_torchvision_r50": (-1.59116, 15.3157),
    "nnunet_plain_2d": (-0.142609, 0.918945),
    "nnunet_plain_3d": (-0.173886, 1.10545),
    "pinheiro_rcnn": (0.766335, 0.877789),
    "pspnet": (0.0697259, 0.241366),
    "pspnet101": (0.0490888, 5.08125),
    "pspnet50": (0.0490888, 5.08125),
    "resunet": (-25.1043, 40.4631),
    "resunet_a": (0.781403, 52.8218),
    "resunet_a_d6": (0.36931, 31.546),
    "resunet_a_d7": (0.0438965, 0.956255),
    "segnet": (2.48937, 8.53106),
    "segnet_basic": (2.00147, 84.4172),
    "segnet_semseg": (0.374501, 0.592408),
    "transunet": (0.9376, 1.0731),
    "transunet_r50_vit_b16": (0.104885, 0.319678),
    "transunet_r50_vit_l16": (0.104885, 0.319678),
    "transunet_vit_b16": (0.205109, 0.24779),
    "unet": (0.166426, 0.439147),
    "unet3d": (-0.249635, 0.646334),
    "unet3d_valid": (0.167667, 0.708345),
    "unet3d_wolny": (-0.123447, 1.23565),
    "unet_mmseg": (-0.140303, 0.539961),
    "unet_phseg_v5": (0.241751, 0.28024),
    "unet_same": (0.169097, 0.24541),
    "unet_same_bilinear": (0.099112, 0.102628),
    "unet_valid": (0.321572, 0.52673),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in DEEP else n for n in NAMES])
def test_compiles_without_a_graph_break(name: str) -> None:
    net, images = tiny(name), picture(name)
    torch.compiler.reset()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    assert close(seen(compiled, images).logits, seen(net, images).logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_exports_with_any_batch_height_and_width(name: str) -> None:
    least = 15 if name == "segnet_semseg" else 0  # where its pools leave a single place, a program is bound to that
    net, images = tiny(name), picture(name, larger=least)
    axes = ("depth", "height", "width")[-(images.ndim - 2) :]
    sides = [torch.export.Dim.DYNAMIC] * len(axes)  # an error when the program would take one size only
    if "unpadded" in MODELS[name].traits:
        sides = [net.step * torch.export.Dim(axis) for axis in axes]
    shapes = {0: torch.export.Dim.DYNAMIC, **dict(enumerate(sides, start=2))}
    program = torch.export.export(net, (images,), dynamic_shapes={"images": shapes})
    for other in (picture(name, 1, larger=least + 3, seed=2), picture(name, 3, larger=least + 1)):
        assert close(seen(program.module(), other).logits, seen(net, other).logits)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_learns_two_pictures_by_heart(name: str) -> None:
    torch.manual_seed(0)
    net = create(name, **MODELS[name].tiny, num_classes=3).train()
    images = picture(name) * 0.2
    labels = torch.zeros(images[:, 0].shape, dtype=torch.long)
    lost = getattr(net, "margin", 0)
    middle = slice(lost + 2, images.shape[2] - lost - 2)
    labels[0, middle, lost : images.shape[3] // 2] = 1
    labels[1, middle, images.shape[3] // 2 : images.shape[3] - lost] = 2
    images = images + 0.35 * labels[:, None]
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    first = last = 0.0
    for step in range(150):
        optimiser.zero_grad()
        out = net(images)
        loss = torch.stack(list(net.losses(out, Target(labels)).values())).sum()
        loss.backward()
        optimiser.step()
        first, last = (loss.item() if step == 0 else first), loss.item()
    assert last < 0.35 * first


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = (
        "import sys, sightline.segmentation.catalog;"
        "print([m for m in ('torch', 'torchvision', 'timm', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", NAMES)
def test_published_weights_are_records_with_a_key_map(name: str) -> None:
    origins = {key_map.origin for key_map in key_maps(tiny(name))}
    for record in MODELS[name].weights:
        assert record.url.startswith("https://") and record.sha256 in record.url and record.origin in origins
        assert record.licence != "unknown" and len(record.classes) == 21 and record.scores
