"""Monte-Carlo dropout: means and variances against a loop, and the uncertainty on its way into answers and files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sightline.contracts import Preprocess
from sightline.errors import UsageError
from sightline.media.image import read_image
from sightline.segmentation.answer import LabelMap
from sightline.segmentation.contract import Scores
from sightline.segmentation.predict import Procedure, answer, see
from sightline.segmentation.sampled import dropping, sampled


class Dropping(nn.Module):
    """One convolution behind dropout."""

    def __init__(self, samples: int = 5) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.samples = samples
        self.net = nn.Sequential(nn.Dropout(0.5), nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.eval()

    def forward(self, images: Tensor) -> Scores:
        return Scores(self.net(images))


IMAGE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
PIXELS = torch.from_numpy(IMAGE).permute(2, 0, 1)[None].float() / 255


def test_mean_and_variance_are_those_of_the_looks() -> None:
    net = Dropping()

    def look() -> Tensor:
        return net(PIXELS).logits.softmax(1)

    with torch.no_grad():
        mean, variance = sampled(net, look, 5, seed=3)
        torch.manual_seed(3)
        net.net[0].train()
        looks = torch.stack([look() for _ in range(5)])
        net.net[0].eval()
    assert torch.allclose(mean, looks.mean(0), atol=1e-6)
    assert torch.allclose(variance, looks.var(0, correction=0).mean(1, keepdim=True), atol=1e-7)
    assert float(variance.max()) > 0.001


def test_nothing_else_is_changed() -> None:
    net = Dropping()
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    with dropping(net, 0):
        assert net.net[0].training and not net.net[2].training
        net(PIXELS)
    assert torch.equal(torch.rand(3), expected)
    assert not any(m.training for m in net.modules())
    assert int(net.net[2].num_batches_tracked) == 0
    with pytest.raises(UsageError, match="has no dropout"), dropping(nn.Conv2d(1, 1, 1), 0):
        pass
    with pytest.raises(UsageError, match="expected 1 or more"):
        sampled(net, lambda: PIXELS, 0)


@pytest.mark.parametrize("procedure", [Procedure(), Procedure(tile=16), Procedure(flips="h", scales=(0.5, 1.0))])
def test_an_answer_says_how_sure_it_is(procedure: Procedure) -> None:
    net = Dropping()
    found = answer(net, IMAGE, preprocess=Preprocess(), procedure=procedure)
    again = answer(net, IMAGE, preprocess=Preprocess(), procedure=procedure)
    assert found.probabilities is not None and found.uncertainty is not None
    assert found.probabilities.shape == (4, 20, 30) and found.uncertainty.shape == (20, 30)
    assert found.labels.max() < 4 and torch.equal(found.labels.long(), found.probabilities.argmax(0))
    assert float(found.uncertainty.min()) > 0 and float(found.uncertainty.max()) < 0.25
    assert again.uncertainty is not None and torch.equal(found.uncertainty, again.uncertainty)


def test_the_number_of_looks_can_be_asked_for() -> None:
    net, preprocess = Dropping(), Preprocess()
    none = answer(net, IMAGE, preprocess=preprocess, procedure=Procedure(samples=0))
    assert none.uncertainty is None
    two, five = (answer(net, IMAGE, preprocess=preprocess, procedure=Procedure(samples=n)) for n in (2, 5))
    own = answer(net, IMAGE, preprocess=preprocess)
    assert two.uncertainty is not None and own.uncertainty is not None and five.uncertainty is not None
    assert torch.equal(own.uncertainty, five.uncertainty) and not torch.equal(two.uncertainty, five.uncertainty)
    with pytest.raises(UsageError, match="expected 0 or more looks"):
        Procedure(samples=-1)


def test_predict_and_evaluate_ask_so_often(tmp_path: Path) -> None:
    from sightline.datasets.bundled import bundled
    from sightline.verbs.evaluate import evaluate
    from sightline.verbs.models import create
    from sightline.verbs.predict import predict
    from sightline.weights.card import Card

    torch.manual_seed(0)
    net = create("bayesian_segnet", num_classes=1, width=2, samples=2).eval()
    card = Card(model="bayesian_segnet", task="segmentation", classes=("nucleus",), preprocess=Preprocess())
    (found,) = predict((net, card), IMAGE, out=tmp_path)
    assert found.uncertainty is not None and (tmp_path / Path(found.files["uncertainty"]).name).is_file()
    (once,) = predict((net, card), IMAGE, samples=0)
    assert once.uncertainty is None
    data = tmp_path / "two"
    for kind in ("images", "masks"):
        (data / kind).mkdir(parents=True)
        for path in sorted((bundled("nuclei") / kind / "val").iterdir())[:2]:
            shutil.copy(path, data / kind / path.name)
    scores = [evaluate((net, card), data, split="all", samples=n).metrics for n in (None, 2, 0)]
    assert scores[0] == scores[1]
    plain = create("unet", num_classes=1, width=2, depth=2).eval()
    with pytest.raises(UsageError, match="has no dropout"):
        list(predict((plain, card), IMAGE, samples=3))


def test_a_network_that_is_not_sampled_has_no_uncertainty() -> None:
    net = Dropping(samples=0)
    assert answer(net, IMAGE, preprocess=Preprocess()).uncertainty is None
    with torch.no_grad():
        assert torch.equal(see(net, PIXELS), net(PIXELS).logits.softmax(1))


def test_uncertainty_is_drawn_and_saved(tmp_path: Path) -> None:
    uncertainty = torch.linspace(0, 0.2, 12).reshape(3, 4)
    found = LabelMap(torch.zeros(3, 4, dtype=torch.uint8), ("a", "b"), uncertainty=uncertainty, name="street")
    drawn = found.draw_uncertainty()
    assert drawn[0, 0].tolist() == [0, 0, 0] and drawn[2, 3].tolist() == [255, 255, 255]
    assert (np.diff(drawn.astype(int).sum(-1).ravel()) >= 0).all()
    written = found.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "street-uncertainty.png",
        "street-uncertainty.tif",
        "street.png",
    ]
    assert np.array_equal(read_image(written["uncertainty"])[..., 0], uncertainty.numpy())
    assert np.array_equal(read_image(written["uncertainty_drawn"]), drawn)
    sure = replace(found, uncertainty=torch.zeros(3, 4))
    assert not sure.draw_uncertainty().any()
    with pytest.raises(UsageError, match="has no uncertainty"):
        replace(found, uncertainty=None).draw_uncertainty()
