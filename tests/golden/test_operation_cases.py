"""Golden cases of operations without weights: TSM's shift and the two-stream flow stack, exactly as stored."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from sightline.ops.flow_stack import flow_stack
from sightline.ops.shift import temporal_shift

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")
CASES = {
    json.loads(path.read_text(encoding="utf-8")).get("system", ""): path
    for path in sorted(FOLDER.glob("action/*.json"))
}


def case(words: str) -> tuple[dict, dict[str, np.ndarray], np.ndarray]:
    path = next((path for system, path in CASES.items() if system.startswith(words)), None)
    if path is None:
        pytest.skip(f"the golden cases are not at {FOLDER}; set SIGHTLINE_GOLDEN")
    about = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as arrays:
        expected = dict(arrays)
    x = np.random.RandomState(about["input"]["seed"]).random_sample(tuple(about["input"]["shape"])).astype(np.float32)
    return about, expected, x


@pytest.mark.slow
def test_shift() -> None:
    about, expected, x = case("TSM shift alone")
    config = about["config"]
    found = temporal_shift(torch.from_numpy(x * 2 - 1), config["n_segment"], fold=config["fold_div"])
    assert np.array_equal(found.numpy(), expected["shifted"])


@pytest.mark.slow
def test_flow_stack() -> None:
    about, expected, x = case("Two-stream flow stack")
    fields = torch.from_numpy(np.floor(x * 256).astype(np.uint8))
    for name, found in (("stack", flow_stack(fields)), ("flipped", flow_stack(fields, flip=True))):
        assert np.abs(found.numpy() - expected[name]).max() <= about["tolerance"] * np.abs(expected[name]).max()
