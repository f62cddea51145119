"""Folding against a slow reference, and every reason not to fold."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sightline.nn.conv import FrozenBatchNorm2d
from sightline.nn.fold import fold_batch_norm
from sightline.nn.normalize import Normalize


def stir(net: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics and scales of a norm that has seen something."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        for name, low, high in (
            ("running_mean", -1.0, 1.0),
            ("running_var", 0.3, 3.0),
            ("weight", -2.0, 2.0),
            ("bias", -1.0, 1.0),
        ):
            value = getattr(module, name, None)
            if isinstance(value, Tensor) and hasattr(module, "running_var"):
                value.data.copy_(torch.rand(value.shape, generator=generator) * (high - low) + low)
    return net.eval()


def slow(convolution: nn.Module, norm: nn.Module, x: Tensor) -> Tensor:
    """The pair one channel at a time, in float64."""
    y = convolution.double()(x.double())
    out = torch.empty_like(y)
    for c in range(y.shape[1]):
        mean, variance = norm.running_mean[c].double().item(), norm.running_var[c].double().item()
        scale = norm.weight[c].double().item() / (variance + norm.eps) ** 0.5
        out[:, c] = (y[:, c] - mean) * scale + norm.bias[c].double().item()
    convolution.float()
    return out.detach()


def norms(net: nn.Module) -> int:
    return sum(hasattr(m, "running_var") for m in net.modules())


PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module], tuple[int, ...]]] = {
    "with bias": (lambda: nn.Conv2d(3, 6, 3), lambda: nn.BatchNorm2d(6), (2, 3, 7, 8)),
    "without bias": (lambda: nn.Conv2d(3, 6, 3, bias=False), lambda: nn.BatchNorm2d(6), (2, 3, 7, 8)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), lambda: nn.BatchNorm2d(8), (2, 4, 7, 8)),
    "transposed": (lambda: nn.ConvTranspose2d(3, 6, 3, 2), lambda: nn.BatchNorm2d(6), (2, 3, 5, 4)),
    "transposed, grouped": (
        lambda: nn.ConvTranspose2d(4, 6, 3, 2, groups=2, bias=False),
        lambda: nn.BatchNorm2d(6),
        (2, 4, 5, 4),
    ),
    "frozen": (lambda: nn.Conv2d(3, 6, 3), lambda: FrozenBatchNorm2d(6), (2, 3, 7, 8)),
    "1-d": (lambda: nn.Conv1d(3, 6, 3), lambda: nn.BatchNorm1d(6), (2, 3, 9)),
    "3-d": (lambda: nn.Conv3d(2, 4, 3), lambda: nn.BatchNorm3d(4), (2, 2, 5, 6, 4)),
    "3-d, transposed": (lambda: nn.ConvTranspose3d(2, 4, 2, 2), lambda: nn.BatchNorm3d(4), (2, 2, 3, 2, 4)),
    "linear": (lambda: nn.Linear(5, 7), lambda: nn.BatchNorm1d(7), (4, 5)),
    "synchronised": (lambda: nn.Conv2d(3, 6, 3), lambda: nn.SyncBatchNorm(6), (2, 3, 7, 8)),
    "instance norm with stored statistics": (
        lambda: nn.Conv1d(3, 6, 3),
        lambda: nn.InstanceNorm1d(6, affine=True, track_running_stats=True),
        (2, 3, 9),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_becomes_one_convolution(name: str) -> None:
    make, norm, shape = PAIRS[name]
    torch.manual_seed(0)
    net = stir(nn.Sequential(make(), norm(), nn.ReLU()))
    x = torch.randn(shape)
    expected = slow(net[0], net[1], x).relu()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    twin, count = fold_batch_norm(net, x)
    assert (count, norms(twin)) == (1, 0)
    torch.testing.assert_close(twin(x).double(), expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())  # the network itself is as it was


def test_channels_last_weights_fold_too() -> None:
    torch.manual_seed(0)
    net = stir(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 3)))
    net = net.to(memory_format=torch.channels_last)
    x = torch.randn(2, 4, 6, 5)
    twin, count = fold_batch_norm(net, x)
    assert count == 1
    torch.testing.assert_close(twin(x), net(x), rtol=1e-4, atol=1e-5)


class Net(nn.Module):
    """One pair that something stands in the way of."""

    def __init__(self, way: Callable[[Net, Tensor], object]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.way = way

    def forward(self, x: Tensor) -> object:
        return self.way(self, x)


def shared_convolution(net: Net, x: Tensor) -> Tensor:
    return net.norm(net.conv(x)) + net.conv(2 * x)


def shared_norm(net: Net, x: Tensor) -> Tensor:
    return net.norm(net.conv(x)) + net.norm(2 * x)


def read_twice(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + y


def read_by_a_method(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + y.mean((2, 3), keepdim=True)


def read_turned(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + y.mT.mT


def read_bare(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + y.data


def read_in_a_list(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    return net.norm(y) + torch.cat([x, y], dim=1)[:, 3:]


def answered(net: Net, x: Tensor) -> dict[str, Tensor]:
    y = net.conv(x)
    return {"normed": net.norm(y), "raw": y}


def something_between(net: Net, x: Tensor) -> Tensor:
    return net.norm(F.relu(net.conv(x)))


def changed_in_place(net: Net, x: Tensor) -> Tensor:
    y = net.conv(x)
    y.relu_()
    return net.norm(y)


def norm_first(net: Net, x: Tensor) -> Tensor:
    return net.conv(net.norm(x))


@pytest.mark.parametrize(
    "way",
    [
        shared_convolution, shared_norm, read_twice, read_by_a_method, read_turned, read_bare, read_in_a_list, answered,
        something_between, changed_in_place, norm_first,
    ],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_what_cannot_be_folded_stays(way: Callable[[Net, Tensor], object]) -> None:
    torch.manual_seed(0)
    net = stir(Net(way))
    x = torch.randn(2, 3, 5, 6)
    twin, count = fold_batch_norm(net, x)
    assert (count, norms(twin)) == (0, 1)
    ours, theirs = twin(x), net(x)
    for a, b in zip(ours.values(), theirs.values()) if isinstance(ours, dict) else [(ours, theirs)]:
        assert torch.equal(a, b)


def test_asking_for_the_shape_is_not_reading() -> None:
    def asking(net: Net, x: Tensor) -> Tensor:
        y = net.conv(x)
        assert y.dtype == torch.float32
        assert y.device == x.device
        return net.norm(y) * y.shape[0] / y.size(0) * y.dim() / y.ndim

    net = stir(Net(asking))
    assert fold_batch_norm(net, torch.randn(2, 3, 5, 6))[1] == 1


class Standardised(nn.Conv2d):
    """Weight standardisation: the kernel is not the parameter."""

    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.std((1, 2, 3), keepdim=True)
        return F.conv2d(x, w, self.bias)


class NormAndActivation(nn.BatchNorm2d):
    """A norm with its activation inside, as some packages have it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


@pytest.mark.parametrize("kind", ["standardised", "parametrised", "weight norm", "activation inside", "no batch axis"])
def test_pairs_that_only_look_like_one_stay(kind: str) -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)
    x = torch.randn(2, 3, 7, 8)
    if kind == "standardised":
        convolution = Standardised(3, 6, 3)
    elif kind == "parametrised":
        convolution = nn.utils.parametrizations.weight_norm(convolution)
    elif kind == "weight norm":
        nn.utils.parametrizations.spectral_norm(convolution)
    elif kind == "activation inside":
        norm = NormAndActivation(6)
    else:
        convolution, norm, x = nn.Linear(4, 4), nn.BatchNorm1d(4), torch.randn(2, 4, 4)  # the channels stand elsewhere
    net = stir(nn.Sequential(convolution, norm))
    twin, count = fold_batch_norm(net, x)
    assert count == 0
    assert torch.equal(twin(x), net(x))


def test_a_row_of_pairs_folds_each_and_shared_parameters_stay_apart() -> None:
    torch.manual_seed(0)
    one, other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    other.weight = one.weight
    net = stir(nn.Sequential(Normalize((0.5,) * 3, (0.2,) * 3), one, nn.BatchNorm2d(3), other, nn.BatchNorm2d(3)))
    x = torch.rand(1, 3, 6, 6)
    twin, count = fold_batch_norm(net, x)
    assert (count, norms(twin)) == (2, 0)
    torch.testing.assert_close(twin(x), net(x), rtol=1e-4, atol=1e-4)
