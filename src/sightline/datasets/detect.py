"""Which format a folder is in, from the names in it (and a glance into annotation files); one rule each, in order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from sightline.datasets.by_class import class_folders
from sightline.datasets.camvid import NAME as CAMVID_NAME
from sightline.datasets.folders import files, subfolders
from sightline.datasets.multilabel import homes
from sightline.datasets.pairs import MULTIPAGE, branches
from sightline.datasets.table import find_table
from sightline.datasets.volumes import volume_branches, volumes_in
from sightline.media.frame_folders import is_frame_folder
from sightline.media.image import is_image
from sightline.media.video import is_video
from sightline.media.volume import is_volume


def detect(root: Path) -> tuple[str, str]:
    """`(format, reason)` of a folder or an annotation file, or `("", "")` when no rule fits."""
    for name, rule in _RULES:
        if reason := rule(root):
            return name, reason
    return "", ""


def detect_objects(root: Path) -> tuple[str, str]:
    """The same for folders of pictures with objects."""
    rules = (
        ("voc", _voc_objects),
        ("yolo", _yolo_objects),
        ("coco", _coco_objects),
        ("cvat", _cvat),
        ("labelme", _labelme),
        ("instances", _instance_objects),
    )
    for name, rule in rules:
        if reason := rule(root):
            return name, reason
    return "", ""


def _voc_objects(root: Path) -> str:
    from sightline.datasets.voc_objects import home_in

    home = home_in(root)
    return "it has Annotations/ with an .xml a picture" if home is not None else ""


def _coco_objects(root: Path) -> str:
    from sightline.datasets.coco_objects import find_annotations

    found = find_annotations(root)
    return f"{found[0][0].name} has COCO's images, annotations and categories" if found else ""


def _instance_objects(root: Path) -> str:
    from sightline.datasets.instances import numbers_objects

    return numbers_objects(root)


def _yolo_objects(root: Path) -> str:
    from sightline.datasets.yolo import find_labels, find_layout

    if (found := find_layout(root)) is not None:
        return f"{found.name} names classes and folders of pictures"
    found = find_labels(root)
    return f"{found.name} has a class and numbers from 0 to 1 in a line, as YOLO writes objects" if found else ""


def detect_classes(root: Path) -> tuple[str, str]:
    """The same for pictures with a class each."""
    found = class_folders(root, is_image)
    return (
        ("pictures_by_class", f"it holds a folder of pictures for each of {len(found)} classes") if found else ("", "")
    )


def detect_clips(root: Path) -> tuple[str, str]:
    """The same for videos, and volumes, with a class each."""
    from sightline.datasets import brains, clip_lists, youtube8m

    lists = (
        ("kinetics", clip_lists.kinetics_files, "lists youtube_id and label, as Kinetics does"),
        ("something", lambda r: clip_lists.something_files(r)[0], "is a list of Something-Something"),
        ("sports1m", clip_lists.sports1m_files, "stands beside partitions of Sports-1M"),
    )
    for name, find, words in lists:
        if found := find(root):
            return name, f"{found[0].name} {words}"
    if found := class_folders(root, is_video):
        return "clips_by_class", f"it holds a folder of videos for each of {len(found)} classes"
    if found := clip_lists.list_files(root):
        return "clip_list", f"{found[0].name} lists videos and labels"
    if found := clip_lists.weizmann_files(root):
        return "weizmann", f"{found[0].name} is called as Weizmann's videos"
    if found := class_folders(root, is_frame_folder):
        return "frames_by_class", f"it holds folders of frames in a folder for each of {len(found)} classes"
    if found := brains.find_runs(root):
        return "fmri_runs", f"{found[0].name} has four axes and {found[1].name} labels its volumes"
    if found := class_folders(root, brains.is_brain):
        return "volumes_by_class", f"it holds a folder of volumes for each of {len(found)} classes"
    if found := youtube8m.feature_files(root):
        return "youtube8m", f"{found[0].name} holds features, as YouTube-8M does"
    return "", ""


def _names(root: Path) -> set[str]:
    return {f.name for f in subfolders(root)}


def _voc(root: Path) -> str:
    for home in (root, *subfolders(root)):
        if {"JPEGImages", "SegmentationClass"} <= _names(home) or {"JPEGImages", "SegmentationClassPNG"} <= _names(
            home
        ):
            return "it has JPEGImages/ and SegmentationClass/"
        if (home / "ImageSets" / "Segmentation").is_dir() and (home / "SegmentationClass").is_dir():
            return "it has ImageSets/Segmentation/ and SegmentationClass/"
    return ""


def _cityscapes(root: Path) -> str:
    return "it has leftImg8bit/ and gtFine/" if {"leftImg8bit", "gtFine"} <= _names(root) else ""


def _cityscapes_coarse(root: Path) -> str:
    return "it has leftImg8bit/ and gtCoarse/" if {"leftImg8bit", "gtCoarse"} <= _names(root) else ""


def _ade20k(root: Path) -> str:
    known = (root / "images" / "training").is_dir() and (root / "annotations" / "training").is_dir()
    first = next(iter(files(root / "annotations" / "training", ".png")), None) or next(
        iter(files(root / "annotations" / "validation", ".png")), None
    )
    named = first is not None and first.name.startswith("ADE_")
    return "it has images/training and annotations/training with names ADE_..." if known and named else ""


def _coco_stuff(root: Path) -> str:
    for maps in (root / "stuffthingmaps", root / "annotations", root):
        for year in ("train2017", "val2017", "train2014", "val2014"):
            found = files(maps / year, ".png")
            if found and (maps.name == "stuffthingmaps" or "labelTrainIds" in found[0].name):
                return f"it has label maps in {maps.name}/{year}"
    return ""


def _camvid(root: Path) -> str:
    for branch in branches(root):
        found = files(branch.images)
        if branch.labels not in (None, branch.images) and found and all(CAMVID_NAME.match(f.name) for f in found):
            colours = any((root / name).is_file() for name in ("class_dict.csv", "label_colors.txt"))
            return "" if colours else "its pictures have CamVid's sequence names (0001TP_, 0006R0_, 0016E5_, Seq05VD_)"
    return ""


def _coco(root: Path) -> str:
    from sightline.datasets.coco import find_annotations

    found = find_annotations(root)
    return f"{found[0][0].name} has COCO's images, annotations and categories" if found else ""


def _cvat(root: Path) -> str:
    from sightline.datasets.cvat import find_annotations

    found = find_annotations(root)
    return f"{found[0].name} begins with CVAT's <annotations>" if found else ""


def _table(root: Path) -> str:
    found = find_table(root)
    return f"{found.name} lists pictures" if found else ""


def _labelme(root: Path) -> str:
    from sightline.datasets.labelme import find_annotations

    found = find_annotations(root, first=True)
    return f"{found[0].name} has LabelMe's shapes and imagePath" if found else ""


def _stack(root: Path) -> str:
    from sightline.media.image import pages

    if root.is_dir():
        volumes = [f for f in files(root) if f.suffix.lower() in MULTIPAGE and re.search(r"label|mask", f.stem, re.I)]
        for volume in volumes[:1]:
            try:
                return f"{volume.name} has {pages(volume)} pages" if pages(volume) > 1 else ""
            except Exception:  # an unreadable file decides nothing here; the reader will name it
                return ""
    return ""


def _multilabel(root: Path) -> str:
    found = homes(root)
    return f"{found[0].masks.relative_to(root).as_posix()}/ holds a folder of masks for each class" if found else ""


def _nnunet(root: Path) -> str:
    return "it has imagesTr/ and labelsTr/" if {"imagesTr", "labelsTr"} <= _names(root) else ""


def _volumes(root: Path) -> str:
    for _, images, _ in volume_branches(root) if root.is_dir() else []:
        for path in volumes_in(images):
            if is_volume(path, stacks=False):
                return f"{images.relative_to(root).as_posix()}/ holds volumes such as {path.name}"
    return ""


def _pairs(root: Path) -> str:
    found = branches(root) if root.is_dir() else []
    for images, labels in ((b.images, b.labels) for b in found if b.labels is not None):
        if labels == images:
            return "its masks are marked by a word in their names"
        if any(is_image(f) for f in files(images)) or subfolders(images):
            return f"it has {images.relative_to(root).as_posix()}/ beside {labels.relative_to(root).as_posix()}/"
    return ""


_RULES: tuple[tuple[str, Callable[[Path], str]], ...] = (
    ("nnunet", _nnunet),
    ("volumes", _volumes),
    ("voc", _voc),
    ("cityscapes", _cityscapes),
    ("cityscapes_coarse", _cityscapes_coarse),
    ("ade20k", _ade20k),
    ("coco_stuff", _coco_stuff),
    ("camvid", _camvid),
    ("coco", _coco),
    ("cvat", _cvat),
    ("table", _table),
    ("labelme", _labelme),
    ("stack", _stack),
    ("multilabel", _multilabel),
    ("pairs", _pairs),
)
