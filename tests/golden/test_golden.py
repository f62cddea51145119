"""What the public implementations answer, to the last digits.

For every case: our network has exactly the public number of parameters, the public checkpoint (rebuilt from names and
shapes, written as the public file) goes in through `load_weights`, and every stored array is met within its tolerance.

The fast suite runs the copies in `cases/`; the slow suite the whole folder: `SIGHTLINE_GOLDEN`, or `shared/golden`
beside the checkout. Cases of systems that are not built yet are listed at the end of the run.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.verbs.load import load_weights
from sightline.verbs.models import create

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("SIGHTLINE_GOLDEN") or HERE.parents[2] / "shared" / "golden")


def _beside(name: str) -> ModuleType:
    """The module `name` of this folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"golden_{name}", HERE / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = sys.modules.setdefault(spec.name, importlib.util.module_from_spec(spec))
    spec.loader.exec_module(module)
    return module


catalog, fill = _beside("catalog"), _beside("fill")

COPIES = sorted(HERE.glob("cases/*.json"))
ALL = sorted(FOLDER.glob("**/*.json"))
KNOWN = [path for path in ALL if catalog.known(path)]
UNKNOWN = [path for path in ALL if path not in KNOWN]


@pytest.mark.parametrize("path", COPIES, ids=lambda path: path.stem)
def test_copy(path: Path, tmp_path: Path) -> None:
    check(path, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", KNOWN, ids=lambda path: path.stem)
def test_case(path: Path, tmp_path: Path) -> None:
    check(path, tmp_path)


@pytest.mark.slow
def test_the_folder_holds_cases_of_systems_that_are_here(
    report_cases: Callable[[list[Path], list[Path]], None],
) -> None:
    if not FOLDER.is_dir():
        pytest.skip(f"the golden cases are not at {FOLDER}; set SIGHTLINE_GOLDEN")
    report_cases(KNOWN, UNKNOWN)
    assert KNOWN, f"none of the {len(ALL)} cases at {FOLDER} is of a system of tests/golden/catalog.py"


def check(path: Path, folder: Path) -> None:
    """Run one case: parameters, file, loader, every array."""
    case, expected = fill.load(path)
    system = catalog.system_named(case["system"])
    assert system is not None
    name, values = system.entry(case)
    net = create(name, **{"mean": None, **values}).eval()  # the stored inputs went in as they are
    assert sum(p.numel() for p in net.parameters() if p.requires_grad) == case["parameters"]

    file = folder / f"{path.stem}{system.suffix}"
    tensors = {name: torch.from_numpy(array) for name, array in fill.checkpoint(case).items()}
    if system.suffix == ".npz":
        np.savez(file, **{name: value.numpy() for name, value in system.container(tensors).items()})
    else:
        torch.save(system.container(tensors), file)
    del tensors
    gc.collect()
    report = load_weights(net, file)
    file.unlink()
    assert not (report.missing or report.unexpected or report.reinitialised or report.adapted), str(report)

    found = system.run(net, case, expected, fill) if system.run else seen(net, system, case)
    for name, about in case["outputs"].items():
        if name not in found and about.get("optional"):
            continue
        whole = found[name]
        assert list(whole.shape) == about.get("shape", list(expected[name].shape)), name
        ours = sliced(whole, about.get("slice"))
        if "may_differ" in about:  # pixels of pasted masks: a share of them may fall on the other side of a half
            share = float((ours.numpy() != expected[name]).mean())
            assert tuple(ours.shape) == expected[name].shape and share <= about["may_differ"], f"{name}: {share:.2e}"
            continue
        compare(name, ours, expected[name], about.get("tolerance", case["tolerance"]))


def seen(net: nn.Module, system: Any, case: dict[str, Any]) -> dict[str, Tensor]:
    """Everything of a case that one pass over its input gives."""
    extra: dict[str, Tensor] = {}
    if system.feed is None:
        assert case["input"]["transform"] == system.transform
        images = torch.from_numpy(fill.image(case["input"]["seed"], tuple(case["input"]["shape"])))
    else:
        images, extra = system.feed(case, fill.image)
    return answers(net, images, extra, system, case)


def answers(
    net: nn.Module, images: Tensor, extra: dict[str, Tensor], system: Any, case: dict[str, Any]
) -> dict[str, Tensor]:
    """Everything of a case that our network can give: its outputs, and the maps in its middle that have a name."""
    found: dict[str, Tensor] = {}
    handles = []
    for name in case["outputs"]:
        place = catalog.our_module(system, name)
        if place is not None:
            keep = lambda module, inputs, out, name=name: found.update({name: out.clone()})  # noqa: E731
            handles.append(net.get_submodule(place).register_forward_hook(keep))
    for name, (place, view) in system.hooks(case).items():
        look = lambda module, inputs, out, name=name, view=view: found.update({name: view(out).clone()})  # noqa: E731
        handles.append(net.get_submodule(place).register_forward_hook(look))
    with torch.inference_mode():
        out = net(images, **extra)
        for handle in handles:
            handle.remove()
        arrays = system.arrays(out) | system.learned(net, out, case)
    return found | arrays | {f"{name}_corner": array for name, array in arrays.items()}


def sliced(array: Tensor, words: str | None) -> Tensor:
    """`array[words]`, words as a case writes them: "[:, ::8, ::3, 53:]"."""
    if words is None:
        return array
    parts = [part.strip() for part in words.strip("[]").split(",")]
    index = [slice(*(int(n) if n else None for n in part.split(":"))) if ":" in part else int(part) for part in parts]
    return array[tuple(index)]


def compare(name: str, ours: Tensor, theirs: np.ndarray, tolerance: float) -> None:
    """Largest difference, relative to the largest value of the expected array."""
    assert tuple(ours.shape) == theirs.shape, name
    difference = float(np.abs(ours.numpy().astype(np.float64) - theirs).max() / np.abs(theirs).max())
    print(f"{name}: largest difference {difference:.1e} of the largest value, allowed {tolerance:.0e}")
    assert difference <= tolerance, f"{name}: {difference:.2e} > {tolerance:.0e}"
