"""Real child processes for the tests of the loop: forked from one server that has PyTorch in memory already."""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

from sightline.training.launch import PeerLost

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # DDP's advice, in every child
_METHOD = "spawn" if os.name == "nt" else "forkserver"
_CONTEXT = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(["children", "toy_task", "sightline.training.fit", "torch._dynamo"])


def _child(function: Callable[..., None], arguments: tuple[Any, ...], rank: int, world: int, port: int) -> None:
    import torch

    torch.set_num_threads(1)
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": loopback()}
    try:
        function(*arguments)
    except PeerLost:
        sys.exit(1)


def loopback() -> str:
    """The name of the interface of 127.0.0.1: sandboxes may not resolve their own host name."""
    return "lo0" if sys.platform == "darwin" else "lo"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(function: Callable[..., None], *arguments: Any, world: int = 1) -> list[BaseProcess]:
    """Run `function(*arguments)` in `world` processes that may join one process group."""
    port = free_port()
    children = [_CONTEXT.Process(target=_child, args=(function, arguments, r, world, port)) for r in range(world)]
    for child in children:
        child.start()
    return children


def finish(children: list[BaseProcess], *, seconds: float = 120) -> list[int]:
    """Wait for them and return their exit codes; negative ones are signals."""
    for child in children:
        child.join(seconds)
        if child.is_alive():
            child.kill()
            child.join()
            raise AssertionError("a child process did not end")
    return [child.exitcode or 0 for child in children]
