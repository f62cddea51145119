"""Two processes over gloo: the same samples as one with twice the batch, the same bits after a resume."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from children import finish, start
from safetensors.torch import load_file
from toy_task import Stripes, blocks_in_two_parts, broken_off, fresh, train

from sightline.errors import SightlineError, UsageError
from sightline.training.checkpoint import Checkpoints
from sightline.training.log import read_metrics
from sightline.training.parallel import Crew
from sightline.training.plan import Plan

PLAN = Plan(
    steps=7, batch_size=2, accumulate=2, lr=1e-2, clip=1.0, save_every=3, validate_every=3, log_every=2,
    devices=2, device="cpu",
)  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def assert_same(a: Path, b: Path) -> None:
    left, right = weights(a), weights(b)
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_two_processes_resume_to_the_same_bits(tmp_path, distribution):
    plan = replace(PLAN, distribution=distribution, ema=0.9)
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert finish(start(train, straight, plan, world=2)) == [0, 0]
    assert finish(start(broken_off, broken, plan, 18, world=2)) != [0, 0]
    assert max(Checkpoints(broken / "state", Crew(torch.device("cpu"))).steps()) == 3
    assert finish(start(train, broken, plan, True, world=2)) == [0, 0]
    assert_same(straight, broken)
    kinds = [(r["kind"], r["step"], r.get("loss")) for r in read_metrics(straight / "metrics.jsonl")]
    assert kinds == [(r["kind"], r["step"], r.get("loss")) for r in read_metrics(broken / "metrics.jsonl")]
    assert [step for kind, step, _ in kinds if kind == "val"] == [3, 6, 7]


def test_a_checkpoint_of_two_processes_opens_on_one(tmp_path):
    plan = replace(PLAN, distribution="fsdp2", steps=1)
    assert finish(start(train, tmp_path, plan, world=2)) == [0, 0]
    saved = Checkpoints(tmp_path / "state", Crew(torch.device("cpu"))).load()
    assert saved is not None and saved[1]["step"] == 1
    last = weights(tmp_path)
    assert all(torch.equal(saved[0][f"net/{name}"], tensor) for name, tensor in last.items())
    assert saved[0]["optimizer/head.weight/exp_avg"].shape == last["head.weight"].shape
    alone = replace(plan, distribution="none", devices=1, batch_size=4, steps=2)
    train(tmp_path, alone, True)  # goes on, on one process
    assert not torch.equal(weights(tmp_path)["head.weight"], last["head.weight"])


@pytest.mark.parametrize("distribution", ["ddp", "fsdp2"])
def test_two_processes_learn_what_one_learns_with_twice_the_batch(tmp_path, distribution):
    """Not bit for bit (sums are taken in another order), and only without batch norm, which sees each share alone."""
    plan = replace(PLAN, optimizer="sgd", lr=0.1, distribution=distribution, validate_every=0)
    assert finish(start(train, tmp_path / "two", plan, False, True, world=2)) == [0, 0]
    one = replace(plan, batch_size=4, devices=1, distribution="none")
    train(tmp_path / "one", one, False, True)
    two, alone = weights(tmp_path / "two"), weights(tmp_path / "one")
    for name in alone:
        torch.testing.assert_close(two[name], alone[name])
    losses = [[r["loss"] for r in read_metrics(tmp_path / n / "metrics.jsonl") if "loss" in r] for n in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_blocks_are_sharded_and_compute_the_same():
    assert finish(start(blocks_in_two_parts, world=2)) == [0, 0]


def test_a_damaged_folder_falls_back_to_the_one_before(tmp_path):
    plan = replace(PLAN, distribution="fsdp2", steps=2, save_every=1)
    assert finish(start(train, tmp_path, plan, world=2)) == [0, 0]
    checkpoints = Checkpoints(tmp_path / "state", Crew(torch.device("cpu")))
    part = next(checkpoints.steps()[2].glob("*.distcp"))
    part.write_bytes(part.read_bytes()[:100])
    saved = checkpoints.load()
    assert saved is not None and saved[1]["step"] == 1


def test_processes_that_torchrun_did_not_start_are_missed(tmp_path):
    with pytest.raises(UsageError, match="needs 2 processes and this is the only one"):
        train(tmp_path, replace(PLAN, distribution="ddp"))


def test_a_file_that_asks_for_code_is_no_checkpoint(tmp_path):
    import pickle

    folder = tmp_path / "state" / "step-00000001"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"format": 1}')

    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    (folder / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(SightlineError, match=r"no checkpoint can be read.*no checkpoint needs"):
        Checkpoints(tmp_path / "state", Crew(torch.device("cpu"))).load()
    assert not (tmp_path / "owned").exists()


def test_the_toy_task_is_what_these_tests_think():
    assert len(Stripes()) == 11 and sum(p.numel() for p in fresh().parameters()) == 130
