"""`doctor` tells what is there, and a broken package is a finding, not a crash."""

import builtins
import json
from importlib import metadata
from typing import Any

import pytest

from sightline.verbs import doctor as module


def test_it_agrees_with_the_installation() -> None:
    import torch

    health = module.doctor()
    told = json.loads(json.dumps(health.to_json(), allow_nan=False))
    assert told["versions"]["torch"] == metadata.version("torch")
    assert len([d for d in told["devices"] if d.startswith("cuda")]) == torch.cuda.device_count()
    assert told["pictures"]["PNG"] is True
    assert told["videos"]["h264"]["read"] is True
    for extra, state in told["extras"].items():
        assert state["present"] == (not state["missing"])
        assert state["install"] == f"pip install 'sightline[{extra}]'"
        assert f"  {extra}" in str(health)
    assert "dev" not in told["extras"]
    assert {"video", "export", "serve"} <= set(told["extras"])


def test_a_broken_package_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def breaks(name: str, *rest: Any) -> Any:
        if name in ("av", "torch"):
            raise OSError("libx.so.1: cannot open shared object file")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", breaks)
    health = module.doctor()
    monkeypatch.undo()
    assert [p for p in health.problems if p.startswith("videos: OSError: libx.so.1")]
    assert [p for p in health.problems if p.startswith("devices: OSError")]
    assert "libx.so.1" in str(health)


@pytest.mark.parametrize(
    ("value", "expected"), [("", False), ("0", False), ("false", False), ("1", True), ("yes", True)]
)
def test_offline_variable(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("SIGHTLINE_OFFLINE", value)
    assert module.offline() is expected
