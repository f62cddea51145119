"""Spoiled files through the doors: an answer or one sentence, never anything else, and nothing executed.

`SIGHTLINE_FUZZ` says how many files (200); every one is made from its number, so that a finding can be repeated.
"""

import faulthandler
import io
import os
import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from sightline.errors import SightlineError
from sightline.weights import card as cards
from sightline.weights.card import Card
from sightline.weights.read import read_checkpoint

COUNT = int(os.environ.get("SIGHTLINE_FUZZ", "200"))
STATE = {"a.weight": torch.arange(6.0).view(2, 3), "b.running_mean": torch.zeros(4), "n": torch.tensor(3)}


def originals(folder: Path) -> dict[str, bytes]:
    """One good file of every kind, by suffix."""
    arrays = {name: value.numpy() for name, value in STATE.items()}
    zipped, legacy, npz, packed = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"epoch": 1, "state_dict": STATE}, zipped)
    torch.save({"epoch": 1, "state_dict": STATE}, legacy, _use_new_zipfile_serialization=False)
    np.savez(npz, **arrays)
    np.savez_compressed(packed, **arrays)
    cards.write(folder, nn.Linear(2, 2), Card("unet", "segmentation", classes=("a", "b"), scores={"x": 1.0}))
    return {
        "zip.pth": zipped.getvalue(),
        "legacy.pth": legacy.getvalue(),
        "plain.npz": npz.getvalue(),
        "packed.npz": packed.getvalue(),
        "arrays.pkl": pickle.dumps({"model": arrays}, 2),
        "w.safetensors": safetensors.torch.save(STATE),
        "card.json": (folder / "card.json").read_bytes(),
    }


def spoiled(data: bytes, dice: random.Random) -> bytes:
    """A few changes of the kinds that disks, networks and people make."""
    content = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5))):
        place = dice.randrange(len(content)) if content else 0
        kind = dice.randrange(7)
        if kind == 0 and content:
            content[place] ^= 1 << dice.randrange(8)
        elif kind == 1 and content:
            content[place] = dice.randrange(256)
        elif kind == 2:
            del content[place:]
        elif kind == 3:
            del content[place : place + dice.randrange(1, 16)]
        elif kind == 4:
            content[place:place] = dice.randbytes(dice.randrange(1, 16))
        elif kind == 5:
            content[place : place + 8] = dice.choice((b"\xff" * 8, bytes(8), b"\xff\xff\xff\x7f" + bytes(4)))
        else:
            end = dice.randrange(len(content) + 1)
            content[place:place] = content[min(place, end) : end]
    return bytes(content[: 4 * len(data)])


@pytest.mark.filterwarnings("ignore")  # parsers grumble about what they still accept
def test_spoiled_files_give_an_answer_or_a_sentence(tmp_path: Path) -> None:
    faulthandler.enable()
    good = originals(tmp_path)
    weights = (tmp_path / cards.WEIGHTS).read_bytes()
    answered = 0
    for number in range(COUNT):
        name = sorted(good)[number % len(good)]
        folder = tmp_path / "case"
        folder.mkdir(exist_ok=True)
        path = folder / name
        path.write_bytes(spoiled(good[name], random.Random(number)))
        try:
            if name == "card.json":
                (folder / cards.WEIGHTS).write_bytes(weights)
                assert isinstance(cards.read(folder), Card)
            else:
                assert all(isinstance(value, torch.Tensor) for value in read_checkpoint(path).values())
            answered += 1
        except SightlineError as error:
            words = str(error)
            assert "\n" not in words, f"case {number}, {name}"
            assert len(words) < 900, f"case {number}, {name}"
        except BaseException as error:
            pytest.fail(f"case {number}, {name}: {error!r}")
    assert 0 < answered < COUNT  # harmless changes pass, others are refused
