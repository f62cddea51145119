"""Which device, in which precision, with how much memory; and the switches that must be put back afterwards."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from sightline.errors import UsageError
from sightline.training.plan import Plan


def choose_device(word: str = "auto", *, local_rank: int = 0) -> torch.device:
    """`auto` takes a CUDA GPU, then Apple's MPS, then the CPU; with several processes each takes its own GPU."""
    if word == "auto":
        word = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(word)
    except RuntimeError:
        raise UsageError(f"device={word!r}: expected auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device={word}: this machine has no CUDA GPU that PyTorch can use; device=cpu works")
        index = local_rank if device.index is None else device.index
        if index >= torch.cuda.device_count():
            raise UsageError(f"device=cuda:{index}: this machine has {torch.cuda.device_count()} GPUs, counted from 0")
        return torch.device("cuda", index)
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("device=mps: this machine has no Apple GPU that PyTorch can use; device=cpu works")
    if device.type not in ("cpu", "mps"):
        raise UsageError(f"device={word!r}: expected auto, cpu, cuda, cuda:1 or mps")
    return device


def autocast_dtype(precision: str) -> torch.dtype | None:
    """The type that autocast computes in, or None for float32 throughout."""
    return {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)


def peak_memory(device: torch.device) -> float | None:
    """Megabytes taken at most so far: of the GPU, or of this process on a CPU; None where nobody counts them."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    if device.type == "mps":
        return torch.mps.driver_allocated_memory() / 1e6
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, RuntimeError) and any(w in str(error).lower() for w in words)


@contextmanager
def numerics(plan: Plan, device: torch.device) -> Iterator[None]:
    """Inside the block tf32, determinism and the random generators are the run's; afterwards the caller's again.

    On CPUs numbers below 1.2e-38 are taken as 0: the moments of a weight that no longer learns decay to there, and a
    processor computes with such numbers many times slower than with others.
    """
    small = torch.tensor(torch.finfo(torch.float32).tiny)
    flushed = float(small * 0.5) == 0
    tf32 = (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    deterministic = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if plan.precision == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = plan.precision == "tf32"
        if plan.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it, before its first use
            torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_flush_denormal(device.type == "cpu" or flushed)
    try:
        with torch.random.fork_rng(devices=[device.index] if device.type == "cuda" else []):
            yield
    finally:
        torch.set_flush_denormal(flushed)
        torch.set_float32_matmul_precision(tf32[0])
        torch.backends.cudnn.allow_tf32 = tf32[1]
        torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
