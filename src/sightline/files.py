"""Writing files so that a crash at any moment leaves the old file or the new one, never half of either."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sightline.errors import SightlineError


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well it is synced and renamed to `path`.

    If the block raises, the temporary file is removed and `path` is left as it was. A full disk or a folder
    that cannot be written raises a `SightlineError` that names the file; troubles with other files that the block
    opens pass through.
    """
    path = Path(path)
    temporary = path.parent / f".{path.stem[:40]}.{secrets.token_hex(4)}{path.suffix}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.open("xb").close()  # with the permissions of any new file
    except OSError as error:
        raise SightlineError(f"cannot write {path}: {error.strerror}; choose a folder that can be written") from error
    try:
        yield temporary
        with temporary.open("r+b") as stream:  # Windows syncs only what is open for writing
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno is not None and _about(error, temporary):
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


def _about(error: OSError, path: Path) -> bool:
    """Whether an error concerns `path`; a disk that is full names no file."""
    return error.filename is None or str(error.filename) == str(path)


def _sync_folder(folder: Path) -> None:
    """Make the new name outlive a power cut; some file systems cannot, and the file itself is safe already."""
    if os.name == "nt":  # Windows cannot open a folder
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
