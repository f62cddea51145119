"""A file is the old one or the new one, whatever happens in between; troubles are one sentence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sightline.errors import SightlineError
from sightline.files import replacing, write_bytes, write_text

POSIX = pytest.mark.skipif(os.name != "posix", reason="permissions and limits of POSIX systems")


def _names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_new_file_and_its_folders_appear_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "card.json"
    with replacing(path) as temporary:
        assert temporary.parent == path.parent and temporary.suffix == ".json"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert _names(path.parent) == ["card.json"]


def test_an_old_file_stays_readable_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.txt", "old")
    with replacing(path) as temporary:
        temporary.write_text("ne")
        assert path.read_text() == "old"
        temporary.write_text("new")
    assert path.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError("stop"), KeyboardInterrupt(), SightlineError("a sentence")])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = write_text(tmp_path / "x.txt", "old")
    with pytest.raises(type(error)) as caught, replacing(path) as temporary:
        temporary.write_text("half of the ne")
        raise error
    assert caught.value is error  # what happened is not hidden
    assert path.read_text() == "old"
    assert _names(tmp_path) == ["x.txt"]

    with pytest.raises(type(error)), replacing(tmp_path / "never.txt") as temporary:
        raise error
    assert _names(tmp_path) == ["x.txt"]


@POSIX
def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_text(tmp_path / "x.txt", "old")
    code = (
        "import os, signal, sys\n"
        "from sightline.files import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    write_text(path, "new")  # what the dead process left is in nobody's way
    assert path.read_text() == "new"


@contextmanager
def _largest_file(size: int) -> Iterator[None]:
    """The system refuses to let files grow beyond `size` bytes, as a full disk would."""
    resource = pytest.importorskip("resource", reason="limits of file sizes are POSIX")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@POSIX
def test_a_disk_that_fills_up_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_bytes(tmp_path / "model.bin", b"old")
    with pytest.raises(SightlineError) as caught, _largest_file(1000):
        write_bytes(path, b"n" * 100_000)
    assert str(caught.value) == f"cannot write {path}: File too large; free some space or choose another folder"
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["model.bin"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    full = Path("/dev/full")  # every write to it fails as on a full disk
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(SightlineError, match=r"cannot write .*x\.txt: No space left on device; free some space"):  # noqa: SIM117
        with replacing(tmp_path / "x.txt"):
            full.write_text("x")  # through a stream, so that the error names no file
    assert _names(tmp_path) == []


def test_another_files_trouble_is_not_blamed_on_this_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "copy.txt") as temporary:
        temporary.write_bytes((tmp_path / "absent.txt").read_bytes())
    with pytest.raises(IsADirectoryError if os.name == "posix" else PermissionError), replacing(tmp_path / "x") as _:
        tmp_path.read_bytes()
    assert _names(tmp_path) == []


def test_a_folder_stands_where_the_file_should(tmp_path: Path) -> None:
    (tmp_path / "x.txt").mkdir()
    with pytest.raises(SightlineError, match=r"cannot write .*x\.txt: .*; .* choose another folder"):
        write_text(tmp_path / "x.txt", "new")
    assert _names(tmp_path) == ["x.txt"]


def test_a_file_stands_where_the_folder_should(tmp_path: Path) -> None:
    write_text(tmp_path / "runs", "a file")
    with pytest.raises(SightlineError, match=r"cannot write .*best.json: .*; choose a folder that can be written"):
        write_text(tmp_path / "runs" / "best.json", "new")
    assert (tmp_path / "runs").read_text() == "a file"


@POSIX
def test_a_read_only_folder_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    write_text(folder / "x.txt", "old")
    folder.chmod(0o500)
    root = os.geteuid() == 0
    if root:  # nothing is read-only for root: be somebody else for a moment
        os.seteuid(65534)
    try:
        with pytest.raises(SightlineError) as caught:
            write_text(folder / "x.txt", "new")
    finally:
        if root:
            os.seteuid(0)
        folder.chmod(0o700)
    assert str(caught.value) == (
        f"cannot write {folder / 'x.txt'}: Permission denied; choose a folder that can be written"
    )
    assert (folder / "x.txt").read_text() == "old"


@POSIX
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_new_files_have_the_permissions_of_any_new_file(tmp_path: Path, mask: int, mode: int) -> None:
    before = os.umask(mask)
    try:
        path = write_text(tmp_path / "x.txt", "new")
    finally:
        assert os.umask(before) == mask  # and the process keeps its own mask
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.parametrize("name", ["x", ".hidden", "two.dots.tar.gz", "ünïcödé 雪.txt", "n" * 200 + ".json", "雪" * 80])
def test_names_of_every_kind(tmp_path: Path, name: str) -> None:
    assert write_bytes(tmp_path / name, b"new").read_bytes() == b"new"
    assert write_bytes(str(tmp_path / name), b"newer").read_bytes() == b"newer"
    assert _names(tmp_path) == [name]


def test_text_is_utf8_with_its_line_ends(tmp_path: Path) -> None:
    assert write_text(tmp_path / "x.txt", "a\nß\r\n").read_bytes() == b"a\n\xc3\x9f\r\n"
