"""One run, one folder: a lock that the operating system drops when its process dies, however it dies.

The lock is on a byte of `state/lock`; `state/lock.json` says who holds it, for the message only. Record locks
(`fcntl.lockf`) are not inherited by loading workers, so an orphaned worker cannot keep a dead run's folder.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sightline.errors import SightlineError
from sightline.files import write_text

# With the process number it tells this process from an earlier one that had the same number (containers count from 1
# each time) and from others forked from the same parent. No clock in it.
_BIRTH = uuid.uuid4().hex


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the folder of a run; a second run in it is refused with a sentence that names the first."""
    folder = run / "state"
    holder = folder / "lock.json"
    known = _holder(holder)
    process = f"{_BIRTH}-{os.getpid()}"
    if known.get("process") == process:  # record locks do not hold against one's own process
        raise _refused(run, known)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("a+b")
    except OSError as error:
        raise SightlineError(
            f"cannot write {folder}: {error.strerror}; choose a run folder that can be written"
        ) from None
    with stream:
        if not _take(stream):
            raise _refused(run, known)
        write_text(holder, json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "process": process}))
        try:
            yield
        finally:
            with suppress(OSError):
                holder.unlink()


def _refused(run: Path, known: dict) -> SightlineError:
    who = f" (process {known['pid']} on {known['host']})" if known else ""
    return SightlineError(f"{run}: another run is using this folder{who}; wait for it, stop it, or choose another run=")


def _holder(path: Path) -> dict:
    try:
        known = json.loads(path.read_text())
        return known if {"pid", "host", "process"} <= set(known) else {}
    except (OSError, ValueError):
        return {}


def _take(stream: IO[bytes]) -> bool:
    """Lock the first byte without waiting. False: somebody else has it."""
    try:
        if os.name == "nt":
            import msvcrt

            stream.seek(0)
            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks at all: better to train unprotected there than never.
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True
