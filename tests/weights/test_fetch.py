"""Fetching, against a real server on this machine: cuts, resuming, wrong checksums, silence, and no network."""

import hashlib
import http.server
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sightline.contracts import PublishedWeights
from sightline.errors import SightlineError, UsageError
from sightline.weights.fetch import cache_folder, cached_path, fetch

DATA = bytes(range(256)) * 2000  # half a megabyte
DIGEST = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `data` under any path, with the faults it is told to have."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = DATA
        self.etag: str | None = '"one"'
        self.modified: str | None = None
        self.ranges = True
        self.length = True
        self.cuts: list[int] = []  # the next answers stop after so many bytes
        self.errors: list[int] = []  # the next answers are these
        self.headers: dict[str, str] = {}
        self.pause = 0.0  # seconds between pieces
        self.silence = 0.0  # seconds before any answer
        self.seen: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files/net-1.pth"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        server, data = self.server, self.server.data
        server.seen.append(dict(self.headers))
        time.sleep(server.silence)
        if server.errors:
            self.send_error(server.errors.pop(0))
            return
        start = 0
        asked = self.headers.get("Range")
        if asked and server.ranges and self.headers.get("If-Range") in (server.etag, server.modified):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(302 if "Location" in server.headers else 200)
        for name, value in (("ETag", server.etag), ("Last-Modified", server.modified), *server.headers.items()):
            if value is not None:
                self.send_header(name, value)
        if server.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(data)
        try:
            for place in range(start, min(end, len(data)), 100_000):
                self.wfile.write(data[place : min(place + 100_000, end)])
                time.sleep(server.pause)
        except OSError:
            pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    monkeypatch.delenv("SIGHTLINE_OFFLINE", raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield running
        running.shutdown()


def record(server: Server, sha256: str = DIGEST, megabytes: float = 0.5) -> PublishedWeights:
    return PublishedWeights(
        "net.coco", server.url, sha256=sha256, megabytes=megabytes, licence="BSD-3-Clause", trained_on="COCO"
    )


def left(path: Path) -> set[str]:
    return {found.name for found in path.parent.iterdir()} - {f"{path.name}.lock"} if path.parent.exists() else set()


def test_says_what_and_under_which_licence_before_it_starts_then_fetches_once(server: Server, tmp_path: Path) -> None:
    told: list[str] = []
    path = fetch(record(server), progress=lambda line: told.append(f"{len(server.seen)} {line}"))
    assert path.read_bytes() == DATA
    assert path.is_relative_to(tmp_path)
    assert path.name == "net-1.pth"
    assert told[0].startswith(
        "0 downloading weights 'net.coco' (0.5 MB, licence: BSD-3-Clause, trained on COCO) from 127.0.0.1"
    )
    assert fetch(record(server), progress=told.append, offline=True) == path
    assert len(server.seen) == 1
    assert left(path) == {"net-1.pth"}


def test_a_cut_download_is_resumed_by_itself(server: Server) -> None:
    server.cuts = [200_000, 150_000]
    assert fetch(record(server), progress=str).read_bytes() == DATA
    assert [seen.get("Range") for seen in server.seen] == [None, "bytes=200000-", "bytes=350000-"]
    assert {seen.get("If-Range") for seen in server.seen[1:]} == {'"one"'}


def test_a_download_given_up_is_resumed_by_the_next_call(server: Server) -> None:
    server.cuts = [200_000, 0, 0, 0, 0]
    with pytest.raises(SightlineError, match=r"0\.2 MB are kept and will be resumed"):
        fetch(record(server), progress=str, timeout=0.1)
    assert left(cached_path(record(server))) == {"net-1.pth.part", "net-1.pth.part.json"}
    told: list[str] = []
    assert fetch(record(server), progress=told.append).read_bytes() == DATA
    assert server.seen[-1]["Range"] == "bytes=200000-"
    assert "resuming at 0.2 MB" in told


@pytest.mark.parametrize("why", ["changed", "no ranges", "no validator", "weak"])
def test_starts_again_when_the_rest_may_belong_to_another_file(server: Server, why: str) -> None:
    if why in ("no validator", "weak"):
        server.etag = 'W/"weak"' if why == "weak" else None
    server.ranges = why != "no ranges"
    server.cuts = [200_000, 0, 0, 0, 0] if why == "changed" else [200_000]
    wanted = DATA
    if why == "changed":
        server.data = DATA[::-1]
        with pytest.raises(SightlineError):
            fetch(record(server), progress=str, timeout=0.1)
        server.data, server.etag = wanted, '"two"'
    assert fetch(record(server), progress=str).read_bytes() == wanted


def test_last_modified_serves_where_there_is_no_tag(server: Server) -> None:
    server.etag, server.modified = None, "Wed, 21 Oct 2015 07:28:00 GMT"
    server.cuts = [200_000]
    assert fetch(record(server), progress=str).read_bytes() == DATA
    assert server.seen[1]["If-Range"] == server.modified


def test_a_partial_file_longer_than_the_file_starts_again(server: Server) -> None:
    path = cached_path(record(server))
    path.parent.mkdir(parents=True)
    path.with_name("net-1.pth.part").write_bytes(DATA + b"more")
    path.with_name("net-1.pth.part.json").write_text('{"validator": "\\"one\\""}')
    assert fetch(record(server), progress=str).read_bytes() == DATA
    assert server.seen[0]["Range"] == f"bytes={len(DATA) + 4}-"


@pytest.mark.parametrize("wrong", ["0" * 64, "deadbeef"])
def test_a_wrong_checksum_removes_the_file(server: Server, wrong: str) -> None:
    path = cached_path(record(server))
    with pytest.raises(SightlineError, match=f"its sha256 begins with {DIGEST[:8]}, expected {wrong[:8]}"):
        fetch(record(server, wrong), progress=str)
    assert left(path) == set()


def test_a_prefix_as_in_torchvisions_file_names_is_enough(server: Server) -> None:
    assert fetch(record(server, DIGEST[:8]), progress=str).is_file()


def test_a_file_spoiled_in_the_cache_is_noticed_and_removed(server: Server) -> None:
    path = fetch(record(server), progress=str)
    path.write_bytes(DATA[:-1] + b"x")
    with pytest.raises(SightlineError, match="is not the published file"):
        fetch(record(server), progress=str)
    assert not path.exists()
    assert fetch(record(server), progress=str).read_bytes() == DATA


def test_an_unknown_checksum_is_recorded_aloud_and_compared_afterwards(server: Server) -> None:
    told: list[str] = []
    path = fetch(record(server, "unknown"), progress=told.append)
    assert any(DIGEST in line and "first fetch" in line for line in told)
    assert json.loads(path.with_name("net-1.pth.sha256.json").read_text())["sha256"] == DIGEST
    told.clear()
    assert fetch(record(server, "unknown"), progress=told.append) == path
    assert told == []
    path.write_bytes(b"other")
    with pytest.raises(SightlineError, match="changed since it was first fetched"):
        fetch(record(server, "unknown"), progress=str)
    assert not path.exists()


@pytest.mark.parametrize(("code", "words"), [(404, "answered 404 Not Found"), (403, "answered 403")])
def test_refusals_are_one_sentence_and_not_repeated(server: Server, code: int, words: str) -> None:
    server.errors = [code]
    with pytest.raises(SightlineError, match=words):
        fetch(record(server), progress=str)
    assert len(server.seen) == 1


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.errors = [503, 429]
    assert fetch(record(server), progress=str, timeout=0.2).read_bytes() == DATA


def test_silence_times_out_with_a_sentence(server: Server) -> None:
    server.silence = 0.5
    with pytest.raises(SightlineError, match=r"cannot fetch .*timed out.*check the network"):
        fetch(record(server), progress=str, timeout=0.05)


def test_no_network_is_a_sentence_that_says_where_to_put_the_file(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/net.pth"
    weights = PublishedWeights("net", url)
    with pytest.raises(SightlineError, match=r"cannot fetch .* or put the file at .*net\.pth yourself"):
        fetch(weights, cache=tmp_path, offline=False, progress=str, timeout=0.05)


@pytest.mark.parametrize("value", ["1", "true"])
def test_offline_touches_no_network(server: Server, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SIGHTLINE_OFFLINE", value)
    with pytest.raises(SightlineError, match=r"network is switched off: put .*net-1\.pth, or unset SIGHTLINE_OFFLINE"):
        fetch(record(server), progress=str)
    assert server.seen == []
    monkeypatch.setenv("SIGHTLINE_OFFLINE", "0")
    assert fetch(record(server), progress=str).is_file()


def test_a_file_much_larger_than_published_is_not_downloaded(server: Server) -> None:
    server.data = bytes(13_000_000)
    with pytest.raises(SightlineError, match=r"is 13 MB, 0\.5 MB are published"):
        fetch(record(server), progress=str)
    server.data = DATA
    assert fetch(record(server), progress=str).is_file()


def test_an_answer_without_a_length_is_taken_whole(server: Server) -> None:
    server.length = False
    assert fetch(record(server), progress=str).read_bytes() == DATA


def test_a_web_page_in_place_of_the_file_is_refused(server: Server) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(SightlineError, match="is a web page"):
        fetch(record(server), progress=str)
    assert not cached_path(record(server)).exists()


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x"])
def test_redirects_stay_on_the_web(server: Server, target: str) -> None:
    server.headers = {"Location": target}
    with pytest.raises(SightlineError, match=r"answered 302"):
        fetch(record(server), progress=str)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/x.pth", "x.pth", ""])
def test_only_web_addresses(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match="only http and https"):
        fetch(PublishedWeights("x", url), cache=tmp_path, progress=str)


def test_a_hash_that_is_none_is_a_wrong_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no SHA-256"):
        fetch(PublishedWeights("x", "http://host/x.pth", sha256="abc"), cache=tmp_path, progress=str)


def test_names_in_the_address_do_not_leave_the_cache(tmp_path: Path) -> None:
    for url in ("http://h/a/..%2f..%2fx", "http://h/../..", "http://h/.hidden", "http://h/a?b=c/d", "http://h/"):
        path = cached_path(PublishedWeights("x", url), tmp_path)
        assert path.resolve().parent.parent == tmp_path / "weights"
        assert not path.name.startswith(".")


def test_a_cache_that_cannot_be_written_is_a_sentence(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SightlineError, match="SIGHTLINE_CACHE elsewhere"):
        fetch(record(server), cache=tmp_path / "file", progress=str)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("SIGHTLINE_CACHE")
    assert "sightline" in str(cache_folder())


def test_two_processes_fetch_the_file_once(server: Server, tmp_path: Path) -> None:
    server.pause = 0.2
    program = (
        "import sys; from pathlib import Path; from sightline.contracts import PublishedWeights;"
        "from sightline.weights.fetch import fetch, sha256;"
        "print(sha256(fetch(PublishedWeights('x', sys.argv[1], sha256=sys.argv[2]), progress=str)))"
    )
    command = [sys.executable, "-c", program, server.url, DIGEST]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == [DIGEST, DIGEST]
    assert len(server.seen) == 1
