"""Any feature-extracting model of timm as a backbone, `timm:<name>`. timm is imported when one is made, not before."""

from __future__ import annotations

import re
import warnings
from typing import Any

from torch import Tensor, nn

from sightline.backbones.contract import Stage
from sightline.contracts import PublishedWeights
from sightline.errors import UsageError, did_you_mean
from sightline.weights.keymap import KeyMap


class TimmBackbone(nn.Module):
    """timm's model under the house's contract: stages are timm's module names, maps `(B, C, H, W)`.

    name: as timm spells it, with or without a tag of pretrained weights ("convnext_tiny", "resnet50.a1_in1k").
    output_stride: 8, 16 or 32; below 32 only for models of timm that can dilate.
    Raises `UsageError` for a name timm does not have, or a model that gives no features or cannot dilate.
    """

    def __init__(self, name: str, *, in_channels: int = 3, output_stride: int = 32) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            raise UsageError(f"timm has no model '{name}'.{did_you_mean(name.split('.')[0], timm.list_models())}")
        self.name = name
        dilated: dict[str, Any] = {} if output_stride == 32 else {"output_stride": output_stride}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about its own older names
                self.model = timm.create_model(
                    name, pretrained=False, features_only=True, in_chans=in_channels, **dilated
                )
        except (TypeError, AssertionError, NotImplementedError, RuntimeError, AttributeError) as error:
            wish = f"output_stride {output_stride}" if dilated else "feature maps"
            raise UsageError(f"timm's '{name}' does not offer {wish}; choose another backbone") from error
        info: Any = self.model.feature_info
        self.stages = tuple(
            Stage(stage, channels, stride)
            for stage, channels, stride in zip(info.module_name(), info.channels(), info.reduction())
        )
        self.channels_last = str(getattr(self.model, "output_fmt", "")).endswith("NHWC")

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """`(B, C, H, W)` to the maps of `stages`."""
        maps = self.model(images)
        if self.channels_last:
            maps = [x.permute(0, 3, 1, 2).contiguous() for x in maps]
        return {stage.name: x for stage, x in zip(self.stages, maps)}

    def key_map(self) -> KeyMap:
        """How timm's own files name this model's tensors; its feature form flattens some names (stem.0 to stem_0)."""
        from timm.models._features import FeatureGetterNet

        if isinstance(self.model, FeatureGetterNet):
            return KeyMap("timm", (("{rest}", "model.model.{rest}"),))
        flat = [re.fullmatch(r"(\w+)_(\d+)", child) for child, _ in self.model.named_children()]
        rows = [(f"{m[1]}.{m[2]}.{{rest}}", f"model.{m[0]}.{{rest}}") for m in flat if m]
        return KeyMap("timm", (*rows, ("{rest}", "model.{rest}")))


def published(name: str) -> PublishedWeights:
    """timm's record of the weights that belong to `name`; `UsageError` when it publishes none."""
    import timm

    config = timm.get_pretrained_cfg(name)
    if config is None or not (config.hf_hub_id or config.url):
        raise UsageError(f"timm publishes no weights for '{name}'; leave weights out or name a file")
    file = config.hf_hub_filename or "model.safetensors"
    url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/{file}" if config.hf_hub_id else str(config.url)
    return PublishedWeights(
        name=f"timm_{name.replace('.', '_')}",
        url=url,
        licence=config.license or "unknown",
        trained_on=f"timm's tag '{config.tag}'" if config.tag else "",
        origin="timm",
    )
