"""The documents do not drift: generated pages are up to date, links and commands exist, code runs."""

import importlib.util
import inspect
import json
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sightline.cli.overview import VERBS, verb_called
from sightline.datasets.moving import write_pictures
from sightline.datasets.open import FORMATS
from sightline.verbs.config import NESTED
from sightline.verbs.models import catalogue, resolve

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("src/**/*.md")])
OURS = [p for p in PAGES if p.name != "DIARY.md"]
named = pytest.mark.parametrize("page", OURS, ids=lambda p: str(p.relative_to(ROOT)))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """docs/make.py, which is no package."""
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_up_to_date(make):
    for path, text in make.pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is stale: run python docs/make.py"


def test_the_systems_page_has_a_row_for_every_entry(make):
    page = (ROOT / "docs" / "systems.md").read_text(encoding="utf-8")
    for name, entry in catalogue().items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` | {entry.paper}"))
        assert f"{entry.parameters:,}" in row


def test_every_stored_result_names_a_system_and_a_command(make):
    for result in make.read_results(ROOT / "docs" / "results"):
        known = result.system in catalogue() or result.system == "linear_probe"  # which is no network
        assert known, f"{result.source}: there is no system {result.system}"
        assert result.command.split()[0] in ("python", "make", "sightline"), f"{result.source}: {result.command}"
        assert "/" not in result.detail("data") and "/" not in result.detail("machine"), f"{result.source}: a path"


def test_scores_on_the_same_data_stand_in_one_table_the_best_first(make, tmp_path):
    row = {"system": "unet", "what": "accuracy on dots", "value": 0.5, "command": "make x", "date": "2026-01-01"}
    rows = [row | {"data": "dots", "seconds": 90}, row | {"system": "segnet", "value": 0.75, "data": "dots"}]
    rows += [row | {"system": "fcn8s", "data": "other"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    text = "before\n\n<!-- scores: dots -->\nold\n<!-- end -->\n\nafter <!-- scores: none --><!-- end -->"
    found = make.with_scores(text, make.read_results(tmp_path))
    lines = [line for line in found.splitlines() if line.startswith("| `")]
    assert [line.split("`")[1] for line in lines] == ["segnet", "unet"] and "| 2 |" in lines[1]
    assert (
        "old" not in found
        and "Not measured yet." in found
        and make.with_scores(found, make.read_results(tmp_path)) == found
    )


def test_results_fill_their_cells_and_blanks_stay_blank(make, tmp_path):
    old = {"system": "unet", "what": "foreground_dice on dots", "value": 0.5, "command": "make x", "date": "2026-01-01"}
    new = old | {
        "value": 0.75,
        "date": "2026-02-01",
        "data": "dots",
        "seed": 0,
        "baseline": "otsu",
        "baseline_value": 0.6,
    }
    speed = old | {"what": "speed", "value": 1.25, "peer": "someone/unet"}
    close = old | {"what": "difference", "value": 2e-6, "peer": "someone/unet"}
    (tmp_path / "a.json").write_text(json.dumps([old | {"data": "dots"}, speed]))
    (tmp_path / "b.json").write_text(json.dumps(new))
    (tmp_path / "c.json").write_text(json.dumps(close))
    page = make.systems_page(catalogue(), make.read_results(tmp_path))
    rows = {line.split("`")[1]: line for line in page.partition("## Scores")[0].splitlines() if line.startswith("| `")}
    assert "| someone/unet | 2.0e-06 | foreground_dice 0.750 (dots) | 1.25 x someone/unet |  |" in rows["unet"]
    assert rows["fcn8s"].endswith("|  |  |  |  |  |")
    assert "0.5000" not in page, "the newer result replaces the older"
    assert "otsu: 0.6" in page


@pytest.mark.parametrize(
    "wrong, word",
    [({"value": None}, "value"), ({"what": "speed"}, "peer"), ({"date": "21.11.2026"}, "date")],
)
def test_a_result_that_is_none_is_refused_with_its_file(make, tmp_path, wrong, word):
    row = {"system": "unet", "what": "x", "value": 1, "command": "make x", "date": "2026-01-01"} | wrong
    (tmp_path / "odd.json").write_text(json.dumps({k: v for k, v in row.items() if v is not None}))
    with pytest.raises(ValueError, match=rf"odd\.json.*{word}"):
        make.read_results(tmp_path)


@named
def test_relative_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", _without_code(page.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), f"{page.name} links to {target}"
        if anchor:
            heads = re.findall(r"^#+ (.+)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in heads], target


@named
def test_every_command_in_the_documents_exists_with_its_options(page: Path):
    for line in _commands(page.read_text(encoding="utf-8")):
        words = shlex.split(line)
        verb = verb_called(words[0])
        assert verb is not None, f"{page.name}: sightline {line}"
        options = _options(verb.function, words)
        for word in words[1:]:
            found = re.match(r"-?-?([a-zA-Z][\w.-]*)=", word) or re.match(r"--([a-z][\w-]*)$", word)
            if not found or found[1] in ("key", "help"):
                continue
            name = found[1].replace("-", "_")
            family, dot, _ = name.partition(".")
            assert family in NESTED if dot else name in options, f"{page.name}: {name} in sightline {line}"


def test_every_verb_and_every_format_is_documented():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for verb in VERBS:
        assert f"sightline {verb.name}" in readme, verb.name
    heads = re.findall(r"^## (.+)$", (ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.MULTILINE)
    told = {name for head in heads for name in head.split(", ")}
    assert set(FORMATS) <= told, f"docs/data.md lacks {set(FORMATS) - told}"


def test_every_score_has_its_rule_on_the_page():
    import torch

    from sightline.segmentation.metrics import SegmentationMetric

    report = SegmentationMetric(("dot",))
    report.update(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    found = report.compute()
    for name in (*found.metrics, *next(iter(found.per_class.values()))):
        assert f"| `{name}` |" in page, name


@named
def test_python_in_the_documents_is_python(page: Path):
    for code in _blocks(page.read_text(encoding="utf-8"), "python"):
        compile(code, str(page), "exec")


def test_the_six_lines_of_the_readme_run(tmp_path, monkeypatch):
    """As they stand, except that the network is tiny and the data set is made up."""
    (code,) = _blocks((ROOT / "README.md").read_text(encoding="utf-8"), "python")
    assert "steps=300" in code and "data/nuclei" in code
    write_pictures(tmp_path / "data" / "nuclei", train=4, val=2, size=(40, 48))
    monkeypatch.chdir(tmp_path)
    exec(code.replace("steps=300", 'steps=2, size=32, batch=2, model_values={"width": 4, "depth": 3}'), {})
    assert len(list(Path("out").glob("*-overlay.jpg"))) == 2


def test_the_pictures_are_small():
    for path in (ROOT / "docs" / "images").iterdir():
        assert path.stat().st_size < 300_000, path.name


def _without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _commands(text: str) -> list[str]:
    """What follows `sightline` in blocks without a language, and between single backticks."""
    blocks = _blocks(text, "")
    lines = [re.sub(r"\s+#.*", "", line) for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`([^`]+)`", _without_code(text).replace("\n", " "))
    found = [re.search(r"(?:^|\s)sightline ([a-z].*)", " ".join(c.split())) for c in (*lines, *inline)]
    return [re.sub(r"[\[\]]|\.\.\.", "", match[1]) for match in found if match]


def _options(function: str, words: list[str]) -> set[str]:
    command = resolve(function)
    if words[0] == "data":
        command = resolve(f"sightline.cli.data:{words[1]}")
    return set(inspect.signature(command).parameters)
