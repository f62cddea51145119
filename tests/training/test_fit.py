"""The loop: it learns, and what is interrupted and resumed ends with the same bits."""

import json
import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from toy_task import Bomb, Deadly, Net, Out, Stripes, collate, fresh, score

from sightline.errors import SightlineError, UsageError
from sightline.training.checkpoint import Checkpoints
from sightline.training.device import numerics
from sightline.training.fit import History, fit, smaller_batch
from sightline.training.log import read_metrics
from sightline.training.plan import Plan
from sightline.training.sampler import sample_at

PLAN = Plan(
    steps=9, batch_size=4, accumulate=2, lr=1e-2, ema=0.9, clip=1.0, save_every=4, validate_every=3, log_every=2
)


def train(
    run: Path, plan: Plan = PLAN, net: nn.Module | None = None, samples=None, **options
) -> tuple[nn.Module, History]:
    net = net or fresh()
    history = fit(
        net,
        Stripes() if samples is None else samples,
        collate=collate,
        plan=plan,
        run=run,
        **{"validate": score, **options},
    )
    return net, history


def same(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, b.state_dict()[name]) for name, x in a.state_dict().items())


def story(run: Path) -> list[dict]:
    """The log without what a clock or the machine decides."""
    timing = {"time", "images_per_second", "memory"}
    return [{k: v for k, v in r.items() if k not in timing} for r in read_metrics(run / "metrics.jsonl")]


def test_it_learns_and_leaves_a_run_folder(tmp_path):
    plan = replace(PLAN, steps=40, accumulate=1, validate_every=20, schedule="cosine", warmup=3, lr=0.05)
    net, history = train(tmp_path, plan)
    assert history.stopped == "done" and history.step == 40 and history.metrics["accuracy"] == 1.0
    records = read_metrics(tmp_path / "metrics.jsonl")
    losses = [r["loss"] for r in records if r["kind"] == "train"]
    assert losses[-1] < 0.8 * losses[0]
    assert [r["step"] for r in records if r["kind"] == "val"] == [20, 40]
    assert set(records[0]["terms"]) == {"ce", "size"} and math.isclose(sum(records[0]["terms"].values()), losses[0])
    for folder in ("best", "last"):
        assert load_file(tmp_path / folder / "model.safetensors").keys() == net.state_dict().keys()
    assert len(list((tmp_path / "state").glob("step-*"))) == 2
    assert not (tmp_path / "state" / "lock.json").exists()


@pytest.mark.parametrize("after", [1, 17, 40, 64])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_broken_off_run_resumes_to_the_same_bits_and_the_same_log(tmp_path, after, optimizer):
    plan = replace(PLAN, optimizer=optimizer)
    straight, _ = train(tmp_path / "straight", plan)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", plan, samples=Bomb(after))
    resumed, history = train(tmp_path / "broken", plan, net=fresh(seed=99), resume=True)
    assert same(straight, resumed) and history.stopped == "done"
    assert story(tmp_path / "straight") == story(tmp_path / "broken")
    for name in ("last", "best"):
        a, b = (load_file(tmp_path / run / name / "model.safetensors") for run in ("straight", "broken"))
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_loading_workers_change_nothing(tmp_path):
    alone, _ = train(tmp_path / "alone")
    helped, _ = train(tmp_path / "helped", replace(PLAN, workers=2))
    assert same(alone, helped)


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    net = fresh()
    torch.manual_seed(5)
    train(tmp_path, net=net)
    assert torch.equal(torch.rand(3), expected)


def test_numbers_too_small_to_matter_are_0_while_a_cpu_trains():
    def half_of_the_smallest() -> float:
        return float(torch.tensor(torch.finfo(torch.float32).tiny) * 0.5)

    assert half_of_the_smallest() > 0
    with numerics(Plan(steps=1), torch.device("cpu")):
        assert half_of_the_smallest() == 0
    assert half_of_the_smallest() > 0


def test_accumulated_gradients_are_those_of_the_whole_batch(tmp_path):
    class Plain(Net):  # batch norm sees batches, so it stays out of this comparison
        def __init__(self) -> None:
            super().__init__(dropout=0.0)
            self.norm = nn.Identity()

    nets = []
    for size, parts in ((8, 1), (2, 4)):
        torch.manual_seed(3)
        plan = Plan(steps=3, batch_size=size, accumulate=parts, optimizer="sgd", lr=0.1, clip=0.5)
        nets.append(train(tmp_path / str(size), plan, net=Plain())[0])
    for a, b in zip(nets[0].parameters(), nets[1].parameters()):
        torch.testing.assert_close(a, b)


def test_validation_sees_the_average_and_training_goes_on_with_the_weights(tmp_path):
    seen: list[dict[str, Tensor]] = []

    def look(net: nn.Module):
        assert not net.training and not torch.is_grad_enabled()
        seen.append({k: v.clone() for k, v in net.state_dict().items()})
        return {"metrics": {"x": 1.0}}

    plan = replace(PLAN, steps=2, validate_every=1)
    net, _ = train(tmp_path / "a", plan, validate=look)
    silent, _ = train(tmp_path / "b", plan, validate=None)
    assert same(net, silent) and net.training
    last = load_file(tmp_path / "a" / "last" / "model.safetensors")
    assert all(torch.equal(seen[-1][k], last[k]) for k in last)
    start, first = fresh().state_dict(), seen[0]  # after step 1 the decay is 2/11
    train(tmp_path / "c", replace(plan, steps=2, ema=0.0, validate_every=1), validate=look)
    raw = seen[2]["head.weight"]
    torch.testing.assert_close(first["head.weight"], start["head.weight"] * 2 / 11 + raw * 9 / 11)


def test_early_stopping_keeps_the_best(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    plan = replace(PLAN, steps=100, validate_every=2, patience=2, monitor="m")
    _, history = train(tmp_path, plan, validate=lambda net: {"metrics": {"m": next(scores)}})
    assert (history.stopped, history.step, history.best, history.best_step) == ("patience", 8, 3.0, 4)


def test_less_can_be_better(tmp_path):
    scores = iter([3.0, 1.0, 2.0])
    plan = replace(PLAN, steps=6, validate_every=2, monitor="m", mode="min")
    _, history = train(tmp_path, plan, validate=lambda net: {"metrics": {"m": next(scores)}})
    assert (history.best, history.best_step) == (1.0, 4)


def test_an_unknown_metric_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"monitor='acuracy'.*margin, accuracy.*Did you mean 'accuracy'"):
        train(tmp_path, replace(PLAN, steps=1, monitor="acuracy"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_saves(tmp_path, number):
    class Ringing(Stripes):
        reads = 0

        def __getitem__(self, key):
            self.reads += 1
            if self.reads == 20:  # in the middle of step 3
                os.kill(os.getpid(), number)
            return super().__getitem__(key)

    straight, _ = train(tmp_path / "straight")
    before = signal.getsignal(number)
    _, history = train(tmp_path / "run", samples=Ringing())
    assert signal.getsignal(number) == before
    assert history.stopped == "interrupted" and history.step == 3
    resumed, history = train(tmp_path / "run", net=fresh(9), resume=True)
    assert history.stopped == "done" and same(straight, resumed)
    assert story(tmp_path / "straight") == story(tmp_path / "run")


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    class Twice(Stripes):
        def __getitem__(self, key):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            return super().__getitem__(key)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, samples=Twice())


def test_ctrl_c_leaves_a_validation_which_is_done_after_the_resume(tmp_path):
    def ring(net):
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal did not interrupt")

    straight, _ = train(tmp_path / "straight")
    _, history = train(tmp_path / "run", validate=ring)
    assert history.stopped == "interrupted" and history.step == 3
    resumed, _ = train(tmp_path / "run", net=fresh(9), resume=True)
    assert same(straight, resumed) and story(tmp_path / "straight") == story(tmp_path / "run")


def test_ctrl_c_in_the_last_validation_is_no_end(tmp_path):
    def ring(net):
        os.kill(os.getpid(), signal.SIGTERM)

    _, history = train(tmp_path / "run", replace(PLAN, validate_every=0), validate=ring)
    assert history.stopped == "interrupted" and history.step == 9
    net, history = train(tmp_path / "run", replace(PLAN, validate_every=0), net=fresh(9), resume=True)
    assert history.stopped == "done" and history.metrics["accuracy"] >= 0
    assert same(net, train(tmp_path / "straight", replace(PLAN, validate_every=0))[0])


def test_a_loss_that_is_no_number_names_terms_and_samples_and_keeps_the_checkpoint(tmp_path):
    class Sick(Net):
        calls = 0

        def losses(self, out, targets):
            self.calls += 1
            terms = super().losses(out, targets)
            return terms if self.calls < 5 else terms | {"ce": terms["ce"] * math.inf}

    torch.manual_seed(1)
    plan = Plan(steps=20, batch_size=2, save_every=2)
    with pytest.raises(SightlineError) as caught:
        train(tmp_path, plan, net=Sick())
    text = str(caught.value)
    assert "step 5" in text and "ce=inf" in text and "size=" in text and "pictures/" in text and "step 4" in text
    assert max(int(p.stem[5:]) for p in (tmp_path / "state").glob("step-*")) == 4


def test_weights_that_are_no_numbers_are_never_saved(tmp_path):
    class Exploding(Net):
        def losses(self, out, targets):  # a finite loss with an infinite gradient
            return {"ce": (out.logits * 0).sqrt().sum()}

    with pytest.raises(SightlineError, match=r"are not numbers after step 1: the checkpoint of step 0 is kept"):
        train(tmp_path, Plan(steps=20, batch_size=2, save_every=1), net=Exploding())


def test_out_of_memory_halves_the_batch_and_keeps_the_samples(tmp_path):
    seen: list[tuple[int, ...]] = []

    class Small(Net):
        def forward(self, images, *, sizes=None, targets=None):
            if len(images) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
            seen.append(tuple(targets.tolist()))
            return super().forward(images, sizes=sizes, targets=targets)

    torch.manual_seed(1)
    notes: list[str] = []
    plan = Plan(steps=4, batch_size=6, log_every=2, save_every=2)
    _, history = train(
        tmp_path,
        plan,
        net=Small(),
        validate=None,
        log=lambda r: notes.append(r["text"]) if r["kind"] == "note" else None,
    )
    assert history.stopped == "done"
    assert [note.split("with ", 1)[1] for note in notes] == [
        "batch_size=6 accumulate=1: continuing with batch_size=3 accumulate=2, the same samples a step",
        "batch_size=3 accumulate=2: continuing with batch_size=1 accumulate=6, the same samples a step",
    ]
    stream = [sample_at(p, count=11, seed=0)[1] % 2 for p in range(24)]
    assert [label for batch in seen for label in batch] == stream
    seen.clear()
    _, again = train(tmp_path, replace(plan, steps=6), net=Small(), validate=None, resume=True)
    assert again.step == 6 and len(seen) == 12, "the resumed run knows the smaller batch"


def test_no_memory_for_one_sample_is_a_sentence(tmp_path):
    class Huge(Net):
        def forward(self, images, *, sizes=None, targets=None) -> Out:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")

    with pytest.raises(SightlineError, match="out of memory on cpu with one sample at a time"):
        train(tmp_path, Plan(steps=2, batch_size=2), net=Huge())


@pytest.mark.parametrize(
    ("size", "parts", "expected"), [(8, 1, 4), (6, 1, 3), (5, 1, 1), (3, 2, 1), (4, 3, 2), (1, 8, None)]
)
def test_smaller_batches_divide_the_same_samples(size, parts, expected):
    assert smaller_batch(size, parts) == expected
    assert expected is None or size * parts % expected == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_sample_stops_with_its_own_sentence(tmp_path, workers):
    with pytest.raises(SightlineError) as caught:
        train(tmp_path, replace(PLAN, workers=workers), samples=Stripes(broken=(7,)))
    assert str(caught.value) == "pictures/7.png: not a readable picture; remove it"


def test_broken_samples_are_skipped_counted_and_named(tmp_path):
    plan = replace(PLAN, on_error="skip", steps=6)
    net, history = train(tmp_path / "a", plan, samples=Stripes(broken=(7, 8)))
    assert set(history.skipped) == {"7", "8"}
    records = read_metrics(tmp_path / "a" / "metrics.jsonl")
    assert [r["skipped"] for r in records if r["kind"] == "train"][-1] == 2
    assert sum("pictures/7.png" in r.get("text", "") for r in records) == 1
    other, _ = train(tmp_path / "b", replace(plan, workers=1), samples=Stripes(broken=(7, 8)))
    assert same(net, other)


def test_skipping_gives_up_when_nothing_is_whole(tmp_path):
    with pytest.raises(SightlineError, match="5 samples in a row are broken"):
        train(tmp_path, replace(PLAN, on_error="skip"), samples=Stripes(5, broken=(0, 1, 2, 3, 4)))


def test_a_killed_worker_is_a_sentence(tmp_path):
    with pytest.raises(SightlineError, match=r"a loading worker \(process \d+\) was killed.*workers=0"):
        train(tmp_path, replace(PLAN, workers=1), samples=Deadly())


def test_a_bug_in_the_data_set_names_the_sample(tmp_path):
    class Buggy(Stripes):
        def __getitem__(self, key):
            raise ZeroDivisionError("oops")

    with pytest.raises(SightlineError, match=r"sample \d+ \(epoch 0\): ZeroDivisionError: oops") as caught:
        train(tmp_path, samples=Buggy())
    assert "in __getitem__" in caught.value.__notes__[0]


def test_a_run_is_not_overwritten(tmp_path):
    train(tmp_path, replace(PLAN, steps=2))
    with pytest.raises(UsageError, match="already holds a run at step 2"):
        train(tmp_path, replace(PLAN, steps=2))


def test_resuming_a_finished_run_changes_nothing(tmp_path):
    train(tmp_path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    _, history = train(tmp_path, net=fresh(9), resume=True)
    assert history.stopped == "done" and history.best_step
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_a_run_that_ends_with_its_last_checkpoint_has_written_its_last_weights(tmp_path, monkeypatch):
    train(tmp_path / "straight")
    whole = Checkpoints.save

    def deadly(self, tensors, meta):
        whole(self, tensors, meta)
        if meta["step"] == PLAN.steps:
            raise RuntimeError("power cut")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="power cut"):
        patch.setattr(Checkpoints, "save", deadly)
        train(tmp_path / "cut")
    train(tmp_path / "cut", net=fresh(9), resume=True)
    ours, theirs = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("cut", "straight"))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_resuming_with_another_network_is_a_sentence(tmp_path):
    train(tmp_path, replace(PLAN, steps=2))
    with pytest.raises(SightlineError, match=r"another network: 'stem.weight' is \(4, 3, 3, 3\) there and \(5,"):
        train(tmp_path, net=Net(5), resume=True)
    with pytest.raises(SightlineError, match=r"another network: 2 names differ, such as 'idle.bias'"):
        train(tmp_path, net=Net(head_not_used=True), resume=True)


def test_resuming_under_another_plan_says_what_changed(tmp_path):
    train(tmp_path, replace(PLAN, steps=2))
    said: list[str] = []
    train(tmp_path, replace(PLAN, steps=4, lr=0.5), resume=True, log=lambda r: said.append(str(r.get("text"))))
    assert "resumed at step 2" in said
    assert (
        "steps was 2 when this run began and is 4 now" in said
        and "lr was 0.01 when this run began and is 0.5 now" in said
    )


@pytest.mark.parametrize("precision", ["bf16", "fp16", "auto"])
def test_precisions_train_and_resume(tmp_path, precision):
    plan = replace(PLAN, precision=precision)
    straight, history = train(tmp_path / "straight", plan)
    assert history.stopped == "done" and all(p.dtype == torch.float32 for p in straight.parameters())
    if precision == "auto":
        note = next(r for r in read_metrics(tmp_path / "straight" / "metrics.jsonl") if r["kind"] == "note")
        assert "ms in bf16" in note["text"]
        return  # whichever was faster is kept in the checkpoint; clocks decide, so bits are not compared
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "broken", plan, samples=Bomb(50))
    resumed, _ = train(tmp_path / "broken", plan, net=fresh(9), resume=True)
    assert same(straight, resumed)


def test_the_measured_precision_is_kept_by_a_resume(tmp_path):
    train(tmp_path, replace(PLAN, steps=2, precision="auto"))
    file = max((tmp_path / "state").glob("step-*"))
    from safetensors import safe_open

    with safe_open(file, "pt") as stream:
        meta = json.loads(stream.metadata()["sightline"])
    assert meta["state"]["precision"] in ("fp32", "bf16")


def test_pictures_reach_the_network_as_float_between_0_and_1(tmp_path):
    seen = []

    class Looking(Net):
        def forward(self, images, *, sizes=None, targets=None):
            seen.append((images.dtype, images.max().item(), images.is_contiguous(memory_format=torch.channels_last)))
            return super().forward(images)

    train(tmp_path, replace(PLAN, steps=1), net=Looking(), validate=None)
    assert all(d is torch.float32 and 0.5 < m <= 1 and c for d, m, c in seen)


def test_no_samples_is_a_sentence(tmp_path):
    with pytest.raises(SightlineError, match="no samples to train on"):
        train(tmp_path, samples=Stripes(0))


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SightlineError, match="cannot write"):
        train(tmp_path / "file" / "run")
