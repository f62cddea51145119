"""The segmentation room beside its peers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import torch.nn.functional as F
from bench.harness import Row, race, relative_difference

import sightline as sl


def rows() -> Iterator[Row]:
    """Every comparison of this room; a peer that is not installed is named in an n/a row."""
    yield from deeplab()
    yield from pyramids()
    yield from transunet()
    yield from unet_step()
    yield from scoring()
    yield from surface()
    yield from samples()


def _shake(net: torch.nn.Module) -> None:
    """Running statistics that are not 0 and 1, so that folding them is no trivial matter."""
    generator = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_(0, 0.1, generator=generator)
        elif name.endswith("running_var"):
            buffer.uniform_(0.5, 2, generator=generator)


def deeplab() -> Iterator[Row]:
    """DeepLabv3 ResNet-50 at 512 x 512 after `optimize` beside torchvision's eager network of the same weights."""
    from torchvision.models.segmentation import deeplabv3_resnet50

    torch.manual_seed(0)
    peer = deeplabv3_resnet50(weights=None, weights_backbone=None, aux_loss=None).eval()
    _shake(peer)
    ours = sl.create("deeplabv3_torchvision_r50", aux=False, mean=None).eval()
    sl.load_weights(ours, peer.state_dict())
    images = torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = peer(images)["out"]
        twin = sl.optimize(ours, images, repeats=0).net
        difference = relative_difference(twin(images).logits, expected)
        assert difference <= 1e-4, difference
        yield race(
            "deeplabv3_torchvision_r50, 1 x 512 x 512, float32",
            lambda: twin(images),
            lambda: peer(images),
            names=("optimize", "torchvision eager"),
            difference=f"relative difference {difference:.1e}",
            bar="1.3",
            repeats=9,
        )
        yield from _bf16(ours, peer, images, expected)
        yield from _onnx(ours, peer, images, expected)


def _bf16(ours, peer, images, expected) -> Iterator[Row]:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    what = "deeplabv3_torchvision_r50, 1 x 512 x 512, bf16"
    if "amx_bf16" not in flags and "avx512_bf16" not in flags:
        yield Row(what, "-", "-", None, "-", "-", "1.7", torch.get_num_threads(), "this processor has no bf16 units")
        return
    twin = sl.optimize(ours, images, bf16=True, repeats=0).net
    difference = relative_difference(twin(images).logits, expected)
    assert difference <= 3e-2, difference
    yield race(
        what,
        lambda: twin(images),
        lambda: peer(images),
        names=("optimize bf16", "torchvision eager float32"),
        difference=f"relative difference {difference:.1e}",
        bar="1.7",
        repeats=5,
    )


def _onnx(ours, peer, images, expected) -> Iterator[Row]:
    from sightline.contracts import Preprocess
    from sightline.verbs.export import Opened, export_net
    from sightline.weights.card import Card

    with TemporaryDirectory() as folder:
        path = Path(folder) / "deeplabv3.onnx"
        card = Card(model="deeplabv3_torchvision_r50", task="segmentation", preprocess=Preprocess())
        export_net(ours, card, path, "onnx")
        opened = Opened(path, "onnx")
        difference = relative_difference(opened(images).logits, expected)
        yield race(
            "deeplabv3_torchvision_r50, 1 x 512 x 512, ONNX file",
            lambda: opened(images),
            lambda: peer(images),
            names=("onnxruntime", "torchvision eager"),
            difference=f"relative difference {difference:.1e}",
            repeats=5,
        )


def pyramids() -> Iterator[Row]:
    """PSPNet-50 and DeepLabv3+ after `optimize` beside the eager public forms of the same weights."""
    import segmentation_models_pytorch as smp
    from bench.reference_pspnet import PSPNet50

    peers = (
        ("pspnet50", PSPNet50(150), {"aux": False}, (473, 473), "hszhao/semseg's form, eager"),
        (
            "deeplabv3plus_smp_r50",
            smp.DeepLabV3Plus("resnet50", encoder_weights=None, classes=21),
            {"num_classes": 21},
            (512, 512),
            "segmentation_models_pytorch eager",
        ),
    )
    for name, peer, values, size, words in peers:
        torch.manual_seed(0)
        _shake(peer.eval())
        ours = sl.create(name, **values, mean=None).eval()
        sl.load_weights(ours, peer.state_dict())
        images = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            twin = sl.optimize(ours, images, repeats=0).net
            difference = relative_difference(twin(images).logits, peer(images))
            assert difference <= 1e-4, difference
            yield race(
                f"{name}, 1 x {size[0]} x {size[1]}, float32",
                lambda twin=twin, images=images: twin(images),
                lambda peer=peer, images=images: peer(images),
                names=("optimize", words),
                difference=f"relative difference {difference:.1e}",
                bar="1.3",
                repeats=7,
            )


def transunet() -> Iterator[Row]:
    """TransUNet R50-ViT-B/16 at 224 x 224 after `optimize` beside its plain form, eager, of the same weights."""
    from bench.reference_transunet import ReferenceTransUNet

    torch.manual_seed(0)
    peer = ReferenceTransUNet().eval()
    _shake(peer)
    ours = sl.create("transunet_r50_vit_b16").eval()
    sl.load_weights(ours, peer.state_dict())
    images = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        twin = sl.optimize(ours, images, repeats=0).net
        difference = relative_difference(twin(images).logits, peer(images))
        assert difference <= 1e-4, difference
        yield race(
            "transunet_r50_vit_b16, 1 x 224 x 224, float32",
            lambda: twin(images),
            lambda: peer(images),
            names=("optimize", "reference form, eager"),
            difference=f"relative difference {difference:.1e}",
            bar="1.2",
            repeats=7,
        )


def unet_step() -> Iterator[Row]:
    """One training step of a U-Net on ResNet-34 beside segmentation_models_pytorch's of the same weights."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(0)
    peer = smp.Unet("resnet34", encoder_weights=None, classes=5).train()
    ours = sl.create("unet", backbone="resnet34", num_classes=5, mean=None).train()
    sl.load_weights(ours, peer.state_dict())
    images = torch.rand(4, 3, 256, 256)
    labels = torch.randint(0, 5, (4, 256, 256))
    with torch.no_grad():
        difference = relative_difference(ours.eval()(images).logits, peer.eval()(images))
    assert difference <= 1e-4, difference
    ours = ours.train().to(memory_format=torch.channels_last)
    peer.train()
    sides = []
    for net, call in ((ours, lambda x: ours(x).logits), (peer, peer)):
        optimizer = torch.optim.AdamW(net.parameters())
        layout = torch.channels_last if net is ours else torch.contiguous_format

        def step(call=call, optimizer=optimizer, layout=layout):
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(call(images.contiguous(memory_format=layout)), labels).backward()
            optimizer.step()

        sides.append(step)
    yield race(
        "U-Net on ResNet-34, training step, 4 x 256 x 256",
        sides[0],
        sides[1],
        names=("channels-last, as `train` runs it", "segmentation_models_pytorch"),
        difference=f"relative difference before training {difference:.1e}",
        bar="0.95",
        repeats=5,
    )


def _data(name: str) -> Path | None:
    """A set of the test data, if it is here."""
    folder = Path(os.environ.get("SIGHTLINE_DATA", Path(__file__).parents[2] / "shared" / "data")) / name
    return folder if folder.is_dir() else None


def _label_maps(generator: torch.Generator) -> tuple[torch.Tensor, str]:
    """CamVid's first hundred label maps, or as many made up, and words for which."""
    from sightline.datasets.open import open_dataset
    from sightline.datasets.read import read_labels_of

    camvid = _data("camvid")
    if camvid is not None:
        records = open_dataset(camvid).split("train").records[:100]
        return torch.stack([torch.from_numpy(read_labels_of(record, 11)) for record in records]), " of CamVid"
    labels = torch.randint(0, 11, (100, 360, 480), generator=generator, dtype=torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.05] = 255
    return labels, ""


def scoring() -> Iterator[Row]:
    """100 label maps of 360 x 480, 11 classes, beside torchmetrics' Jaccard index."""
    from torchmetrics.classification import MulticlassJaccardIndex

    from sightline.segmentation.metrics import SegmentationMetric

    generator = torch.Generator().manual_seed(0)
    labels, of = _label_maps(generator)
    noise = torch.randint(0, 11, labels.shape, generator=generator, dtype=torch.uint8)
    answers = torch.where((torch.rand(labels.shape, generator=generator) < 0.3) | (labels == 255), noise, labels)

    def ours() -> float:
        metric = SegmentationMetric([str(k) for k in range(11)])
        for k in range(len(labels)):
            metric.update(answers[k], labels[k], key=str(k))
        return metric.compute().metrics["dataset_miou"]

    def peer(validate: bool) -> float:
        metric = MulticlassJaccardIndex(11, ignore_index=255, validate_args=validate)
        for k in range(len(labels)):
            metric.update(answers[k].long()[None], labels[k].long()[None])
        return float(metric.compute())

    difference = abs(ours() - peer(True))
    assert difference < 1e-6, difference
    for validate, words, bar in ((True, "its defaults", "5"), (False, "validate_args=False", "")):
        yield race(
            f"mIoU of 100 label maps{of}, 360 x 480, 11 classes; torchmetrics with {words}",
            ours,
            lambda validate=validate: peer(validate),
            names=("all scores and each picture's", "MulticlassJaccardIndex"),
            difference=f"difference {difference:.0e}",
            bar=bar,
            repeats=3,
        )


def surface() -> Iterator[Row]:
    """HD95 of five organs in a volume of flat voxels beside scipy's distance transforms, as MONAI uses them."""
    from scipy.ndimage import binary_erosion, distance_transform_edt

    from sightline.segmentation.surface_scores import hausdorff

    size, spacing = (96, 192, 192), (2.5, 1.0, 1.0)
    rng = np.random.default_rng(0)
    at = np.indices(size)
    pairs = []
    for k in range(5):
        middle, radius = [rng.integers(0.3 * n, 0.7 * n) for n in size], [n * rng.uniform(0.08, 0.25) for n in size]
        wave = 1 + 0.15 * np.sin(at[1] / 7 + k) * np.cos(at[2] / 9)
        organs = []
        for shift in (0, 3):
            distance = sum(((a - m - shift) / r) ** 2 for a, m, r in zip(at, middle, radius))
            organs.append(torch.from_numpy(distance * wave < 1))
        pairs.append(organs)

    def edges(mask: np.ndarray) -> np.ndarray:
        return binary_erosion(mask) ^ mask

    def peer() -> list[float]:
        found = []
        for a, b in pairs:
            both = (a | b).numpy()
            seen = [np.flatnonzero(both.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
            box = tuple(slice(max(0, places[0] - 1), places[-1] + 2) for places in seen)
            one, two = edges(a.numpy()[box]), edges(b.numpy()[box])
            there = distance_transform_edt(~two, sampling=spacing)[one]
            back = distance_transform_edt(~one, sampling=spacing)[two]
            found.append(float(max(np.percentile(there, 95), np.percentile(back, 95))))
        return found

    def ours() -> list[float]:
        return [hausdorff(a, b, spacing=spacing) for a, b in pairs]

    difference = max(abs(x - y) for x, y in zip(ours(), peer()))
    assert difference < 1e-5, difference
    yield race(
        "HD95 of five organs, 96 x 192 x 192 voxels of 2.5 x 1 x 1 mm",
        ours,
        peer,
        names=("hausdorff", "scipy's distance transforms, as MONAI has them"),
        difference=f"difference {difference:.0e}",
        bar="3",
        repeats=5,
    )


def samples() -> Iterator[Row]:
    """Decode and augment CamVid beside a plain `Dataset` with the same list of torchvision transforms."""
    data = _data("camvid")
    what = "CamVid: decode, scale, crop, flip, colour, 256 x 256"
    if data is None:
        yield Row(
            what, "-", "-", None, "-", "-", "1.2", torch.get_num_threads(), "camvid is absent; set SIGHTLINE_DATA"
        )
        return
    from PIL import Image
    from torchvision import tv_tensors
    from torchvision.transforms import v2

    from sightline.contracts import Preprocess
    from sightline.datasets.open import open_dataset
    from sightline.segmentation.targets import Augment, Samples

    found = open_dataset(data).split("train")
    ours = Samples(
        found, preprocess=Preprocess(), seed=0, augment=Augment(crop=(256, 256), scale=(0.7, 1.5), colour=0.2)
    )
    transforms = v2.Compose(
        [
            v2.ScaleJitter(target_size=(360, 480), scale_range=(0.7, 1.5)),
            v2.RandomCrop(256, pad_if_needed=True, padding_mode="reflect"),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.2, 0.2, 0.2),
        ]
    )

    class Plain(torch.utils.data.Dataset):
        def __getitem__(self, index):
            record = found.records[index]
            image = tv_tensors.Image(Image.open(record.image.path).convert("RGB"))
            mask = tv_tensors.Mask(torch.from_numpy(np.asarray(Image.open(record.labels.path)).copy()))
            return transforms(image, mask)

    plain = Plain()
    sample = ours[0, 0]
    image, mask = plain[0]
    assert sample.image.shape == image.shape and sample.labels.shape == mask.shape
    chosen = range(60)
    yield race(
        what,
        lambda: [ours[0, i] for i in chosen],
        lambda: [plain[i] for i in chosen],
        names=("Samples, 60 pictures", "Dataset with transforms.v2"),
        difference="same sizes and types; the randomness differs",
        bar="1.2",
        repeats=7,
    )
