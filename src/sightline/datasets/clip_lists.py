"""Lists of videos with a class: Kinetics, Something-Something, Sports-1M, the lists of the field's tools, Weizmann.

    kinetics    train.csv, val.csv, test.csv with the columns label, youtube_id, time_start, time_end, split;
                files called ID_000010_000020.mp4 (or ID.mp4) anywhere below
    clip_list   train.csv, val.csv, ... or *_list*.txt whose lines are `path label`, `path,label` or
                `path frames label`; the label is a number or a name, the path may hold spaces and brackets, and names a
                video or a folder of frames
    something   something-something-v2-{train,validation,test}.json and -labels.json; files called ID.webm (or .mp4)
    sports1m    train_partition.txt, test_partition.txt with lines `URL 168,169`, and labels.txt; the first label counts
    weizmann    PERSON_ACTION.avi; each person is a group

Every file that is named and not there is a fault of its own, so that `data check` tells all of them at once. Lines may
end as Windows ends them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from sightline.datasets.class_files import read_json, read_rows, read_text
from sightline.datasets.folders import exists, files, inside, natural, shown, split_name, subfolders
from sightline.datasets.records import ClassRecord, Picture
from sightline.datasets.survey import Asked, Survey
from sightline.errors import SightlineError
from sightline.media.frame_folders import is_frame_folder
from sightline.media.video import is_video

_LIMIT = 2**28
_WEIZMANN = ("bend", "jack", "jump", "pjump", "run", "side", "skip", "walk", "wave1", "wave2")
_PERSON = re.compile(r"^([a-z]+)_([a-z]+)(\d?)$")
_YOUTUBE = re.compile(r"(?:v=|youtu\.be/|/v/)([\w-]{6,})")
_SPLIT_WORDS = re.compile(r"(train|val|valid|validation|test|testing|training)", re.I)


@dataclass(frozen=True)
class Line:
    """One line of a list: what it names, its class (a name, or a number), its split."""

    name: str
    label: str
    split: str
    source: Path


# Readers ---------------------------------------------------------------------------------------------------------


def read_kinetics(root: Path, asked: Asked) -> Survey:
    """Kinetics' csv files beside its videos."""
    lines, names = [], {}
    for path in kinetics_files(root):
        rows = read_rows(path, _LIMIT)
        head = [c.lower() for c in rows[0]]
        at = {word: head.index(word) for word in ("label", "youtube_id", "time_start", "time_end") if word in head}
        split = head.index("split") if "split" in head else None
        for row in rows[1:]:
            cells = {word: row[k] for word, k in at.items() if k < len(row)}
            if len(cells) < 4 or not cells["youtube_id"]:
                raise SightlineError(f"{path}: the line {shown(','.join(row))} lacks cells; download the list again")
            name = cells["youtube_id"]
            start, end = (_seconds(cells[word], path) for word in ("time_start", "time_end"))
            names[f"{name}_{start:06d}_{end:06d}"] = name
            told = row[split] if split is not None and split < len(row) else path.stem
            lines.append(Line(f"{name}_{start:06d}_{end:06d}", cells["label"].strip('"'), split_name(told), path))
    videos = _videos(root)
    found = {line.name: videos.get(line.name) or videos.get(names[line.name]) for line in lines}
    return _survey(root, "kinetics", lines, found, asked)


def read_clip_list(root: Path, asked: Asked) -> Survey:
    """Lists of `path label` lines."""
    lines = [line for path in list_files(root) for line in _lines(path)]
    found = {}
    for line in lines:
        if line.name not in found:
            found[line.name] = _place(root, line)
    return _survey(root, "clip_list", lines, found, asked)


def read_something(root: Path, asked: Asked) -> Survey:
    """Something-Something's JSON files beside its videos."""
    lists, labels = something_files(root)
    ids = read_json(labels) if labels is not None else {}
    if not isinstance(ids, dict):
        raise SightlineError(f'{labels} must hold {{"template": "id"}}; download it again')
    order = sorted(ids, key=lambda name: int(ids[name])) if all(str(v).isdecimal() for v in ids.values()) else ()
    lines = []
    for path in lists:
        content = read_json(path)
        if not isinstance(content, list) or not all(isinstance(e, dict) and "id" in e for e in content):
            raise SightlineError(f"{path} must hold a list of objects with an id; download it again")
        word = _SPLIT_WORDS.search(path.stem.rpartition("v2")[2] or path.stem)
        for entry in content:
            template = str(entry.get("template", "")).replace("[", "").replace("]", "")
            lines.append(Line(str(entry["id"]), template, split_name(word[1]) if word else "", path))
    videos = _videos(root)
    asked = Asked(tuple(order), (), asked.seed) if order and not asked.classes else asked
    return _survey(root, "something", lines, {line.name: videos.get(line.name) for line in lines}, asked)


def read_sports1m(root: Path, asked: Asked) -> Survey:
    """Sports-1M's partitions beside its videos, called by their YouTube ids."""
    names = tuple(line.strip() for line in read_text(root / "labels.txt", _LIMIT).splitlines() if line.strip())
    lines, several = [], 0
    for path in (root / "train_partition.txt", root / "test_partition.txt"):
        for number, text in enumerate(read_text(path, _LIMIT).splitlines() if exists(path) else (), start=1):
            url, _, labels = text.strip().rpartition(" ")
            if not text.strip():
                continue
            wanted = [word for word in labels.split(",") if word]
            if not url or not all(word.isdecimal() and int(word) < len(names) for word in wanted) or not wanted:
                raise SightlineError(
                    f"{path}, line {number}: {shown(text)} is no URL and labels from 0 to {len(names) - 1}; "
                    "download the list again"
                )
            several += len(wanted) > 1
            match = _YOUTUBE.search(url)
            lines.append(
                Line(match[1] if match else Path(url).stem, names[int(wanted[0])], path.stem.partition("_")[0], path)
            )
    videos = _videos(root)
    asked = Asked(names, (), asked.seed) if not asked.classes else asked
    survey = _survey(root, "sports1m", lines, {line.name: videos.get(line.name) for line in lines}, asked)
    if several:
        survey.notes.append(f"{several} videos have more than one label; the first one counts")
    return survey


def read_weizmann(root: Path, asked: Asked) -> Survey:
    """Weizmann's videos: the class is in the name, each person is a group."""
    lines, found, groups = [], {}, {}
    for path in weizmann_files(root):
        match = _PERSON.match(path.stem)
        assert match is not None
        action = match[2] + match[3] if match[2] == "wave" else match[2]
        lines.append(Line(path.stem, action, "", path))
        found[path.stem], groups[path.stem] = path, match[1]
    return _survey(root, "weizmann", lines, found, asked, groups)


# Recognising them ------------------------------------------------------------------------------------------------


def kinetics_files(root: Path) -> list[Path]:
    """The csv files with Kinetics' columns, in `root` or a folder there."""
    return [p for home in _homes(root) for p in files(home, ".csv") if {"label", "youtube_id"} <= set(_head(p))]


def list_files(root: Path) -> list[Path]:
    """The lists of `path label` lines in `root`, or in a folder there that is called after lists."""
    found = []
    for home in _homes(root):
        for path in (*files(home, ".csv"), *files(home, ".txt")):
            listed = path.suffix == ".csv" or "list" in path.stem.lower()
            if listed and _SPLIT_WORDS.search(path.stem) and _is_list(path, root):
                found.append(path)
    return found


def something_files(root: Path) -> tuple[list[Path], Path | None]:
    """The lists, and the file of labels."""
    found = [p for home in _homes(root) for p in files(home, ".json") if "something" in p.name.lower()]
    labels = next((p for p in found if "label" in p.stem.lower()), None)
    return [p for p in found if p != labels], labels


def sports1m_files(root: Path) -> list[Path]:
    """labels.txt and the partitions, when both are there."""
    found = [root / n for n in ("labels.txt", "train_partition.txt", "test_partition.txt") if exists(root / n)]
    return found if len(found) >= 2 and found[0].name == "labels.txt" else []


def weizmann_files(root: Path) -> list[Path]:
    """The videos called PERSON_ACTION with Weizmann's actions; [] when others stand among them."""
    found = [p for p in files(root) if is_video(p)]
    fits = [p for p in found if (m := _PERSON.match(p.stem)) and (m[2] in _WEIZMANN or m[2] + m[3] in _WEIZMANN)]
    return fits if len(fits) >= 2 and len(fits) == len(found) else []


def _homes(root: Path) -> Iterator[Path]:
    yield root
    yield from subfolders(root)


def _head(path: Path) -> list[str]:
    try:
        with path.open("rb") as stream:
            line = stream.readline(4096).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return []
    return [cell.strip().strip('"').lower() for cell in line.split(",")]


def _is_list(path: Path, root: Path) -> bool:
    """Whether the first line names a video (or a folder of frames, which must be there) and something after it."""
    try:
        line = next((text for text in path.read_text("utf-8-sig").splitlines()[:20] if text.strip()), "")
        name, label = _cut(line)
        return bool(label) and (is_video(Path(name)) or is_frame_folder(root / name))
    except (OSError, UnicodeDecodeError, ValueError):
        return False


# Parts -----------------------------------------------------------------------------------------------------------


def _cut(text: str) -> tuple[str, str]:
    """Path and label of a line; ("", "") of one that has no two parts."""
    text = text.strip()
    comma = re.fullmatch(r'"?(.*?)"?\s*,\s*"?([^,"/]+)"?', text)
    if comma and (is_video(Path(comma[1])) or " " not in text):
        return comma[1].strip(), comma[2].strip()
    name, _, label = text.rpartition(" ")
    before, _, count = name.rpartition(" ")
    if count.isdecimal() and before and not is_video(Path(name)):
        name = before  # path, frames, label
    return name.strip().strip('"'), label.strip()


def _lines(path: Path) -> Iterable[Line]:
    word = _SPLIT_WORDS.search(path.stem)
    split = split_name(word[1]) if word else ""
    for number, text in enumerate(read_text(path, _LIMIT).splitlines(), start=1):
        if not text.strip():
            continue
        name, label = _cut(text)
        if not name or not label:
            raise SightlineError(f"{path}, line {number}: {shown(text)} is no path and label; write `path label`")
        yield Line(name, label, split, path)


def _place(root: Path, line: Line) -> Path | None:
    """The video or folder of frames that a line names, relative to the list or to `root`."""
    for folder in dict.fromkeys((line.source.parent, root, *subfolders(root))):
        try:
            path = inside(root, folder, line.name, line.source)
        except SightlineError:
            continue
        if exists(path) or path.is_dir():
            return path
    return None


def _seconds(text: str, path: Path) -> int:
    try:
        return int(float(text))
    except ValueError:
        raise SightlineError(f"{path}: {shown(text)} is no time in seconds; download the list again") from None


def _videos(root: Path) -> dict[str, Path]:
    """All videos and folders of frames below `root` by their stems."""
    found = {p.stem: p for p in root.rglob("*") if is_video(p) and p.is_file()}
    return found or {p.name: p for p in root.rglob("*") if p.is_dir() and is_frame_folder(p)}


def _survey(
    root: Path,
    format: str,
    lines: list[Line],
    found: dict[str, Path | None],
    asked: Asked,
    groups: dict[str, str] | None = None,
) -> Survey:
    """Records of the lines whose files are there; every other is a fault."""
    survey = Survey(root, format)
    told = [line for line in lines if line.label]
    names = asked.classes or _classes(root, {line.label for line in told})
    numbers = {name: k for k, name in enumerate(names)}
    keys: dict[str, str] = {}
    for line in lines:
        path = found.get(line.name)
        if path is None:
            survey.error(root / line.name, f"{line.source.name} lists {shown(line.name)}, which is not there; add it")
            continue
        known = line.label in numbers or (line.label.isdecimal() and int(line.label) < len(names))
        if line.label and not known:
            said = f"{shown(line.name)} has the class {shown(line.label)}, none of the {len(names)} known ones"
            survey.error(line.source, f"{line.source}: {said}; correct it")
            continue
        key = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
        if key in keys:
            if keys[key] != line.split:
                survey.error(path, f"{key} is listed in {keys[key]} and in {line.split}; keep it in one of them")
            continue
        keys[key] = line.split
        label = numbers[line.label] if line.label in numbers else int(line.label) if line.label else None
        group = (groups or {}).get(line.name, "")
        survey.records.append(ClassRecord(key, Picture(path), label, group, line.split, video=True))
    survey.classes = tuple(names)
    survey.facts["classes_guessed"] = not asked.classes
    survey.notes.append(f"{len(survey.records)} of {len(lines)} listed videos are there, of {len(names)} classes")
    return survey


def _classes(root: Path, labels: set[str]) -> tuple[str, ...]:
    """The names in order: a list beside the videos, else the labels themselves, numbers as numbers."""
    if labels and all(label.isdecimal() for label in labels):
        from sightline.datasets.class_files import find_classes

        named = find_classes(root)[0].classes
        most = max(int(label) for label in labels) + 1
        return named if len(named) >= most else tuple(str(k) for k in range(most))
    return tuple(sorted(labels, key=natural))
