"""What is shown while a training runs."""

import io

import pytest

from sightline.training.progress import Progress, Remaining, duration, line

TRAIN = {
    "kind": "train", "step": 20, "steps": 100, "time": 10.0, "lr": 0.1, "loss": 0.75,
    "terms": {"ce": 0.5, "dice": 0.25}, "images_per_second": 12.3, "skipped": 2, "memory": 1500.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7620, "2 h 07 min")],
)
def test_durations(seconds, words):
    assert duration(seconds) == words


def test_a_line_tells_step_terms_speed_time_and_memory():
    assert line(TRAIN, remaining=90) == (
        "step 20/100  loss 0.7500 (ce 0.5000, dice 0.2500)  12.3 images/s  1 min 30 s left  1.5 GB"
        "  2 broken samples skipped"
    )
    assert line({"kind": "val", "step": 5, "metrics": {"dice": 0.5, "iou": None}}) == "step 5: dice 0.5000"


def test_stages_tell_how_far_they_are():
    stage = {"kind": "stage", "step": 2, "stage": "machines", "done": 0, "total": 9, "time": 1.0, "numbers": {}}
    assert (
        line(stage | {"done": 3, "numbers": {"negatives": 250.0}}, remaining=6)
        == "machines 3/9  negatives 250  6 s left"
    )
    out = io.StringIO()
    with Progress(stream=out, every=1000) as progress:
        for done in (0, 3, 9):
            progress(stage | {"done": done, "time": 1.0 + done})
        progress(stage | {"stage": "boxes", "total": 4, "time": 11.0})
    assert out.getvalue().splitlines() == ["machines 0/9", "machines 9/9  0 s left"]


def test_the_time_left_counts_the_steps_of_this_sitting_only():
    left = Remaining()
    assert left.seconds(TRAIN | {"step": 50, "time": 1000.0}) is None
    assert left.seconds(TRAIN | {"step": 60, "time": 1020.0}) == 80.0  # 2 s a step, 40 steps


def test_without_a_terminal_lines_are_rare_but_notes_and_the_end_are_told():
    out = io.StringIO()
    with Progress(stream=out, every=1000) as progress:
        for step in (10, 20, 30):
            progress(TRAIN | {"step": step})
        progress({"kind": "note", "step": 30, "text": "a note"})
        progress({"kind": "val", "step": 30, "metrics": {"dice": 0.5}})
        progress(TRAIN | {"step": 100})
    lines = out.getvalue().splitlines()
    assert [text.split("  ")[0] for text in lines] == ["step 10/100", "a note", "step 30: dice 0.5000", "step 100/100"]


def test_on_a_terminal_there_is_a_bar_with_the_same_words():
    out = io.StringIO()
    with Progress(stream=out, bar=True) as progress:
        progress(TRAIN)
        progress({"kind": "note", "step": 20, "text": "[not] markup"})
    assert "step 20/100" in out.getvalue() and "[not] markup" in out.getvalue()
