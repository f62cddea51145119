"""Writing files so that a crash at any moment leaves the old file or the new one, never half of either."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it is synced and renamed to `path`.

    If the block raises, the temporary file is removed and `path` is left as it was. A full disk or a folder
    that cannot be written raises a `SightlineError` that names the file.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise SightlineError(f"cannot write {path}: {error.strerror}; choose a folder that can be written") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError):
            raise SightlineError(
                f"cannot write {path}: {error.strerror}; free some space or choose another folder"
            ) from error
        raise


def write_bytes(path: str | Path, data: bytes) -> Path:
    """Write `data` to `path` as a whole or not at all, and return the path."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)
    return Path(path)


def write_text(path: str | Path, text: str) -> Path:
    """Write UTF-8 `text` to `path` as a whole or not at all, and return the path."""
    return write_bytes(path, text.encode())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
