"""Published weights by name."""

import pytest

from sightline.contracts import PublishedWeights
from sightline.errors import UsageError
from sightline.weights.published import choose, words

RECORDS = (
    PublishedWeights("coco", "https://x/a.pth", megabytes=161, licence="BSD-3-Clause", scores={"miou": 60.5}),
    PublishedWeights("imagenet", "https://x/b.pth"),
)


def test_choosing_by_name() -> None:
    assert choose("imagenet", RECORDS) is RECORDS[1]
    with pytest.raises(UsageError, match=r"unknown weights 'cocoo' of fcn\. Did you mean 'coco'\? \(known: coco, imag"):
        choose("cocoo", RECORDS, "fcn")
    with pytest.raises(UsageError, match="none published: give the path of a file"):
        choose("coco", ())


def test_one_line_each() -> None:
    assert words(RECORDS[0]) == "coco: 161 MB, miou 60.5, licence: BSD-3-Clause"
    assert words(RECORDS[1]) == "imagenet: size unknown, licence: unknown"
