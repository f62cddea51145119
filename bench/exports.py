"""Export every entry to both formats and verify the files; writes `docs/results/exports.json`.

    python bench/exports.py                 every entry of every room, at the small values of its catalogue line
    python bench/exports.py --only pspnet   entries whose name holds a word; the other rows stay as they are
    python bench/exports.py --missing       entries that have no row yet, --task segmentation of one room
    python bench/exports.py --full          at the builder's own values (minutes, and gigabytes)

`export` itself opens each file again and compares it at two batch and picture sizes; what is written is the largest
relative difference and the axes that take any size. Exit code 1 when an entry did not export.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import SightlineError
from sightline.files import write_text
from sightline.verbs.export import FORMATS, program_of, written
from sightline.verbs.models import builder_of, catalogue, create, defaults_of
from sightline.weights.card import Card

OUT = Path(__file__).resolve().parents[1] / "docs" / "results" / "exports.json"


@torch.no_grad()
def level(net: nn.Module, images: Tensor) -> None:
    """Scale each convolution so that what it answers varies by 1, as layer-sequential unit variance does (2016).

    In narrow networks with their first weights signals fade: all scores are one number but for roundings, and a file
    that ranks them by other roundings would seem wrong.
    """
    seen: set[nn.Module] = set()

    def scale(layer: nn.Module, given: Any, out: Tensor) -> Tensor | None:
        if layer in seen or not float(out.std()) > 1e-12:
            return None
        seen.add(layer)
        bias = 0 if layer.bias is None else layer.bias[:, None, None]  # pyright: ignore
        layer.weight /= (out - bias).std()  # pyright: ignore[reportAttributeAccessIssue]
        return (out - bias) / (out - bias).std() + bias

    hooks = [layer.register_forward_hook(scale) for layer in net.modules() if isinstance(layer, nn.Conv2d)]
    net(images)
    for hook in hooks:
        hook.remove()


def measure(name: str, *, full: bool) -> dict[str, Any]:
    """One entry in both formats, as a row of the results; raises `SightlineError` when it does not export."""
    entry = catalogue()[name]
    torch.manual_seed(0)
    least = {"score": 1e-6} if "score" in defaults_of(builder_of(entry)) else {}  # unsure heads shall speak too
    net = create(name, **{**({} if full else entry.tiny), **least}).eval()
    for tensor in net.state_dict().values():  # scores that begin at zero would agree with any file
        if tensor.is_floating_point() and not tensor.any():
            tensor.normal_(0, 0.1)
    values = {**defaults_of(builder_of(entry)), **({} if full else entry.tiny)}
    preprocess = replace(entry.preprocess, channels=values.get("in_channels", entry.preprocess.channels))
    size = values.get("size")
    if entry.task == "action" and size is not None:  # a small network is fed what it was made for
        sides = tuple(size) if isinstance(size, Sequence) else (size, size)
        fed = {"resize": f"exact{sides}"} if len(sides) == 2 else {"clip": f"whole{sides}"}
        preprocess = replace(preprocess, **fed)
    if "fields" in values:
        preprocess = replace(preprocess, clip=f"arange({values['fields']}, 1)", channels=entry.preprocess.channels)
    card = Card(model=name, task=entry.task, preprocess=preprocess)
    if entry.task in ("detection", "instance"):
        side = max(preprocess.multiple, 96) if not preprocess.resize.startswith("exact") else values.get("size", 96)
        level(net, torch.rand(2, preprocess.channels, side, side))
    with tempfile.TemporaryDirectory() as folder:
        made = program_of(net, card)
        objects = getattr(net(made.examples[0]), "found", None)
        if objects is not None and not objects.count.any():
            raise SightlineError(f"{name} finds nothing at these values, with which any file would agree")
        found = [written(made, Path(folder) / f"net{suffix}", kind) for kind, suffix in FORMATS.items()]
    return {
        "system": name,
        "what": "export",
        "value": max(difference for one in found for difference in one.differences.values()),
        "command": f"python bench/exports.py --only {name}{' --full' if full else ''}",
        "date": date.today().isoformat(),
        "formats": ", ".join(one.format for one in found),
        "sizes": ", ".join(dict.fromkeys(size for one in found for size in one.differences)),
        "any": ", ".join(axis for axis in found[0].dynamic if all(axis in one.dynamic for one in found)),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}",
    }


def main() -> int:
    """Export, say, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="a word in the entry's name")
    parser.add_argument("--full", action="store_true", help="at the builder's own values")
    parser.add_argument("--task", default="", help="of one room, such as segmentation")
    parser.add_argument("--missing", action="store_true", help="only entries without a row yet")
    options = parser.parse_args()
    names = [
        name
        for name, entry in catalogue().items()
        if options.only in name and options.task in entry.task and "outside_graph" not in entry.traits
    ]
    if not names:
        parser.error(f"no entry's name holds '{options.only}'")
    rows = {row["system"]: row for row in (json.loads(OUT.read_text()) if OUT.exists() else [])}
    failed = 0
    for name in names if not options.missing else [name for name in names if name not in rows]:
        begun = time.monotonic()
        try:
            rows[name] = measure(name, full=options.full)
            words = f"{rows[name]['value']:.1e}, any {rows[name]['any']}"
        except SightlineError as error:
            rows.pop(name, None)
            failed, words = failed + 1, f"NOT EXPORTED: {error}"
        print(f"{name}: {words} ({time.monotonic() - begun:.0f} s)", flush=True)
        known = [rows[key] for key in catalogue() if key in rows]
        write_text(OUT, json.dumps(known, indent=1) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
