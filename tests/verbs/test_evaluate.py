"""`evaluate` against slow loops over the label pictures that `predict` wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sightline.cli import main
from sightline.errors import SightlineError, UsageError
from sightline.media.labels import read_labels
from sightline.verbs.evaluate import evaluate
from sightline.verbs.load import load
from sightline.verbs.predict import predict

CLASSES = ("background", "disc", "square", "triangle")


def counted(answers: Path, masks: Path) -> np.ndarray:
    """The confusion matrix, one pixel at a time: rows are labels, columns answers."""
    table = np.zeros((4, 4), np.int64)
    for mask in sorted(masks.iterdir()):
        truth, answer = read_labels(mask), read_labels(answers / mask.name)
        assert truth.shape == answer.shape
        for label, found in zip(truth.ravel().tolist(), answer.ravel().tolist()):
            if label != 255:
                table[label, found] += 1
    return table


@pytest.fixture(scope="module")
def scored(tiny_run: Path, shapes: Path, tmp_path_factory: pytest.TempPathFactory):
    """An evaluation on val, and the confusion matrix of the answers that `predict` saved."""
    folder = tmp_path_factory.mktemp("answers")
    network = load(tiny_run)
    assert len(list(predict(network, shapes / "images" / "val", out=folder))) == 3
    return evaluate(network, shapes), counted(folder, shapes / "masks" / "val")


def test_the_matrix_is_that_of_the_saved_answers(scored) -> None:
    found, table = scored
    assert found.confusion == table.tolist()
    assert (found.split, found.images, found.task, found.model) == ("val", 3, "segmentation", "unet")
    assert table.sum() == 3 * 40 * 48


def test_every_number_follows_from_the_matrix(scored) -> None:
    found, table = scored
    right = [int(table[k, k]) for k in range(4)]
    labelled, answered = table.sum(1).tolist(), table.sum(0).tolist()
    union = [labelled[k] + answered[k] - right[k] for k in range(4)]
    iou = [right[k] / union[k] for k in range(4) if union[k]]
    dice = [2 * right[k] / (labelled[k] + answered[k]) for k in range(4) if union[k]]
    total = sum(labelled)
    expected = {
        "pixel_accuracy": sum(right) / total,
        "class_accuracy": np.mean([right[k] / labelled[k] for k in range(4) if labelled[k]]),
        "dataset_miou": np.mean(iou),
        "dataset_miou_absent_zero": sum(iou) / 4,
        "frequency_weighted_iou": sum(labelled[k] / total * right[k] / union[k] for k in range(4) if union[k]),
        "dataset_dice": np.mean(dice),
    }
    for name, value in expected.items():
        assert found.metrics[name] == pytest.approx(value, abs=1e-9), name
    for k, name in enumerate(CLASSES):
        row = found.per_class[name]
        assert row["pixels"] == labelled[k]
        assert row["iou"] == pytest.approx(right[k] / union[k], abs=1e-9)


def test_the_worst_picture_comes_first(tiny_run: Path, shapes: Path, tmp_path: Path) -> None:
    network = load(tiny_run)
    found = evaluate(network, shapes)
    means = {}
    for answer in predict(network, shapes / "images" / "val"):
        truth, labels = read_labels(shapes / "masks" / "val" / f"{answer.name}.png"), answer.labels.numpy()
        shares = []
        for k in range(4):
            both, either = ((truth == k) & (labels == k)).sum(), ((truth == k) | (labels == k)).sum()
            if either:
                shares.append(both / either)
        means[f"images/val/{answer.name}.png"] = float(np.mean(shares))
    assert found.worst == sorted(means, key=lambda key: means[key])
    assert found.metrics["image_miou"] == pytest.approx(np.mean(list(means.values())), abs=1e-9)


def test_the_command_answers_one_object_and_keeps_it(tiny_run: Path, shapes: Path, tmp_path: Path, capsys) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    (run / "evaluation.json").unlink()
    assert main(["evaluate", str(run), str(shapes), "split=train", "--json"]) == 0
    out, _ = capsys.readouterr()
    told = json.loads(out)
    assert out.count("\n") == 1
    assert {"task", "model", "data", "split", "images", "metrics", "per_class"} <= set(told)
    assert (told["split"], told["images"]) == ("train", 6)
    assert told == json.loads((run / "evaluation.json").read_text())
    assert main(["evaluate", str(run), str(shapes), "split=train"]) == 0
    table = capsys.readouterr().out
    assert f"unet on {shapes}, split train, 6 pictures" in table
    assert f"{told['metrics']['dataset_miou']:.4f}" in table


def test_views_and_tiles_are_part_of_the_procedure(tiny_run: Path, shapes: Path) -> None:
    network = load(tiny_run)
    plain = evaluate(network, shapes)
    mirrored = evaluate(network, shapes, flips="hv", scales=(0.75, 1.0))
    tiled = evaluate(network, shapes, tile=32, overlap=0.5)
    assert plain.confusion != mirrored.confusion
    assert sum(map(sum, tiled.confusion)) == sum(map(sum, plain.confusion))


def test_all_splits_together_are_the_sum(tiny_run: Path, shapes: Path) -> None:
    network = load(tiny_run)
    parts = [np.array(evaluate(network, shapes, split=split).confusion) for split in ("train", "val", "all")]
    assert (parts[0] + parts[1] == parts[2]).all()


def test_a_set_without_a_class_is_read_by_the_runs_classes(tiny_run: Path, shapes: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for what in ("images", "masks"):
        (few / what).mkdir(parents=True)
        shutil.copy(shapes / what / "val" / "0006.png", few / what / "0006.png")
    found = evaluate(load(tiny_run), few, split="all")
    assert list(found.per_class) == list(CLASSES)
    assert found.images == 1


def test_other_classes_are_refused(tiny_run: Path, shapes: Path, tmp_path: Path) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    (data / "classes.txt").write_text("background\ndisc\nsquare\ntriangle\nstar\n")
    with pytest.raises(UsageError, match=r"the run knows 4 classes .* has 5"):
        evaluate(load(tiny_run), data)


def test_a_broken_file_stops_or_is_counted(tiny_run: Path, shapes: Path, tmp_path: Path) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    bad = data / "images" / "val" / "0007.png"
    bad.write_bytes(bad.read_bytes()[:300])
    with pytest.raises(SightlineError, match=r"0007\.png"):
        evaluate(load(tiny_run), data)
    found = evaluate(load(tiny_run), data, on_error="skip")
    assert (found.images, list(found.skipped)) == (2, ["images/val/0007.png"])
    assert str(bad) in found.skipped["images/val/0007.png"]
    assert "1 files could not be read" in str(found) or "1 file could not be read" in str(found)
    for path in bad.parent.iterdir():
        path.write_bytes(b"")
    with pytest.raises(SightlineError, match="no labelled picture could be scored"):
        evaluate(load(tiny_run), data, on_error="skip")


def test_a_runs_own_validation_pictures_are_found_again(tmp_path: Path, shapes: Path) -> None:
    """Where the data gives no split, the run's seed and share decide, not evaluate's defaults."""
    from sightline.verbs.train import train

    data = tmp_path / "flat"
    for what in ("images", "masks"):
        (data / what).mkdir(parents=True)
        for path in shapes.glob(f"{what}/*/*.png"):
            shutil.copy(path, data / what / path.name)
    run = train(
        "unet", data, run=tmp_path / "run", seed=5, val="4", steps=1, batch=2, size=32, device="cpu",
        model_values={"width": 2, "depth": 2},
    )  # fmt: skip
    stored = json.loads((run.folder / "evaluation.json").read_text())
    found = evaluate(run.folder, data)
    assert found.images == 4
    assert found.confusion == stored["confusion"]
    assert sorted(found.worst) == sorted(stored["worst"])


def test_another_packages_rules_and_further_scores_are_asked_for(
    tiny_run: Path, shapes: Path, tmp_path: Path, capsys
) -> None:
    run = shutil.copytree(tiny_run, tmp_path / "run")
    ours = evaluate(run, shapes)
    theirs = evaluate(run, shapes, policy="mmseg")
    assert theirs.metrics["mIoU"] == pytest.approx(ours.metrics["dataset_miou"])
    assert theirs.metrics["aAcc"] == pytest.approx(ours.metrics["pixel_accuracy"])
    assert theirs.notes[-1] == "scores by the rules of mmseg" and "dataset_miou" not in theirs.metrics
    assert "dataset_miou" in json.loads((run / "evaluation.json").read_text())["metrics"]  # a policy's are not kept
    assert main(["evaluate", str(run), str(shapes), "metrics=boundary_f1, ece", "tile=24", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert set(said["metrics"]) == {*ours.metrics, "boundary_f1", "ece"}
    assert said["metrics"]["ece"] is not None and said["reliability"]
    with pytest.raises(UsageError, match="policy 'mmsek' is unknown"):
        evaluate(run, shapes, policy="mmsek")
    with pytest.raises(UsageError, match="metric 'hd' is unknown; choose from hd95, assd"):
        evaluate(run, shapes, metrics="hd")
