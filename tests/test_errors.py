"""Exit codes, and the words that help after a typing mistake."""

import pytest

from sightline.errors import SightlineError, UsageError, did_you_mean, missing_extra

NAMES = ("unet", "unet_valid", "fcn8s", "deeplabv3_torchvision_r50", "Bicycle")


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("unte", "unet"),
        ("UNET", "unet"),
        ("unet-valid", "unet_valid"),
        ("fcn8", "fcn8s"),
        ("deeplabv3_torchvision_r5", "deeplabv3_torchvision_r50"),
        ("bicicle", "Bicycle"),  # the name as it is written, not as it was compared
    ],
)
def test_a_typing_mistake_finds_its_word(word: str, meant: str) -> None:
    assert did_you_mean(word, NAMES) == f" Did you mean '{meant}'?"


@pytest.mark.parametrize("word", ["", "zebra", "mask_rcnn", "?" * 500])
def test_no_word_is_better_than_a_wild_one(word: str) -> None:
    assert did_you_mean(word, NAMES) == ""
    assert did_you_mean(word, []) == ""


def test_any_iterable_of_names_is_taken() -> None:
    assert did_you_mean("unt", {"unet": 1, "fcn": 2}) == " Did you mean 'unet'?"
    assert did_you_mean("unt", (name for name in NAMES)) == " Did you mean 'unet'?"


def test_exit_codes() -> None:
    assert SightlineError("the disk is full").exit_code == 1
    assert UsageError("no such option").exit_code == 2
    assert isinstance(UsageError("x"), SightlineError)  # one except catches every mistake of a user
    assert isinstance(UsageError("x"), ValueError)  # and Python callers catch a wrong value as they are used to


def test_a_missing_extra_says_how_to_get_it() -> None:
    error = missing_extra("onnx", "export", "exporting to ONNX")
    assert str(error) == "exporting to ONNX needs the package 'onnx': pip install 'sightline[export]'"
    assert error.exit_code == 2
