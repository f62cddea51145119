"""`doctor`: what this machine has: versions, devices, codecs, extras, folders. Nothing in here may crash.

A broken installation is exactly when people call this, so every heavy import is tried and its failure is reported.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

CORE = ("torch", "torchvision", "numpy", "scipy", "pillow", "tifffile", "safetensors", "timm", "pydantic", "cyclopts")
CORE += ("pyyaml", "av", "pycocotools", "matplotlib")
VIDEO_CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4", "mjpeg", "prores")
ENCODERS = {"h264": "libx264", "hevc": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}  # FFmpeg's names differ


@dataclass(frozen=True)
class Health:
    """What `doctor` found; prints as a page of text, `to_json()` for machines."""

    sightline: str
    python: str
    system: str
    versions: Mapping[str, str | None]  # distribution -> version, None: absent
    devices: tuple[str, ...]
    cores: int
    memory_gib: float | None
    free_disk_gib: float | None
    pictures: Mapping[str, bool]  # format -> can be read
    videos: Mapping[str, Mapping[str, bool]]  # codec -> {"read", "write"}
    extras: Mapping[str, tuple[str, ...]]  # extra -> packages that are missing
    cache: str
    offline: bool
    problems: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "sightline": self.sightline,
            "python": self.python,
            "system": self.system,
            "versions": dict(self.versions),
            "devices": list(self.devices),
            "cores": self.cores,
            "memory_gib": self.memory_gib,
            "free_disk_gib": self.free_disk_gib,
            "pictures": dict(self.pictures),
            "videos": {codec: dict(can) for codec, can in self.videos.items()},
            "extras": {
                extra: {"present": not missing, "missing": list(missing), "install": install_line(extra)}
                for extra, missing in self.extras.items()
            },
            "cache": self.cache,
            "offline": self.offline,
            "problems": list(self.problems),
        }

    def __str__(self) -> str:
        blocks = [
            ("Versions", [("sightline", self.sightline), ("python", self.python), ("system", self.system)]),
            ("", [(name, version or "absent") for name, version in self.versions.items()]),
            ("Machine", [*(("device", device) for device in self.devices), *self._machine()]),
            ("Pictures", [("read", _words(k for k, can in self.pictures.items() if can))]),
            (
                "Videos",
                [(verb, _words(c for c, can in self.videos.items() if can[verb])) for verb in ("read", "write")],
            ),
            ("Extras", [(extra, self._extra(extra)) for extra in self.extras]),
            (
                "Folders",
                [("cache", self.cache), ("offline", "yes" if self.offline else "no (SIGHTLINE_OFFLINE=1 turns it on)")],
            ),
            ("Problems", [("", problem) for problem in self.problems] or [("", "none found")]),
        ]
        return "\n".join(_block(title, rows) for title, rows in blocks)

    def _machine(self) -> list[tuple[str, str]]:
        known = [("memory", self.memory_gib), ("free disk", self.free_disk_gib)]
        return [("cores", str(self.cores)), *((name, f"{gib:.0f} GiB") for name, gib in known if gib is not None)]

    def _extra(self, extra: str) -> str:
        missing = self.extras[extra]
        return f"absent: {install_line(extra)}" if missing else "present"


def doctor() -> Health:
    """Look at versions, devices, codecs, extras and folders; never raises for what is broken, but lists it."""
    problems: list[str] = []

    def tried(what: str, look: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return look()
        except Exception as error:  # whatever a broken package raises is a finding
            problems.append(f"{what}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            return otherwise

    versions = {name: version_of(name) for name in CORE}
    problems += [f"{name} is not installed: pip install {name}" for name, version in versions.items() if not version]
    return Health(
        sightline=version_of("sightline") or "not installed",
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=versions,
        devices=tried("devices", devices, ("cpu",)),
        cores=os.cpu_count() or 1,
        memory_gib=tried("memory", _memory, None),
        free_disk_gib=tried("disk", lambda: round(shutil.disk_usage(Path.cwd()).free / 2**30, 1), None),
        pictures=tried("pictures", _pictures, {}),
        videos=tried("videos", _videos, {}),
        extras=tried("extras", extras, {}),
        cache=str(tried("cache folder", _cache, "unknown")),
        offline=offline(),
        problems=tuple(problems),
    )


def version_of(distribution: str) -> str | None:
    """The installed version of a distribution, read from its metadata without importing it; None when absent."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def install_line(extra: str) -> str:
    """The pip command that brings an extra."""
    return f"pip install 'sightline[{extra}]'"


def extras() -> dict[str, tuple[str, ...]]:
    """The extras of this distribution, each with its packages that are missing here."""
    missing: dict[str, tuple[str, ...]] = {}
    for line in metadata.requires("sightline") or ():
        requirement, _, marker = line.partition(";")
        found = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        name = re.match(r"[\w.-]+", requirement.strip())
        if found and name and found[1] not in ("dev", "oracle"):
            absent = () if version_of(name[0]) else (name[0],)
            missing[found[1]] = missing.get(found[1], ()) + absent
    return missing


def devices() -> tuple[str, ...]:
    """The devices torch can compute on, in words."""
    import torch

    found = [f"cpu ({torch.get_num_threads()} threads)"]
    for k in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(k)
        found.append(f"cuda:{k} ({card.name}, {card.total_memory / 2**30:.0f} GiB)")
    if torch.backends.mps.is_available():
        found.append("mps (Apple)")
    return tuple(found)


def offline() -> bool:
    """Whether the variable SIGHTLINE_OFFLINE forbids downloads."""
    return os.environ.get("SIGHTLINE_OFFLINE", "").lower() not in ("", "0", "false", "no")


def _cache() -> Path:
    from sightline.weights.fetch import cache_folder

    return cache_folder()


def _pictures() -> dict[str, bool]:
    from PIL import Image, features

    Image.init()
    can = {name: name in Image.OPEN for name in ("JPEG", "PNG", "WEBP", "BMP", "TIFF")}
    return can | {"WEBP": bool(features.check("webp")), "JPEG": bool(features.check("jpg"))}


def _videos() -> dict[str, dict[str, bool]]:
    import av

    def can(codec: str, mode: Literal["r", "w"]) -> bool:
        try:
            av.Codec(codec, mode)
        except Exception:  # av raises its own classes, which moved between versions
            return False
        return True

    return {
        codec: {"read": can(codec, "r"), "write": can(codec, "w") or can(ENCODERS.get(codec, codec), "w")}
        for codec in VIDEO_CODECS
    }


def _memory() -> float | None:
    if sys.platform == "win32" or not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def _words(names: Any) -> str:
    return ", ".join(names) or "none"


def _block(title: str, rows: list[tuple[str, str]]) -> str:
    width = 13
    lines = [f"  {name:<{width}}{value}" if name else f"  {value}" for name, value in rows]
    return "\n".join([title, *lines] if title else lines)
