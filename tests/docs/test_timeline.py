"""The drawing of the sampling rules is what the rules say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_drawing_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "timeline.py", "--check"], check=False)
    assert done.returncode == 0, "write it again: python docs/timeline.py"
    text = (ROOT / "docs" / "images" / "clip-rules.svg").read_text()
    assert text.count('height="12"') == 4 * 4 * 8  # four rules, one and three views, eight frames
