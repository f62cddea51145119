"""PASCAL VOC's boxes (Everingham et al. 2012): JPEGImages/, Annotations/NAME.xml, ImageSets/Main/{train,val,test}.txt.

VOC counts pixels from 1 and inclusively: a box of the first pixel is 1, 1, 1, 1 there and 0, 0, 1, 1 here. Files that
count from 0 (some labelling programs write them) are recognised by a 0 in any corner, and said aloud.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from sightline.datasets.class_files import read_text
from sightline.datasets.cvat import read_xml
from sightline.datasets.folders import files, inside, key_of, pictures, shown, split_name, subfolders
from sightline.datasets.records import ObjectRecord, Picture, Thing
from sightline.datasets.survey import Asked, Survey
from sightline.datasets.things import ClassIds
from sightline.errors import SightlineError

Row = tuple[str, tuple[float, float, float, float], bool]


def home_in(root: Path) -> Path | None:
    """The folder with Annotations/ and JPEGImages/: `root` itself or one below it."""
    inner = subfolders(root) if root.is_dir() else []
    for home in (root, *inner, *(deeper for f in inner for deeper in subfolders(f))):
        if (home / "JPEGImages").is_dir() and files(home / "Annotations", ".xml"):
            return home
    return None


def read_voc_objects(root: Path, asked: Asked) -> Survey:
    """The pictures of a VOC folder with their boxes; those without an .xml are unlabelled."""
    home = home_in(root)
    if home is None:
        raise SightlineError(f"{root} is not in VOC's format; expected the folders JPEGImages/ and Annotations/")
    survey = Survey(home, "voc")
    found = {path.stem: path for path in files(home / "Annotations", ".xml")}
    images = {path.stem: path for path in pictures(home / "JPEGImages")}
    rows: dict[str, list[Row]] = {}
    for stem, path in found.items():
        if stem not in images:
            survey.error(path, f"{path} has no picture in JPEGImages/; add it or remove the file")
            continue
        try:
            rows[stem] = objects_in(path)
        except SightlineError as error:
            survey.error(path, str(error))
    first = 0.0 if any(min(box) == 0 for boxes in rows.values() for _, box, _ in boxes) else 1.0
    if first == 0:
        survey.notes.append("a box begins at 0, so corners are read as they are, not as VOC's pixels from 1 on")
    used = list(dict.fromkeys(sorted(name for boxes in rows.values() for name, _, _ in boxes)))
    names = ClassIds(asked, used, home)
    survey.classes = names.classes
    survey.notes += names.notes
    survey.facts["classes_guessed"] = not asked.classes
    splits = _splits(survey, images)
    for stem, image in images.items():
        if splits and stem not in splits:
            continue
        things = None
        if stem in rows:
            try:
                things = tuple(
                    Thing(names.number(name, found[stem], place), _moved(box, first), difficult=difficult, place=place)
                    for place, (name, box, difficult) in enumerate(rows[stem])
                )
            except SightlineError as error:
                survey.error(found[stem], str(error))
                continue
        survey.records.append(
            ObjectRecord(key_of(image, home), Picture(image), things, found.get(stem), split=splits.get(stem, ""))
        )
    return survey


def _moved(box: tuple[float, float, float, float], first: float) -> tuple[float, float, float, float]:
    """Inclusive corners from 1 on, as edges from 0 on."""
    return (box[0] - first, box[1] - first, box[2], box[3])


def objects_in(path: Path) -> list[Row]:
    """`(class, (xmin, ymin, xmax, ymax), difficult)` of every object of one file, as it stands there."""
    tree = read_xml(path)
    if tree.tag != "annotation":
        raise SightlineError(f"{path} begins with <{shown(tree.tag)}>, expected VOC's <annotation>")
    return [_object(node, place, path) for place, node in enumerate(tree.findall("object"))]


def _object(node: ElementTree.Element, place: int, path: Path) -> Row:
    name = (node.findtext("name") or "").strip()
    if not name:
        raise SightlineError(f"{path}: object {place} has no name; correct it")
    corners = []
    for word in ("xmin", "ymin", "xmax", "ymax"):
        text = node.findtext(f"bndbox/{word}")
        try:
            corners.append(float(text or ""))
        except ValueError:
            raise SightlineError(
                f"{path}: object {place} ({name}) has {word} {shown(text)}; expected a number"
            ) from None
    return name, (corners[0], corners[1], corners[2], corners[3]), (node.findtext("difficult") or "0").strip() == "1"


def _splits(survey: Survey, images: dict[str, Path]) -> dict[str, str]:
    """The split of each picture by the lists in ImageSets/Main; lists of single classes are left aside."""
    lists = {path.stem: path for path in files(survey.root / "ImageSets" / "Main", ".txt")}
    found: dict[str, str] = {}
    chosen = [name for name in ("train", "val", "test") if name in lists] or [n for n in ("trainval",) if n in lists]
    for name in chosen:
        for line in read_text(lists[name], 2**28).splitlines():
            words = line.split()
            if not words:
                continue
            stem = words[0]
            inside(survey.root, survey.root, stem, lists[name])
            if stem not in images:
                if name != "test":
                    survey.error(
                        lists[name], f"{lists[name]} lists {stem}, which is not in JPEGImages/; add the picture"
                    )
                continue
            split = "train" if name == "trainval" else split_name(name)
            if found.setdefault(stem, split) != split:
                survey.error(lists[name], f"{lists[name]}: {stem} is in more than one list; a picture has one split")
    return found
