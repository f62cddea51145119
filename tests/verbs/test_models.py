"""Names cost no import; a wrong one finds the right one; a builder's values are checked before anything is built."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import sightline
from sightline.contracts import Entry
from sightline.errors import UsageError
from sightline.verbs.models import (
    builder_of,
    catalogue,
    create,
    defaults_of,
    entry_of,
    info,
    models,
    published,
    task_of,
)

MINE = Entry(
    "sightline.segmentation.models.unet:unet", "segmentation", "a user's own entry", 1, tiny={"width": 4, "depth": 3}
)


def _heavy_after(code: str) -> list[str]:
    """Which heavy packages a fresh Python has loaded after running `code`."""
    code += (
        "\nimport sys, json\n"
        "heavy = ('torch', 'torchvision', 'timm', 'matplotlib', 'numpy', 'scipy', 'PIL', 'av', 'tifffile')\n"
        "print(json.dumps([m for m in heavy if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_names_cost_no_heavy_import() -> None:
    """One process for all: what the first line loads, the last would still show."""
    code = (
        "import sightline as sl, sightline.verbs.models, sightline.verbs.config\n"
        "dir(sl); assert sl.models('*unet*') and sl.models(task='segmentation')\n"
        "try:\n"
        "    sl.create('unte')\n"
        "except ValueError as error:\n"
        "    assert 'unet' in str(error)\n"
        "else:\n"
        "    raise AssertionError('an unknown name was accepted')\n"
    )
    assert _heavy_after(code) == []


def test_every_public_name_leads_somewhere() -> None:
    assert dir(sightline) == sorted(sightline.__all__)
    for name in sightline.__all__:
        assert getattr(sightline, name) is not None
    assert sightline.create is create
    with pytest.raises(AttributeError, match="no attribute 'segment'"):
        _ = sightline.segment  # pyright: ignore[reportAttributeAccessIssue]


# Names -------------------------------------------------------------------------------------------------------------


def test_patterns_and_tasks_choose() -> None:
    every = [row.name for row in models()]
    assert every == list(catalogue()) and "unet" in every
    assert [row.name for row in models("unet")] == [n for n in every if "unet" in n]  # a plain word fits anywhere
    assert [row.name for row in models("unet*")] == [n for n in every if n.startswith("unet")]
    assert [row.name for row in models("fcn?s")] == [n for n in every if n.startswith("fcn") and len(n) == 5]
    assert models("zebra") == []
    assert [row.name for row in models(task="segmentation")] == [
        n for n in every if catalogue()[n].task == "segmentation"
    ]
    with pytest.raises(
        UsageError, match=r"there is no task 'segmentatoin'; choose from .* Did you mean 'segmentation'\?"
    ):
        models(task="segmentatoin")


def test_rows_are_json_with_what_a_list_needs() -> None:
    rows = json.loads(json.dumps([row.to_json() for row in models()]))
    assert all({"name", "task", "parameters", "paper", "weights"} == set(row) for row in rows)
    assert all(row["parameters"] > 0 and row["paper"] for row in rows)


def test_an_unknown_model_finds_its_name() -> None:
    count = len(catalogue())
    for call in (create, info, entry_of):
        with pytest.raises(UsageError) as caught:
            call("unte")
        assert str(caught.value) == (
            f"there is no model 'unte'; `sightline models` lists {count} names. Did you mean 'unet'?"
        )
    assert entry_of(MINE) is MINE


def test_published_weights_are_found_by_name() -> None:
    for name, entry in catalogue().items():
        for record in entry.weights:
            assert published(record.name) is record, name
    assert published("weights of nobody") is None


def test_info_says_what_there_is_to_know() -> None:
    found = info("unet")
    assert "num_classes" in found.arguments
    words = str(found)
    assert found.entry.paper in words and f"{found.entry.parameters:,}" in words and found.preface.strip() in words
    assert json.loads(json.dumps(found.to_json()))["name"] == "unet"


# Building ----------------------------------------------------------------------------------------------------------


def test_create_builds_by_name_and_by_a_users_own_entry() -> None:
    import torch

    for model in ("unet", MINE):
        torch.manual_seed(0)
        net = create(model, num_classes=5, width=4, depth=3)
        with torch.inference_mode():
            out = net.eval()(torch.rand(1, 3, 17, 20))
        assert out.logits.shape == (1, 5, 17, 20)
    assert task_of(MINE).name == "segmentation"


def test_an_unknown_value_is_refused_before_anything_is_built() -> None:
    with pytest.raises(UsageError) as caught:
        create("unet", num_clases=3)
    words = str(caught.value)
    assert words.startswith("unet has no value 'num_clases'; it takes num_classes, ")
    assert words.endswith("Did you mean 'num_classes'?")
    with pytest.raises(UsageError, match=r"models.unet:unet has no value 'colour'"):
        create(MINE, colour=3)


def test_weights_that_are_nowhere_are_said() -> None:
    with pytest.raises(UsageError, match=r"no file and no published weights called nowhere\.pth"):
        create("unet", weights="nowhere.pth", width=4, depth=3)


@pytest.mark.parametrize("name", list(catalogue()))
def test_every_entry_resolves_to_a_builder_of_named_values(name: str) -> None:
    from inspect import Parameter, signature

    entry = catalogue()[name]
    builder = builder_of(entry)
    kinds = {p.kind for p in signature(builder).parameters.values()}
    assert kinds <= {Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY}  # no **kwargs that swallow mistakes
    assert all(p.default is not Parameter.empty for p in signature(builder).parameters.values())
    assert set(entry.tiny) <= set(defaults_of(builder))
    assert task_of(entry).name == entry.task
