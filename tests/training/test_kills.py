"""SIGKILL at random moments and inside writes: the resumed run ends with the bits of the one left in peace."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from kill import kill_and_resume

pytestmark = pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")


def test_a_handful_of_kills(tmp_path):
    kills, runs = kill_and_resume(tmp_path, times=6, processes=1, seed=4)
    assert kills >= 6 and runs >= 1


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "times"), [(1, 40), (2, 8)])
def test_many_kills(tmp_path, processes, times):
    kills, _ = kill_and_resume(tmp_path, times=times, processes=processes, seed=1)
    assert kills >= times
