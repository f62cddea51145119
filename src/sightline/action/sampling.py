"""Which frames of a video make a clip: rules with names, stored with the weights, each with its source's arithmetic.

The same weights score differently under another rule, so a rule is a word with two numbers that is kept in every card:

- `linspace(T, R)` (PySlowFast, TimeSformer): a window of T R frames of a 30-frames-a-second video; T frames
  floor(linspace(start, start + T R - 1)), which are (T R - 1) / (T - 1) apart, not R; frames past the end are the last.
  Training: a random start. Views: view v of V starts at delta v / V, so that the last one never reaches the end.
- `arange(T, R)` (mmaction2): T frames, R apart. Training: a random start. Views: spread over the video to its end, one
  view is the middle; frames past the end begin again with the first.
- `segments(S)` (TSN, TSM): a frame from each of S equal parts. Training: a random one; else the middle one.
- `dense(S, W)` (TSM): S frames of a window of W, W // S apart. Views: ten starts (or as many as asked) over the video.

A rule of a network of flow may end in `+dis` or `+tvl1`: fields are computed that way where a video brings none; frames
are fields then.

n is the number of frames of a video; indices count from 0. Volumes have the rule `whole(D, H, W)`: nothing is chosen.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from sightline.errors import UsageError, did_you_mean
from sightline.media.flow_made import METHODS

RULES = {"linspace": 2, "arange": 2, "segments": 1, "dense": 2}
TARGET_FPS = 30.0
"""The rate that `linspace` counts in."""


@dataclass(frozen=True)
class ClipRule:
    """A rule and its numbers; `frames` of a clip, and R or W; flow: how fields are computed, "" where they are not."""

    name: str
    frames: int
    number: int = 0
    flow: str = ""

    def __str__(self) -> str:
        numbers = f"{self.frames}{f', {self.number}' if RULES[self.name] == 2 else ''}"
        return f"{self.name}({numbers}){f'+{self.flow}' if self.flow else ''}"

    def span(self, n: int, fps: float = TARGET_FPS) -> int:
        """How many frames of a video of `n` a clip spans."""
        if self.name == "segments":
            return n
        if self.name == "dense":
            return self.number
        if self.name == "linspace":
            return max(1, round(self.frames * self.number * fps / TARGET_FPS))
        return (self.frames - 1) * self.number + 1

    def train(self, n: int, rng: np.random.Generator, *, fps: float = TARGET_FPS) -> np.ndarray:
        """The frames `(T,)` of a random clip."""
        if self.name == "linspace":
            delta = max(n - self._window(fps), 0)
            return self._linspace(n, float(rng.uniform(0, delta)) if delta else 0.0, fps)
        if self.name == "arange":
            free = n - self.span(n)
            return self._arange(n, int(rng.integers(free + 1)) if free > 0 else 0)
        if self.name == "dense":
            places = max(1, 1 + n - self.number)
            return self._dense(n, int(rng.integers(places - 1)) if places > 2 else 0)
        part = n // self.frames
        if part > 0:
            return np.arange(self.frames) * part + rng.integers(part, size=self.frames)
        return (
            np.sort(rng.integers(n, size=self.frames)) if n > self.frames else np.arange(self.frames) * n // self.frames
        )

    def views(self, n: int, count: int, *, fps: float = TARGET_FPS) -> np.ndarray:
        """The frames `(count, T)` of `count` clips spread over the video."""
        if self.name == "linspace":
            delta = max(n - self._window(fps), 0.0)
            return np.stack([self._linspace(n, delta * v / count, fps) for v in range(count)])
        if self.name == "arange":
            free = max(n - self.span(n), 0)
            starts = [free // 2] if count == 1 else np.round(np.arange(count) * (free / (count - 1))).astype(int)
            return np.stack([self._arange(n, int(start)) for start in starts])
        if self.name == "dense":
            places = max(1, 1 + n - self.number)
            starts = [(places - 1) // 2] if count == 1 else np.linspace(0, places - 1, count, dtype=int)
            return np.stack([self._dense(n, int(start)) for start in starts])
        tick = n / self.frames
        shifts = [(0.5 + v / count) % 1 for v in range(count)]  # two views: the middles, then the beginnings (TSM)
        return np.stack([(tick * shift + tick * np.arange(self.frames)).astype(int) for shift in shifts])

    def covering(self, n: int, *, fps: float = TARGET_FPS, most: int = 30) -> int:
        """How many views it takes to see the whole of a video of `n` frames, at most `most`."""
        return min(most, max(1, -(-n // max(1, min(self.span(n, fps), n)))))

    def _window(self, fps: float) -> float:
        return self.frames * self.number * fps / TARGET_FPS

    def _linspace(self, n: int, start: float, fps: float) -> np.ndarray:
        places = np.linspace(start, start + self._window(fps) - 1, self.frames)
        return np.clip(np.floor(places), 0, n - 1).astype(int)

    def _arange(self, n: int, start: int) -> np.ndarray:
        return (start + np.arange(self.frames) * self.number) % n

    def _dense(self, n: int, start: int) -> np.ndarray:
        return (start + np.arange(self.frames) * (self.number // self.frames)) % n


def whole_size(words: str) -> tuple[int, int, int] | None:
    """The size of the volumes that `whole(D, H, W)` stands for; None for the rules of videos."""
    found = re.fullmatch(r"whole\((\d+), ?(\d+), ?(\d+)\)", words.strip())
    return (int(found[1]), int(found[2]), int(found[3])) if found else None


def parse_rule(words: str) -> ClipRule:
    """`"linspace(8, 32)"` as a rule. Raises `UsageError` with the known ones."""
    rule, plus, flow = (part.strip() for part in words.partition("+"))
    if plus and flow not in METHODS:
        raise UsageError(
            f"clip='{words}' says how flow is computed: +{' or +'.join(METHODS)}.{did_you_mean(flow, METHODS)}"
        )
    found = re.fullmatch(r"([a-z]+)\s*\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", rule)
    name = found[1] if found else words.partition("(")[0].strip()
    if name not in RULES:
        known = ", ".join(RULES)
        raise UsageError(
            f"clip='{words}' is no rule; choose from {known}, such as linspace(8,4).{did_you_mean(name, RULES)}"
        )
    numbers = [int(n) for n in found.groups()[1:] if n is not None] if found else []
    if len(numbers) != RULES[name] or min(numbers) < 1:
        example = f"{name}(8{', 4' if RULES[name] == 2 else ''})"
        raise UsageError(f"clip='{words}' needs {RULES[name]} whole numbers from 1, such as {example}")
    if name == "dense" and numbers[1] < numbers[0]:
        raise UsageError(f"clip='{words}': the window must hold the {numbers[0]} frames; write dense({numbers[0]}, 64)")
    return ClipRule(name, numbers[0], numbers[1] if len(numbers) > 1 else 0, flow)
