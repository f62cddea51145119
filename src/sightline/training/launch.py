"""`devices=2`: the same command once more, in as many processes, under `torchrun`.

The first process stays as the launcher: it starts `python -m torch.distributed.run` and waits. Every worker runs this
module, which runs the command. A file that only these processes share keeps apart what torchrun cannot:

- a mistake (a sentence and an exit code) ends everything at once, while a crash restarts all from the last checkpoint;
- Ctrl-C reaches the workers, which finish their step and save, and not torchrun, which would not let them;
- when the launcher is gone, however it died, the workers end too: their standard input closes.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from sightline.errors import SightlineError, UsageError
from sightline.files import write_text

RESTARTS = 3  # a new group may meet the dying one: the first attempt to restart often fails
_FOLDER = "SIGHTLINE_LAUNCH"  # where launcher and workers meet
_RENDEZVOUS = "SIGHTLINE_RENDEZVOUS"  # host:port of the first machine, the same on all machines


def launched() -> bool:
    """Whether this process is one of several that torchrun started."""
    return "WORLD_SIZE" in os.environ and "RANK" in os.environ


def rank() -> int:
    """The number of this process among those that train together; 0 writes the files and talks."""
    return int(os.environ.get("RANK", "0"))


def restarted() -> bool:
    """Whether torchrun started this process anew after a crash: the run is then to be resumed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def relaunch(devices: int, nodes: int = 1, *, more: Sequence[str] = ()) -> NoReturn:
    """Run this very command (and the arguments `more`) on `devices` processes of each of `nodes` machines, and exit.

    On several machines the same command is typed on each, with `SIGHTLINE_RENDEZVOUS=HOST:PORT` naming the first.
    Raises `UsageError` where there is no command to run again (a notebook) or no address.
    """
    with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
        command = torchrun([*command_again(), *more], devices=devices, nodes=nodes)
        code = _wait(command, Path(folder), _environment(devices, nodes))
    sys.exit(code)


def command_again(arguments: Sequence[str] | None = None) -> list[str]:
    """How Python is told to run this process's command again: `["--module", "sightline", ...]` or a script's path."""
    script, *rest = sys.argv if arguments is None else arguments
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return ["--module", spec.name.removesuffix(".__main__"), *rest]
    if Path(script).stem == "sightline":  # the console script, an .exe on Windows
        return ["--module", "sightline", *rest]
    if not Path(script).is_file():
        raise UsageError("several devices need a command that can be started again: use a script or the command line")
    return [script, *rest]


def torchrun(command: Sequence[str], *, devices: int, nodes: int) -> list[str]:
    """The whole command line that starts `command` through torchrun."""
    if nodes > 1:
        endpoint = os.environ.get(_RENDEZVOUS, "")
        if ":" not in endpoint:
            raise UsageError(
                f"nodes={nodes}: set {_RENDEZVOUS}=HOST:PORT (an address of the first machine, such as 10.0.0.1:29400) "
                "and start the same command on every machine"
            )
        meet = ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", f"--rdzv-id=sightline-{endpoint}"]
    else:
        meet = ["--standalone", "--local-addr=127.0.0.1"]  # a sandbox may not know its own name
    processes = [f"--nproc-per-node={devices}", f"--nnodes={nodes}", f"--max-restarts={RESTARTS}"]
    start = [sys.executable, "-m", "torch.distributed.run", *meet, *processes]
    return [*start, "--module", "sightline.training.launch", *command]


def _environment(devices: int, nodes: int) -> dict[str, str]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // devices)))
    environment.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP's advice about an option that we want as it is
    if nodes == 1 and os.name != "nt":
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    return environment


def _wait(command: Sequence[str], folder: Path, environment: dict[str, str]) -> int:
    """Start torchrun, hand signals to the workers, and return the exit code of the command."""
    apart = os.name != "nt"  # its own group: Ctrl-C in the terminal then comes to us alone
    agent = subprocess.Popen(
        command, stdin=subprocess.PIPE, start_new_session=apart, env=environment | {_FOLDER: str(folder)}
    )

    def handle(number: int, frame: FrameType | None) -> None:
        for file in folder.glob("*.pid"):
            with suppress(OSError, ValueError):
                os.kill(int(file.stem), number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)} if apart else {}
    try:
        code = agent.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    said = _outcome(folder)
    if said is not None:
        return said
    if code:
        print(f"error: the processes failed {RESTARTS + 1} times; what they said stands above", file=sys.stderr)
    return 1 if code else 0


def _outcome(folder: Path) -> int | None:
    try:
        return int(json.loads((folder / "outcome.json").read_text())["code"])
    except (OSError, ValueError, KeyError):
        return None


def _settle(code: int) -> None:
    """Say once and for all how the command ended: torchrun's restarts then end at once."""
    folder = os.environ.get(_FOLDER)
    if folder and _outcome(Path(folder)) is None:
        write_text(Path(folder) / "outcome.json", json.dumps({"code": code}))


@contextmanager
def settling() -> Iterator[None]:
    """An error of one sentence that leaves the block is final: a restart would meet it again."""
    try:
        yield
    except PeerLost:
        raise
    except SightlineError as error:
        _settle(error.exit_code)
        raise
    except RuntimeError as error:
        if _peer_lost(error):
            raise PeerLost(f"process {rank()} lost the others: one of them died or stopped; resume the run") from None
        raise


class PeerLost(SightlineError):
    """Another process of the group is gone; its own message says why."""


def _peer_lost(error: RuntimeError) -> bool:
    text = str(error).lower()
    words = ("connection closed by peer", "connection reset", "broken pipe", "nccl", "connection refused", "gloo")
    return launched() and any(word in text for word in words)


def _worker(arguments: list[str]) -> None:
    """What torchrun runs in every process: the command, unless an earlier attempt ended for good."""
    folder = Path(os.environ[_FOLDER])
    if _outcome(folder) is not None:
        return
    threading.Thread(target=_end_with_the_launcher, daemon=True).start()
    (folder / f"{os.getpid()}.pid").touch()
    if rank() != 0:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 (answers are printed once; open for the process's life)
    try:
        _run(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
        if code in (2, 130):  # a wrong call, or stopped by the user on all processes alike
            _settle(code)
        if code == 130:
            return
        raise
    except SightlineError as error:
        if not isinstance(error, PeerLost):
            _settle(error.exit_code)
        sys.exit(f"error: {error}")


def _run(arguments: list[str]) -> None:
    if arguments[0] == "--module":
        sys.argv = [arguments[1], *arguments[2:]]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(arguments[0]).resolve().parent))
        runpy.run_path(arguments[0], run_name="__main__")


def _end_with_the_launcher() -> None:
    while os.read(0, 1024):
        pass
    with suppress(SightlineError, OSError):
        _settle(1)  # or torchrun, which lives on, would start everything again
    os._exit(1)


if __name__ == "__main__":
    # By its import name, so that there is one module of this name, whoever asks.
    from sightline.training.launch import _worker as work

    work(sys.argv[1:])
