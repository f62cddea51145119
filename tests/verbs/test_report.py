"""The page of a run and the comparison: whole, self-contained, escaped, made of whatever the folder holds."""

import base64
import io
import json
import re
import runpy
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from sightline.errors import SightlineError, UsageError
from sightline.verbs.comparison import best_places, short_names, write_comparison
from sightline.verbs.report import report_html, table_html, write_report
from sightline.verbs.runs import read_run

make_run: Callable[..., Path] = runpy.run_path(str(Path(__file__).with_name("make_run.py")))["make_run"]

VOID = {"meta", "link", "img", "br", "hr", "input"}
EVIL = '<script>alert("1")</script>&'


class Page(HTMLParser):
    """Reads a page and complains where a tag is closed that was not opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of that name."""
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "unet-camvid")


def _page(folder: Path) -> Page:
    return Page(report_html(read_run(folder)))


def test_a_report_says_what_the_folder_knows(run: Path) -> None:
    path = write_report(run)
    assert path == run / "report.html"
    page = Page(path.read_text(encoding="utf-8"))
    assert "unet on camvid" in page.text
    assert "Dataset mIoU 0.5500 on 101 val pictures of camvid, after 1,500 steps in 18 min." in page.text
    config, scores = (json.loads((run / name).read_text()) for name in ("config.json", "evaluation.json"))
    for choice in config["choices"].values():
        assert choice["reason"] in page.text
    for name, row in scores["per_class"].items():
        assert name in page.text
        assert f"{row['iou']:.4f}" in page.text
    for line in (*config["notes"], *scores["notes"], scores["skipped"]["val/broken.png"], config["command"]):
        assert line in page.text
    assert (run / "next.txt").read_text().splitlines()[0] in page.text
    assert "step 70: out of memory" in page.text
    worst = min(scores["per_class"], key=lambda name: scores["per_class"][name]["iou"])
    assert f"Weakest class: {worst}" in page.text


def test_a_page_needs_nothing_from_elsewhere_and_no_script(run: Path) -> None:
    text = report_html(read_run(run))
    page = Page(text)
    assert page.all("script") == []
    assert "//" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    addresses = [a.get("src") or a.get("href") or "" for _, a in page.tags if "src" in a or "href" in a]
    assert all(address.startswith(("data:", "#")) for address in addresses)
    anchors = {a["id"] for _, a in page.tags if a.get("id")}
    assert {a[1:] for a in addresses if a.startswith("#")} <= anchors


def test_a_page_can_be_read_by_ear_and_by_keyboard(run: Path) -> None:
    page = _page(run)
    assert page.all("html")[0]["lang"] == "en"
    assert "width=device-width" in (page.all("meta")[1]["content"] or "")
    assert page.all("a")[0]["href"] == "#main"  # the skip link comes first
    assert all(image.get("alt") for image in page.all("img"))
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))
    assert all(svg.get("role") == "img" for svg in page.all("svg"))
    regions = [a for _, a in page.tags if a.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    assert all(a.get("tabindex") == "0" and a.get("aria-label") for a in regions)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))


def test_worst_pictures_are_cut_into_their_panels(run: Path) -> None:
    images = _page(run).all("img")
    assert len(images) == 9
    assert images[1]["alt"] == "truth of val/0016E5_07959"
    data = base64.b64decode((images[2]["src"] or "").split(",")[1])
    with Image.open(io.BytesIO(data)) as panel, Image.open(run / "samples" / "worst-1.jpg") as whole:
        assert panel.size == (240, 180)
        means = [p.convert("L").resize((1, 1)).tobytes()[0] for p in (panel, whole.crop((492, 0, 732, 180)))]
    assert abs(means[0] - means[1]) <= 3


def test_names_from_files_are_text(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", classes=[EVIL, "b", "c"], data=f"data/{EVIL}")
    scores = json.loads((folder / "evaluation.json").read_text())
    scores |= {"worst": [EVIL] * 3, "skipped": {EVIL: EVIL}, "notes": [EVIL], "split": EVIL}
    scores["metrics"][EVIL] = 0.5
    (folder / "evaluation.json").write_text(json.dumps(scores))
    config = json.loads((folder / "config.json").read_text())
    config |= {"model": EVIL, "command": EVIL, "task": EVIL, "versions": {EVIL: EVIL}, "machine": {EVIL: EVIL}}
    config["choices"][EVIL] = {"value": EVIL, "reason": EVIL}
    config["arguments"][EVIL] = [EVIL]
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "next.txt").write_text(EVIL)
    for text in (report_html(read_run(folder)), table_html(scores)):
        assert "<script" not in text
        assert Page(text).all("script") == []
    other = make_run(tmp_path / "other")
    assert "<script" not in write_comparison([folder, other], tmp_path / "c.html").read_text(encoding="utf-8")


def test_a_run_that_was_cut_short_still_has_a_page(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", scored=False)
    lines = (folder / "metrics.jsonl").read_text().splitlines()[:40]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"kind": "train", "st']))
    assert re.search(r"Trained for \d+ of 1,500 steps in .*; not scored on held-out pictures yet", _page(folder).text)
    for name in ("metrics.jsonl", "next.txt"):
        (folder / name).unlink()
    assert "Not trained yet." in _page(folder).text


def test_numbers_that_do_not_exist_are_dashes(run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    scores = json.loads((folder / "evaluation.json").read_text())
    scores["per_class"]["Pole"] = dict.fromkeys(scores["per_class"]["Pole"])
    scores["metrics"]["dataset_miou"] = None
    scores["confusion"][2] = [0] * 11
    (folder / "evaluation.json").write_text(json.dumps(scores))
    (folder / "samples" / "worst-2.jpg").write_bytes(b"\xff\xd8 cut off")
    page = _page(folder)
    assert "Dataset mIoU – on 101" in page.text
    assert "None" not in page.text
    assert len(page.all("img")) == 6


@pytest.mark.parametrize("name", ["config.json", "evaluation.json"])
@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_damaged_file_is_named(run: Path, tmp_path: Path, name: str, content: str) -> None:
    folder = shutil.copytree(run, tmp_path / "run")
    (folder / name).write_text(content)
    with pytest.raises(SightlineError, match=name):
        write_report(folder)


def test_no_run_no_page(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.json"):
        write_report(tmp_path)


def test_rules_come_from_the_room(run: Path) -> None:
    assert "correct pixels / labelled pixels" in _page(run).text


def test_a_notebook_gets_scores_and_classes(run: Path) -> None:
    page = Page(table_html(json.loads((run / "evaluation.json").read_text())))
    assert "0.5500" in page.text
    assert "Bicyclist" in page.text
    assert len(page.all("table")) == 2


def test_a_comparison_shows_what_differs_and_who_is_ahead(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "deeplab", quality=0.61, seed=3)
    page = Page(write_comparison([run, other], tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert "deeplab is ahead: dataset mIoU 0.6100." in page.text
    assert "0.6100 (best)" in page.text
    start, end = page.text.index("Options that are not"), page.text.index("IoU of every class")
    assert "seed" in page.text[start:end]
    assert "ce+dice" not in page.text[start:end]  # the same in both
    assert "not scored on the same pictures" not in page.text
    assert page.all("script") == []


def test_scores_on_other_pictures_are_not_compared_in_silence(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", data="data/elsewhere")
    text = write_comparison([run, other], tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "not scored on the same pictures" in text


def test_short_names_tell_apart(tmp_path: Path) -> None:
    assert short_names([tmp_path / "a", tmp_path / "b"]) == ["a", "b"]
    assert short_names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]
    assert short_names([tmp_path / "a", tmp_path / "a"]) == ["a (1)", "a (2)"]


def test_the_best_of_a_row() -> None:
    assert best_places([0.1, None, 0.3], "dataset_miou") == {2}
    assert best_places([0.1, 0.3, 0.1], "loss") == {0, 2}
    assert best_places([0.3, 0.3], "iou") == set()
    assert best_places([0.3, None], "iou") == set()


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_page_is_wider_than_the_window(run: Path, tmp_path: Path, width: int) -> None:
    browser = next((b for b in ("chromium", "chromium-browser", "google-chrome") if shutil.which(b)), None)
    if browser is None:
        pytest.skip("no Chromium here; install it to see the pages measured")
    other = make_run(tmp_path / "a-run-with-a-rather-long-name-that-has-no-place-to-break", quality=0.6)
    for page in (write_report(run), write_comparison([run, other], tmp_path / "compare.html")):
        # a frame of exactly that width: headless windows are not made narrower than 500 pixels
        frame = tmp_path / "frame.html"
        measure = "document.title=this.contentDocument.documentElement.scrollWidth"
        style = f"border:0;width:{width}px;height:900px"
        frame.write_text(f'<iframe style="{style}" src="{page.as_uri()}" onload="{measure}"></iframe>')
        told = subprocess.run(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync",
             "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
             "--hide-scrollbars",
             f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000", "--dump-dom", frame.as_uri()],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert f"<title>{width}</title>" in told.stdout
