"""Parameter groups and schedules."""

import math
from dataclasses import replace

import pytest
from toy_task import fresh

from sightline.errors import UsageError
from sightline.training.optim import lr_factor, make_optimizer, parameter_groups, set_lr
from sightline.training.plan import Plan, differences


def groups_of(net, **options):
    names = {id(p): name for name, p in net.named_parameters()}
    groups = parameter_groups(net, **({"weight_decay": 0.1, "lr_groups": {}} | options))
    return {names[id(p)]: (g["factor"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_norms_and_biases_are_not_decayed():
    found = groups_of(fresh())
    assert found == {
        "stem.weight": (1, 0.1), "stem.bias": (1, 0), "norm.weight": (1, 0), "norm.bias": (1, 0),
        "head.weight": (1, 0.1), "head.bias": (1, 0),
    }  # fmt: skip


def test_the_longest_prefix_gives_the_factor_and_frozen_parameters_are_left_out():
    net = fresh()
    net.norm.weight.requires_grad_(False)
    found = groups_of(net, lr_groups={"head": 10.0, "head.bias": 20.0, "stem.": 0.5})
    assert found["head.weight"] == (10, 0.1) and found["head.bias"] == (20, 0) and found["stem.weight"] == (0.5, 0.1)
    assert "norm.weight" not in found


def test_a_prefix_without_parameters_is_named():
    with pytest.raises(
        UsageError, match=r"begins with 'heat'; this network's parts are head, norm, stem. Did you mean 'head'"
    ):
        groups_of(fresh(), lr_groups={"heat": 1.0})
    with pytest.raises(UsageError, match="begins with 'hea'"):  # whole names only
        groups_of(fresh(), lr_groups={"hea": 1.0})


def test_nothing_to_train_is_a_sentence():
    net = fresh().requires_grad_(False)
    with pytest.raises(UsageError, match="Net has no trainable parameter"):
        make_optimizer(net, Plan(steps=1))


def test_schedules_by_hand():
    assert lr_factor("constant", 99, steps=100) == 1
    assert lr_factor("poly", 0, steps=100) == 1 and lr_factor("poly", 50, steps=100) == 0.5**0.9
    assert lr_factor("cosine", 25, steps=100) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert [lr_factor("step", s, steps=90) for s in (0, 59, 60, 79, 80, 89)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    assert [lr_factor("constant", s, steps=9, warmup=3) for s in range(5)] == [0.25, 0.5, 0.75, 1, 1]
    assert lr_factor("cosine", 3, steps=9, warmup=3) == 1 and lr_factor(
        "cosine", 6, steps=9, warmup=3
    ) == pytest.approx(0.5)
    assert lr_factor("poly", 200, steps=100) == 0  # a plan that was shortened


def test_every_group_gets_its_rate():
    plan = Plan(steps=10, lr=0.1, schedule="poly", lr_groups={"head": 10.0}, optimizer="sgd")
    optimizer = make_optimizer(fresh(), plan)
    assert set_lr(optimizer, plan, 5) == pytest.approx(0.1 * 0.5**0.9)
    assert {round(g["lr"] / (0.1 * 0.5**0.9), 9) for g in optimizer.param_groups} == {1, 10}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optimizer": "sdg"}, "optimizer='sdg': expected one of sgd, adamw, adam. Did you mean 'sgd'?"),
        ({"schedule": "linear"}, "schedule='linear': expected one of poly, cosine, step, constant."),
        ({"batch_size": 0}, "batch_size=0: expected a number of at least 1"),
        ({"lr": -1.0}, "lr=-1.0: expected a number of at least 0"),
        ({"ema": 1.0}, "ema=1.0: expected a decay from 0"),
        ({"steps": "many"}, "steps='many': expected a number of at least 0"),
    ],
)
def test_a_wrong_value_of_a_plan_is_named(values, words):
    with pytest.raises(UsageError) as caught:
        Plan(**({"steps": 1} | values))
    assert str(caught.value).startswith(words)


def test_only_what_changes_the_numbers_is_a_difference():
    plan = Plan(steps=10)
    assert differences(plan.as_dict(), replace(plan, workers=4, save_seconds=1.0)) == []
    assert differences(plan.as_dict(), replace(plan, seed=4)) == ["seed was 0 when this run began and is 4 now"]
