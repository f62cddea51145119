"""`load`, `load_weights` and `save_weights`: what was trained comes back, bit by bit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.contracts import Entry
from sightline.errors import SightlineError, UsageError
from sightline.verbs.load import key_maps, load, load_weights, model_folder, save_weights
from sightline.verbs.models import create


def test_a_run_opens_as_its_best_state(tiny_run: Path) -> None:
    net, card = load(tiny_run)
    assert not net.training
    assert model_folder(tiny_run) == tiny_run / "best"
    assert model_folder(tiny_run / "last") == tiny_run / "last"
    stored = load_file(tiny_run / "best" / "model.safetensors")
    assert all(torch.equal(stored[k], v) for k, v in net.state_dict().items())
    assert card.classes == ("background", "disc", "square", "triangle")
    assert card.arguments["width"] == 4
    torch.testing.assert_close(net.normalize.mean.flatten(), torch.tensor(card.arguments["mean"]))


def test_the_last_state_stands_in_for_a_best_one(tiny_run: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "best" / "model.safetensors").unlink()
    net, _ = load(run)
    stored = load_file(run / "last" / "model.safetensors")
    assert all(torch.equal(stored[k], v) for k, v in net.state_dict().items())
    (run / "last" / "model.safetensors").unlink()
    with pytest.raises(SightlineError, match="has no trained state yet; resume it: sightline train resume="):
        load(run)


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no run at"):
        load(tmp_path / "absent")
    with pytest.raises(UsageError, match="is not a run"):
        load(tmp_path)
    with pytest.raises(UsageError, match="there is no file"):
        load(tmp_path / "absent.onnx")


@pytest.mark.parametrize("layout", ["sightline", "jvanvugt", "milesial"])
def test_weights_go_out_and_come_back(layout: str, tmp_path: Path) -> None:
    name = {"jvanvugt": "unet_valid", "milesial": "unet_same"}.get(layout, "unet")
    torch.manual_seed(1)
    net = create(name, width=4, depth=3)
    path = save_weights(net, tmp_path / "weights.pth", layout=layout)
    other = create(name, width=4, depth=3)
    report = load_weights(other, path)
    assert report.origin == layout
    assert (report.missing, report.unexpected) == ((), ())
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in other.state_dict().items())


def test_a_layout_that_is_not_known_is_told(tmp_path: Path) -> None:
    net = create("unet", width=4, depth=3)
    with pytest.raises(UsageError, match="layout"):
        save_weights(net, tmp_path / "weights.pth", layout="torchvison")
    assert list(tmp_path.iterdir()) == []
    assert {m.origin for m in key_maps(net)} >= {"smp"}


def test_another_class_count_loads_all_but_the_head(tiny_run: Path) -> None:
    net = create("unet", num_classes=7, width=4, depth=3)
    report = load_weights(net, tiny_run / "best" / "model.safetensors")
    assert set(report.reinitialised) == {"head.weight", "head.bias"}
    assert "4" in report.reinitialised["head.weight"]
    with pytest.raises(SightlineError):
        load_weights(create("unet", num_classes=4, width=8, depth=3), tiny_run / "best" / "model.safetensors")


def test_create_takes_an_entry_and_weights(tiny_run: Path) -> None:
    mine = Entry(build="sightline.segmentation.models.unet:unet", task="segmentation", paper="", parameters=0)
    path = str(tiny_run / "last" / "model.safetensors")
    net = create(mine, num_classes=4, width=4, depth=3, weights=path)
    assert all(torch.equal(v, net.state_dict()[k]) for k, v in load_file(path).items())
    with pytest.raises(UsageError, match="Did you mean 'depth'"):
        create(mine, detph=3)
