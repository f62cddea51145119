"""`compare`: one table and one page of runs, stored scores or new ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sightline.cli import main
from sightline.errors import UsageError
from sightline.verbs.compare import compare
from sightline.verbs.evaluate import evaluate


@pytest.fixture
def two(tiny_run: Path, tmp_path: Path) -> tuple[Path, Path]:
    """A run, and one whose best state is the other's last."""
    one, other = (shutil.copytree(tiny_run, tmp_path / name) for name in ("one", "other"))
    shutil.rmtree(other / "best")
    return one, other


def test_the_table_holds_the_stored_scores_and_the_page_both_runs(two, capsys, tmp_path: Path) -> None:
    one, other = two
    page = tmp_path / "page.html"
    assert main(["compare", str(one), str(other), f"out={page}", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    stored = json.loads((one / "evaluation.json").read_text())
    assert [row["run"] for row in told["runs"]] == [str(one), str(other)]
    assert told["runs"][0]["metrics"] == stored["metrics"]
    assert told["page"] == str(page)
    text = page.read_text()
    assert "one" in text
    assert "other" in text
    assert main(["compare", str(one), str(other), f"out={page}"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert f"{stored['metrics']['dataset_miou']:.4f}" in table[1]
    assert table[-1] == f"wrote {page}"


def test_new_scores_on_given_data_replace_the_stored_ones(two, shapes: Path) -> None:
    one, other = two
    found = compare([one, other], data=shapes, split="train")
    assert found.comparable
    assert found.page is None
    assert [row["split"] for row in found.rows] == ["train", "train"]
    assert found.rows[0]["metrics"] != found.rows[1]["metrics"]
    assert json.loads((one / "evaluation.json").read_text())["split"] == "train"
    assert compare([one, other]).rows == found.rows


def test_scores_on_different_pictures_are_said_to_be_so(two, shapes: Path) -> None:
    one, other = two
    evaluate(one, shapes, split="train")
    found = compare([one, other])
    assert not found.comparable
    assert "not scored on the same pictures (6 of " in str(found)


def test_what_cannot_be_compared(two, tmp_path: Path) -> None:
    one, other = two
    with pytest.raises(UsageError, match="two runs or more"):
        compare([one])
    (other / "evaluation.json").unlink()
    with pytest.raises(UsageError, match="has not been scored"):
        compare([one, other])
    exported = tmp_path / "net.onnx"
    exported.write_bytes(b"x")
    with pytest.raises(UsageError, match="stores no scores; give data="):
        compare([one, exported])
