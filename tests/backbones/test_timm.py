"""timm's models under the house's contract. timm takes seconds to import, so these run in the slow tier."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sightline.backbones.build import backbone
from sightline.errors import UsageError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name",
    ["resnet18", "convnext_atto", "swin_tiny_patch4_window7_224", "mobilenetv3_small_050", "vit_tiny_patch16_224"],
)
def test_stages_say_what_the_maps_are(name: str) -> None:
    net = backbone(f"timm:{name}", in_channels=4).eval()
    side = 224 if "224" in name else 64
    with torch.inference_mode():
        maps = net(torch.rand(1, 4, side, side))
    assert list(maps) == [stage.name for stage in net.stages]
    for stage in net.stages:
        assert maps[stage.name].shape == (1, stage.channels, side // stage.stride, side // stage.stride)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_timms_own_files_go_in(name: str, tmp_path: Any) -> None:
    import timm

    whole = timm.create_model(name, pretrained=False).eval()
    torch.save(whole.state_dict(), tmp_path / "file.pth")
    net = backbone(f"timm:{name}", weights=str(tmp_path / "file.pth")).eval()
    side = 224 if "224" in name else 64
    images = torch.rand(1, 3, side, side)
    with torch.inference_mode():
        theirs = whole.forward_intermediates(images, intermediates_only=True)[-1]
        ours = net(images)[net.stages[-1].name]
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_dilation_where_timm_has_it() -> None:
    assert [stage.stride for stage in backbone("timm:resnet18", output_stride=16).stages] == [2, 4, 8, 16, 16]
    with pytest.raises(UsageError, match="does not offer output_stride 16"):
        backbone("timm:vit_tiny_patch16_224", output_stride=16)


def test_an_unknown_model_is_said_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'convnext_tiny'"):
        backbone("timm:convnext_tinny")
    with pytest.raises(UsageError, match="norm"):
        backbone("timm:resnet18", norm="group")


def test_published_weights_are_a_record() -> None:
    from sightline.backbones.timm import published

    record = published("resnet50.a1_in1k")
    assert record.url.startswith("https://huggingface.co/timm/") and record.licence == "apache-2.0"
    with pytest.raises(UsageError, match="publishes no weights"):
        published("resnet50_clip_nowhere")
