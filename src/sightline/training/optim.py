"""Optimisers with their parameter groups, and learning-rate schedules as pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from sightline.errors import UsageError, did_you_mean
from sightline.training.plan import Plan, ScheduleName


def parameter_groups(net: nn.Module, *, weight_decay: float, lr_groups: Mapping[str, float]) -> list[dict]:
    """The trainable parameters by learning-rate factor (the longest prefix of the name wins) and weight decay.

    Parameters of one dimension or none (biases, norms, scales) are not decayed.
    """
    named = [(name, p) for name, p in net.named_parameters() if p.requires_grad]
    for prefix in lr_groups:
        if not any(_below(name, prefix) for name, _ in named):
            parts = {name.split(".")[0] for name, _ in named}
            raise UsageError(
                f"lr_groups: no trainable parameter's name begins with '{prefix}'; "
                f"this network's parts are {', '.join(sorted(parts))}.{did_you_mean(prefix, parts)}"
            )
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in named:
        prefixes = [p for p in lr_groups if _below(name, p)]
        factor = lr_groups[max(prefixes, key=len)] if prefixes else 1.0
        decay = weight_decay if parameter.ndim > 1 else 0.0
        group = groups.setdefault((factor, decay), {"params": [], "weight_decay": decay, "factor": factor})
        group["params"].append(parameter)
    return list(groups.values())


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix.rstrip(".") + ".")


def make_optimizer(net: nn.Module, plan: Plan) -> Optimizer:
    """The plan's optimiser over the trainable parameters of `net`."""
    groups = parameter_groups(net, weight_decay=plan.weight_decay, lr_groups=plan.lr_groups)
    if not groups:
        raise UsageError(f"{type(net).__name__} has no trainable parameter: nothing would be learned; unfreeze some")
    if plan.optimizer == "sgd":
        return SGD(groups, lr=plan.lr, momentum=plan.momentum)
    if plan.optimizer == "adam":
        return Adam(groups, lr=plan.lr)
    return AdamW(groups, lr=plan.lr)


def lr_factor(schedule: ScheduleName, step: int, *, steps: int, warmup: int = 0) -> float:
    """What the learning rate is multiplied with in step `step` (from 0) of `steps`.

    poly: (1 - t)^0.9 (Chen et al. 2017, DeepLab); cosine: half a wave down to 0 (Loshchilov and Hutter 2017);
    step: a tenth after 2/3 and again after 8/9 of the way (as 60k and 80k of 90k); constant: 1. `t` runs from 0
    to 1 after the warm-up, in which the factor rises linearly to 1.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    t = (step - warmup) / max(1, steps - warmup)
    if schedule == "poly":
        return (1 - min(t, 1.0)) ** 0.9
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * min(t, 1.0)))
    if schedule == "step":
        return 1.0 if t < 2 / 3 else 0.1 if t < 8 / 9 else 0.01
    return 1.0


def set_lr(optimizer: Optimizer, plan: Plan, step: int) -> float:
    """Give every group the learning rate of this step, and return the base rate."""
    lr = plan.lr * lr_factor(plan.schedule, step, steps=plan.steps, warmup=plan.warmup)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["factor"]
    return lr
