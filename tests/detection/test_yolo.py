"""What is special to the YOLO networks: darknet's files, its order of channels, who answers for an object."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.detection.contract import Target
from sightline.detection.darknet import cfg_text, parse, reorg
from sightline.detection.models.yolov1 import Cells
from sightline.detection.models.yolov2 import Region
from sightline.detection.models.yolov3 import Scale
from sightline.detection.yolo import Truth, Yolo
from sightline.errors import SightlineError
from sightline.verbs.load import load_weights, save_weights
from sightline.verbs.models import create


def small() -> Yolo:
    torch.manual_seed(3)
    return create("yolov3_tiny", num_classes=3, width=4).eval()


def test_a_file_goes_out_and_comes_back(tmp_path: Path) -> None:
    net = small()
    for layer in net.body.layers:
        if getattr(layer, "norm", None) is not None:
            layer.norm.running_mean.normal_()
            layer.norm.running_var.uniform_(0.5, 2)
    net.seen.fill_(4096)
    path = save_weights(net, tmp_path / "net.weights")
    major, minor, _, seen = struct.unpack_from("<3iQ", path.read_bytes())
    assert (major, minor, seen) == (0, 2, 4096)
    other = create("yolov3_tiny", num_classes=3, width=4).eval()
    report = load_weights(other, path)
    assert not report.missing and not report.unexpected and int(other.seen) == 4096
    images = torch.rand(1, 3, 64, 96)
    assert all(torch.equal(a, b) for a, b in zip(net.body(images), other.body(images)))


def test_files_of_another_version(tmp_path: Path) -> None:
    net = create("yolov1_tiny", num_classes=2, size=64, width=2)
    content = save_weights(net, tmp_path / "new.weights").read_bytes()[20:]
    (tmp_path / "old.weights").write_bytes(struct.pack("<4i", 0, 1, 0, 77) + content)
    other = create("yolov1_tiny", num_classes=2, size=64, width=2)
    load_weights(other, tmp_path / "old.weights")
    assert int(other.seen) == 77
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    last = other.darknet_tensors()[-1]
    assert last.connected
    count = int(np.prod(last.shape))
    matrix = np.frombuffer(content[-4 * count :], np.float32).reshape(last.shape)
    turned = content[: -4 * count] + np.ascontiguousarray(matrix.T).tobytes()
    (tmp_path / "turned.weights").write_bytes(struct.pack("<3iQ", 0, 1001, 0, 0)[:16] + turned)
    load_weights(other, tmp_path / "turned.weights")
    assert torch.equal(dict(other.named_parameters())[last.name], torch.from_numpy(matrix.copy()))


@pytest.mark.parametrize("content", [b"", b"\0" * 15, b"\0" * 400])
def test_a_file_of_another_network_is_refused_in_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "wrong.weights"
    path.write_bytes(content)
    net = small()
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(SightlineError, match=r"wrong\.weights"):
        load_weights(net, path)
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


def test_the_text_of_a_cfg_builds_the_same_network() -> None:
    net = small()
    text = "[net]\nheight=64\nwidth=64\nchannels=3\n\n" + cfg_text(net.body.sections)
    other = create("darknet", cfg=text).eval()
    other.load_state_dict(net.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(images).found.boxes, net(images).found.boxes)
    seven = create("darknet", cfg=text, num_classes=7)
    assert seven.num_classes == 7 and seven(images).found.labels.max() < 7


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello", "line 1"), ("[net]\n[convolutional]\nfilters=many\n[yolo]\nanchors=1,1", "filters=many"),
        ("[net]\n[crnn]\n", r"\[crnn\]"), ("[convolutional]\nfilters=1", r"\[net\]"), ("", r"\[net\]"),
        ("[net]\n[convolutional]\nfilters=2\nactivation=linear\n[route]\nlayers=5\n[yolo]\nanchors=1,1", "before it"),
        ("[net]\n[convolutional]\nfilters=2\nactivation=linear", "no head"),
    ],
)  # fmt: skip
def test_a_bad_cfg_is_one_sentence(text: str, words: str) -> None:
    with pytest.raises(SightlineError, match=words):
        if "[" in text:
            create("darknet", cfg=text)
        else:
            parse(text)


def test_reorg_is_the_c_programs_loop() -> None:
    x, stride = torch.arange(2 * 8 * 4 * 6.0).view(2, 8, 4, 6), 2
    b, c, h, w = x.shape
    expected = torch.zeros(b, c, h, w).flatten()
    small_c = c // stride**2
    for image in range(b):
        for k in range(c):
            for j in range(h):
                for i in range(w):
                    at = i + w * (j + h * (k + c * image))
                    k2, offset = k % small_c, k // small_c
                    i2, j2 = i * stride + offset % stride, j * stride + offset // stride
                    other = i2 + w * stride * (j2 + h * stride * (k2 + small_c * image))
                    expected[at] = x.flatten()[other]
    assert torch.equal(reorg(x, stride).flatten(), expected)


def truth(boxes: list[list[float]], labels: list[int]) -> Truth:
    return Truth(torch.tensor([boxes]), torch.tensor([labels]), torch.ones(1, len(labels)).bool())


def test_objects_in_one_cell_first_or_last() -> None:
    two = truth([[0.6, 0.6, 0.2, 0.2], [0.62, 0.62, 0.2, 0.2]], [0, 2])
    assert Cells(4, 3).cell_truth(two)[0].max() == 0  # version 1: the first
    region = Region(((1.0, 1.0),), 3)
    raw = torch.zeros(1, 8, 4, 4)
    first = region.losses(raw, truth([[0.6, 0.6, 0.2, 0.2]], [0]), (128, 128), 1e9)
    last = region.losses(raw, truth([[0.62, 0.62, 0.2, 0.2]], [2]), (128, 128), 1e9)
    both = region.losses(raw, two, (128, 128), 1e9)
    assert torch.allclose(both["boxes"], last["boxes"]) and not torch.allclose(both["boxes"], first["boxes"])
    several = Scale(((26.0, 26.0),), (0,), 3)  # version 3: the last box, and both classes
    classes = several.losses(raw, two, (128, 128), 0)["classes"]
    assert torch.allclose(classes, torch.tensor(3 * 0.6931472))


def test_an_object_at_the_border_or_beyond_has_no_cell() -> None:
    edge = truth([[1.0, 0.5, 0.2, 0.2]], [0])
    for head, raw in ((Region(((1.0, 1.0),), 3), torch.zeros(1, 8, 4, 4)), (Cells(4, 3), torch.zeros(1, 16 * 13))):
        assert all(bool(v.isfinite()) for v in head.losses(raw, edge, (128, 128), 0).values())


@pytest.mark.parametrize("values", [{"loss": "cross_entropy"}, {"conditional": False}])
def test_options_of_the_first_version_learn(values: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = create("yolov1_tiny", num_classes=2, size=64, width=2, **values).train()
    images = torch.rand(2, 3, 64, 64)
    target = Target(torch.tensor([[[8.0, 8, 40, 40]], [[20, 20, 52, 60]]]), torch.tensor([[0], [1]]))
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3)
    values_ = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = torch.stack(list(net.losses(net(images, targets=target), target).values())).sum()
        loss.backward()
        optimiser.step()
        values_.append(loss.item())
    assert values_[-1] < 0.5 * values_[0]
