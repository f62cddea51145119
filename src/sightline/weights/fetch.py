"""Fetching published weights into a cache: said aloud, resumed after a cut, verified, never behind anybody's back.

`SIGHTLINE_CACHE` moves the cache, `SIGHTLINE_OFFLINE=1` forbids the network.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sightline.contracts import PublishedWeights
from sightline.errors import SightlineError, UsageError
from sightline.files import write_text

TRIES = 4  # in a row without a new byte
MAX_BYTES = 32 * 2**30
_CHUNK = 2**18


def cache_folder() -> Path:
    """`SIGHTLINE_CACHE`, or the folder this system keeps caches in."""
    given = os.environ.get("SIGHTLINE_CACHE")
    if given:
        return Path(given).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData/Local") / "sightline" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/sightline"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sightline"


def cached_path(record: PublishedWeights, cache: str | Path | None = None) -> Path:
    """Where `fetch` puts this file, whether it is there or not."""
    name = re.sub(r"[^A-Za-z0-9._-]", "_", Path(urllib.parse.urlsplit(record.url).path).name).lstrip(".") or "weights"
    folder = Path(cache).expanduser() if cache is not None else cache_folder()
    return folder / "weights" / hashlib.sha256(record.url.encode()).hexdigest()[:8] / name


def fetch(
    record: PublishedWeights,
    *,
    cache: str | Path | None = None,
    offline: bool | None = None,
    progress: Callable[[str], None] = print,
    timeout: float = 30.0,
) -> Path:
    """The published file on this disk, downloaded when it is not there yet.

    Size and licence are told to `progress` before anything is downloaded. A download that was cut is resumed when the
    server can prove that the file is still the same, and starts again when it cannot. The file is compared with the
    record's SHA-256 (all of it, or the prefix its source prints); where the record has none, the first fetch records
    it beside the file, aloud, and later calls compare. `timeout`: seconds without a byte.

    Raises SightlineError, one sentence, without network or when the file is not what the record says; UsageError for
    an address that is not http(s) or a hash that is none.
    """
    scheme = urllib.parse.urlsplit(record.url).scheme
    if scheme not in ("http", "https"):
        raise UsageError(f"weights '{record.name}': cannot fetch '{record.url}', only http and https addresses")
    if record.sha256 != "unknown" and not re.fullmatch(r"[0-9a-f]{8,64}", record.sha256):
        raise UsageError(f"weights '{record.name}': '{record.sha256}' is no SHA-256, nor the first 8 digits of one")
    path = cached_path(record, cache)
    if path.is_file():
        return _verified(record, path, progress)
    if offline if offline is not None else os.environ.get("SIGHTLINE_OFFLINE", "0").lower() not in ("", "0", "false"):
        raise SightlineError(
            f"weights '{record.name}' are not in the cache and the network is switched off: put {record.url} at {path},"
            " or unset SIGHTLINE_OFFLINE"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.with_name(path.name + ".lock"), progress):
            if not path.is_file():  # another process may have fetched it while we waited
                _announce(record, path, progress)
                part = _download(record, path, progress, timeout)
                _check(record, part, _digest(part))
                part.replace(path)
                _journal(path).unlink(missing_ok=True)
            return _verified(record, path, progress)
    except OSError as error:
        raise SightlineError(
            f"cannot write the cache at {path.parent}: {error.strerror or error}; free some space or point"
            " SIGHTLINE_CACHE elsewhere"
        ) from error


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


_digest = sha256


def _announce(record: PublishedWeights, path: Path, progress: Callable[[str], None]) -> None:
    size = f"{record.megabytes:g} MB" if record.megabytes else "of unknown size"
    host = urllib.parse.urlsplit(record.url).netloc
    about = f", trained on {record.trained_on}" if record.trained_on else ""
    progress(f"downloading weights '{record.name}' ({size}, licence: {record.licence}{about}) from {host} to {path}")


def _verified(record: PublishedWeights, path: Path, progress: Callable[[str], None]) -> Path:
    """Compare a complete file with the record, or with what the first fetch recorded."""
    digest = _digest(path)
    _check(record, path, digest)
    note = path.with_name(path.name + ".sha256.json")
    if record.sha256 != "unknown":
        return path
    try:
        recorded = json.loads(note.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        progress(
            f"no checksum is published for '{record.name}': recorded sha256 {digest} of this first fetch in {note}"
        )
        write_text(note, json.dumps({"url": record.url, "sha256": digest, "bytes": path.stat().st_size}))
        return path
    if recorded != digest:
        path.unlink(missing_ok=True)
        raise SightlineError(
            f"{path} changed since it was first fetched (sha256 {digest[:8]}, recorded {str(recorded)[:8]}) and was"
            f" removed: fetch it again, or delete {note} if the new file is to be trusted"
        )
    return path


def _check(record: PublishedWeights, path: Path, digest: str) -> None:
    if record.sha256 != "unknown" and not digest.startswith(record.sha256):
        path.unlink(missing_ok=True)
        _journal(path.with_name(path.name.removesuffix(".part"))).unlink(missing_ok=True)
        raise SightlineError(
            f"{record.url} is not the published file: its sha256 begins with {digest[:8]}, expected"
            f" {record.sha256[:8]}; the download was removed: try again, or get the file from its source"
        )


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".part.json")


class _OnlyWeb(urllib.request.HTTPRedirectHandler):
    """Redirects stay on the web, and do not leave https."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        allowed = ("https",) if req.full_url.startswith("https:") else ("http", "https")
        if urllib.parse.urlsplit(newurl).scheme not in allowed:
            raise urllib.error.HTTPError(req.full_url, code, f"redirects to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(record: PublishedWeights, path: Path, progress: Callable[[str], None], timeout: float) -> Path:
    """Fill the partial file beside `path` until it is whole; cuts are resumed a few times, then left for later."""
    part, idle, reason = path.with_name(path.name + ".part"), 0, ""
    while idle < TRIES:
        before = part.stat().st_size if part.is_file() else 0
        try:
            reason = _download_once(record, path, part, progress, timeout)
            if not reason:
                return part
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in (408, 416, 429, 500, 502, 503, 504):
                raise SightlineError(
                    f"{record.url} answered {error.code} {error.reason}: the file may have moved; get it from its"
                    f" source and put it at {path}"
                ) from error
            if error.code == 416:  # what we have is longer than the file
                part.unlink(missing_ok=True)
            reason = f"{error.code} {error.reason}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", None) or error or type(error).__name__)
        after = part.stat().st_size if part.is_file() else 0
        idle = 0 if after > before else idle + 1
        if idle and idle < TRIES:
            time.sleep(min(timeout, 0.2 * 2**idle))
    kept = part.stat().st_size / 1e6 if part.is_file() else 0
    raise SightlineError(
        f"cannot fetch {record.url} ({reason}): check the network and try again"
        f"{f', {kept:.1f} MB are kept and will be resumed' if kept else ''}, or put the file at {path} yourself"
    )


def _download_once(
    record: PublishedWeights, path: Path, part: Path, progress: Callable[[str], None], timeout: float
) -> str:
    """One request; an empty answer when the file is whole, else why it is not."""
    start = part.stat().st_size if part.is_file() else 0
    validator = _validator(path) if start else ""
    headers = {"Accept-Encoding": "identity", "User-Agent": "sightline"}
    if start and validator:
        headers |= {"Range": f"bytes={start}-", "If-Range": validator}
    request = urllib.request.Request(record.url, headers=headers)
    with urllib.request.build_opener(_OnlyWeb()).open(request, timeout=timeout) as answer:
        begin, total = _span(answer, start)
        if begin not in (0, start):
            return "the server sent another part of the file than was asked for"
        if answer.headers.get_content_type() == "text/html":
            raise SightlineError(f"{record.url} is a web page, not a file of weights: get the file from its source")
        _check_size(record, path, total, begin)
        if begin:
            progress(f"resuming at {begin / 1e6:.1f} MB")
        else:
            _write_validator(path, answer)
        received = _copy(answer, part, begin, total, progress)
    if total is not None and received < total:
        return f"the connection was cut after {received} of {total} bytes"
    return ""


def _span(answer: Any, start: int) -> tuple[int, int | None]:
    """The first byte of this answer, and the size of the whole file when it is told."""
    length = answer.headers.get("Content-Length", "")
    size = int(length) if length.isdigit() else None
    if answer.status != 206:
        return 0, size
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not found:
        return -1, None
    whole = int(found[2]) if found[2] != "*" else (start + size if size is not None else None)
    return int(found[1]), whole


def _check_size(record: PublishedWeights, path: Path, total: int | None, begin: int) -> None:
    if total is None:
        return
    limit = _most(record)
    if total > limit:
        raise SightlineError(
            f"{record.url} is {total / 1e6:.0f} MB, {record.megabytes:g} MB are published: not downloaded; get the file"
            " from its source"
        )
    free = shutil.disk_usage(path.parent).free
    if total - begin > free:
        raise SightlineError(
            f"weights '{record.name}' need {(total - begin) / 1e6:.0f} MB and {path.parent} has {free / 1e6:.0f} MB:"
            " free some space or point SIGHTLINE_CACHE elsewhere"
        )


def _most(record: PublishedWeights) -> int:
    return int(2e6 * record.megabytes + 1e7) if record.megabytes else MAX_BYTES


def _copy(answer: Any, part: Path, begin: int, total: int | None, progress: Callable[[str], None]) -> int:
    received, told = begin, 0
    with part.open("r+b" if begin else "wb") as stream:
        stream.seek(begin)
        stream.truncate()
        try:
            while chunk := answer.read1(_CHUNK):
                stream.write(chunk)
                received += len(chunk)
                if received > (total if total is not None else MAX_BYTES):
                    raise ConnectionError("the server sent more than it announced")
                tenths = 10 * received // total if total else 0
                if tenths > told and total and total > 10 * _CHUNK:
                    told = tenths
                    progress(f"  {10 * tenths} % of {total / 1e6:.1f} MB")
        finally:
            stream.flush()
            os.fsync(stream.fileno())
    return received


def _validator(path: Path) -> str:
    """What proves to the server that our part belongs to the file it has now; empty when nothing does."""
    try:
        kept = json.loads(_journal(path).read_text(encoding="utf-8"))
        return str(kept["validator"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_validator(path: Path, answer: Any) -> None:
    tag = answer.headers.get("ETag", "")
    validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
    write_text(_journal(path), json.dumps({"validator": validator}))


@contextmanager
def _locked(path: Path, progress: Callable[[str], None]) -> Iterator[None]:
    """One process at a time; the system takes the lock back from a process that dies."""
    with path.open("a+b") as stream:
        waited = False
        while not _try_lock(stream.fileno()):
            if not waited:
                progress(f"waiting for another process that is fetching {path.name.removesuffix('.lock')}")
                waited = True
            time.sleep(0.1)
        try:
            yield
        finally:
            _unlock(stream.fileno())


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        os.lseek(descriptor, 0, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        with suppress(OSError):
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
