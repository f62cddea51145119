"""The twins of slow convolutions answer as the convolutions do, for any size and any order in memory."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sightline.nn import processor
from sightline.nn.processor import ByOneDnn, InPlanes, TapByTap, suit_processor


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    dilation=st.tuples(st.integers(7, 18), st.integers(7, 18)),
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([3, 5])),
    bias=st.booleans(),
)
def test_tap_by_tap_is_the_depthwise_convolution(height, width, dilation, kernel, bias):
    reach = tuple(d * (k // 2) for d, k in zip(dilation, kernel))
    plain = nn.Conv2d(4, 4, kernel, padding=reach, dilation=dilation, groups=4, bias=bias).double()
    net = nn.Sequential(plain)
    assert suit_processor(net) == 1 and isinstance(net[0], TapByTap)
    x = torch.randn(2, 4, height, width, dtype=torch.float64)
    for y in (x, x.contiguous(memory_format=torch.channels_last)):
        torch.testing.assert_close(net(y), plain(x))


def test_wide_kernels_read_planes():
    plain = nn.Conv2d(1024, 3, 3, padding=1).to(memory_format=torch.channels_last)
    net = nn.Sequential(plain)
    x = torch.randn(1, 1024, 5, 6).contiguous(memory_format=torch.channels_last)
    expected = plain(x)
    assert suit_processor(net) == 1 and isinstance(net[0], InPlanes)
    torch.testing.assert_close(net(x), expected)
    assert net(x).is_contiguous()


LAST = torch.channels_last_3d


@settings(max_examples=40, deadline=None)
@given(
    size=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    kernel=st.tuples(*[st.sampled_from([1, 3, 5])] * 3),
    stride=st.tuples(*[st.integers(1, 3)] * 3),
    depthwise=st.booleans(),
    bias=st.booleans(),
)
def test_onednn_by_name_is_the_convolution(size, kernel, stride, depthwise, bias):
    reach = tuple(k // 2 for k in kernel)
    plain = nn.Conv3d(4, 8, kernel, stride, reach, groups=4 if depthwise else 1, bias=bias).requires_grad_(False)
    net = nn.Sequential(ByOneDnn(plain))
    x = torch.randn(2, 4, *size)
    for y in (x, x.contiguous(memory_format=LAST)):
        found = net(y)
        torch.testing.assert_close(found, plain(x), rtol=1e-5, atol=1e-5)
        assert found.is_contiguous(memory_format=LAST) or found[0, 0].numel() == 1
    torch.testing.assert_close(net(x[0]), plain(x[0]))  # a clip without a batch


def test_only_processors_with_its_kernels_are_asked(monkeypatch):
    for known in (True, False):
        monkeypatch.setattr(processor, "ONE_DNN", known)
        assert suit_processor(nn.Sequential(nn.Conv3d(4, 8, (3, 1, 1)), nn.ReLU())) == int(
            known and torch.backends.mkldnn.is_available()
        )


def test_pools_after_a_convolution_find_their_channels_last():
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.ReLU(inplace=True), nn.MaxPool3d(2)).requires_grad_(False)
    x = torch.randn(1, 3, 4, 6, 6)
    expected = net(x)
    net[0] = ByOneDnn(net[0])
    assert net(x).is_contiguous(memory_format=LAST)
    torch.testing.assert_close(net(x), expected)


def test_graphs_and_lower_precisions_keep_the_convolution():
    net = nn.Sequential(nn.Conv3d(3, 4, 3, padding=1)).requires_grad_(False)
    x = torch.randn(1, 3, 4, 5, 5)
    expected = net(x)
    net[0] = ByOneDnn(net[0])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert net(x).dtype == torch.bfloat16
    program = torch.export.export(net, (x,))
    assert not any("mkldnn" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), expected)
    whole = torch.compile(net, fullgraph=True, backend="eager")
    torch.testing.assert_close(whole(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "left_alone",
    [
        nn.Conv2d(8, 8, 3, padding=6, dilation=6, groups=8),  # near enough
        nn.Conv2d(8, 8, 3, padding=8, dilation=8, groups=4),  # not depthwise
        nn.Conv2d(8, 16, 3, padding=8, dilation=8, groups=8),  # two answers a channel
        nn.Conv2d(8, 8, 3, padding=0, dilation=8, groups=8),  # the map shrinks
        nn.Conv2d(8, 8, 3, padding=8, dilation=8, groups=8, stride=2),
        nn.Conv2d(8, 8, 3, padding=8, dilation=8, groups=8, padding_mode="circular"),
        nn.Conv2d(8, 8, 4, padding=16, dilation=8, groups=8),  # an even kernel has no middle
        nn.Conv2d(2048, 8, 1),
        nn.Conv2d(512, 8, 3),
        nn.Conv2d(1024, 8, 3, padding=2, dilation=2),
        nn.Conv3d(4, 4, 3, padding="same"),
        nn.Conv3d(4, 4, 3, padding=1, padding_mode="replicate"),
        nn.Conv3d(4, 4, 3, padding=1, dtype=torch.float64),
    ],
)
def test_other_convolutions_stay(left_alone):
    assert suit_processor(nn.Sequential(left_alone)) == 0
