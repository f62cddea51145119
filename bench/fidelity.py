"""How far every network is from its public implementation; writes `docs/results/fidelity.json`.

    python bench/fidelity.py                 every golden case that is here; FOLDER: those of another folder
    python bench/fidelity.py --only fcn      cases whose file name holds a word; the other rows stay as they are

For every case the public checkpoint is rebuilt from names and shapes, written as the public file, read by
`load_weights` with nothing missing and nothing left over, and every stored array compared. What is written is the
largest difference of any array, relative to that array's largest value; of several cases of a system, the largest.
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch

from sightline.files import write_text
from sightline.verbs.load import load_weights
from sightline.verbs.models import create

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "docs" / "results" / "fidelity.json"


def golden() -> ModuleType:
    """tests/golden/test_golden.py: the cases and how they are run."""
    spec = importlib.util.spec_from_file_location("test_golden", ROOT / "tests" / "golden" / "test_golden.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


def measure(path: Path, tests: ModuleType) -> dict[str, Any]:
    """One case as a row of the results."""
    begun = time.monotonic()
    case, expected = tests.fill.load(path)
    system = tests.catalog.system_named(case["system"])
    name, values = system.entry(case)
    net = create(name, **{"mean": None, **values}).eval()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"{path.stem}{system.suffix}"
        tensors = {key: torch.from_numpy(array) for key, array in tests.fill.checkpoint(case).items()}
        if system.suffix == ".npz":
            np.savez(file, **{key: value.numpy() for key, value in system.container(tensors).items()})
        else:
            torch.save(system.container(tensors), file)
        report = load_weights(net, file)
    if report.missing or report.unexpected or report.reinitialised or report.adapted:
        raise SystemExit(f"{path.stem}: the public file does not go in one to one\n{report}")
    found = system.run(net, case, expected, tests.fill) if system.run else tests.seen(net, system, case)
    largest = 0.0
    for array, about in case["outputs"].items():
        if array not in found and about.get("optional"):
            continue
        ours = tests.sliced(found[array], about.get("slice")).numpy().astype(np.float64)
        if "may_differ" in about:  # pixels of pasted masks: the share that differs
            difference, allowed = float((ours != expected[array]).mean()), about["may_differ"]
        else:
            scale = max(float(np.abs(expected[array]).max(initial=0)), 1e-12)
            difference = float(np.abs(ours - expected[array]).max(initial=0)) / scale
            allowed = about.get("tolerance", case["tolerance"])
        if not difference <= allowed:
            raise SystemExit(f"{path.stem}: {array} differs by {difference:.2e}, allowed {allowed:.0e}")
        largest = max(largest, difference)
    return {
        "system": name,
        "what": "difference",
        "value": float(f"{largest:.2e}"),
        "peer": case["source"]["repository"],
        "command": "python bench/fidelity.py",
        "cases": [path.stem],
        "seconds": round(time.monotonic() - begun),
        "machine": f"torch {torch.__version__}, CPU",
        "date": date.today().isoformat(),
    }


def merged(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for a system and peer: the largest difference, all cases, all seconds."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        about = (row["system"], row["peer"])
        if about not in kept:
            kept[about] = dict(row)
            continue
        first = kept[about]
        first |= {
            "value": max(first["value"], row["value"]),
            "cases": sorted({*first["cases"], *row["cases"]}),
            "seconds": first["seconds"] + row["seconds"],
            "date": max(first["date"], row["date"]),
        }
    return sorted(kept.values(), key=lambda row: (row["system"], row["peer"]))


def main() -> int:
    """Measure, say, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "folder", nargs="?", type=Path, help="golden cases; the usual folder, else the repository's copies"
    )
    parser.add_argument("--only", default="", help="a word in the names of the cases")
    words = parser.parse_args()
    tests = golden()
    given = sorted(words.folder.glob("**/*.json")) if words.folder else tests.ALL or tests.COPIES
    paths = [p for p in given if words.only in p.stem and tests.catalog.known(p)]
    rows = []
    for path in paths:
        rows.append(measure(path, tests))
        print(f"{path.stem}: {rows[-1]['system']}, largest difference {rows[-1]['value']:.1e}", flush=True)
        gc.collect()
    done = {(row["system"], row["peer"]) for row in rows}
    before = json.loads(OUT.read_text()) if OUT.exists() else []
    write_text(
        OUT, json.dumps(merged([*(r for r in before if (r["system"], r["peer"]) not in done), *rows]), indent=1) + "\n"
    )
    print(f"wrote {OUT.relative_to(ROOT)}; python docs/make.py puts it into the tables")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
