"""Reading files: every kind that is opened, every kind that is refused, and nothing ever executed."""

import argparse
import collections
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sightline.errors import SightlineError
from sightline.weights.read import read_checkpoint, read_file

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.zeros(2)}


class Trap:
    """A pickle that makes a folder when it is opened by anything that believes it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


class Foreign:
    """Stands for a training program's own class."""


def refusal(path: Path) -> str:
    with pytest.raises(SightlineError) as caught:
        read_checkpoint(path)
    words = str(caught.value)
    assert str(path) in words
    assert "\n" not in words
    return words


def is_state(tensors: dict[str, torch.Tensor]) -> bool:
    return list(tensors) == list(STATE) and all(torch.equal(tensors[name], STATE[name]) for name in STATE)


def test_every_kind_of_file_gives_the_same_tensors(tmp_path: Path) -> None:
    arrays = {name: value.numpy() for name, value in STATE.items()}
    safetensors.torch.save_file(STATE, tmp_path / "a.safetensors")
    torch.save(STATE, tmp_path / "zip.pth")
    torch.save(STATE, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    np.savez(tmp_path / "plain.npz", **arrays)
    np.savez_compressed(tmp_path / "packed.npz", **arrays)
    for protocol in (2, 4):
        (tmp_path / f"{protocol}.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}, protocol))
    found = {path.name: read_checkpoint(path) for path in tmp_path.iterdir()}
    found["a.safetensors"] = {name: found["a.safetensors"][name] for name in STATE}  # it sorts by itself
    assert len(found) == 7
    assert all(is_state(tensors) for tensors in found.values())


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "weights.ckpt")
    torch.save(STATE, tmp_path / "model.bin")
    assert set(read_checkpoint(tmp_path / "weights.ckpt")) == set(read_checkpoint(tmp_path / "model.bin")) == set(STATE)


def test_arrays_of_other_byte_order_layout_and_type(tmp_path: Path) -> None:
    arrays = {
        "big": np.arange(6, dtype=">f4").reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "half": np.arange(6, dtype=np.float16),
        "none": np.zeros((0, 3), np.float32),
        "one": np.array(3, np.int64),
    }
    np.savez(tmp_path / "w.npz", **arrays)
    tensors = read_checkpoint(tmp_path / "w.npz")
    assert all(np.array_equal(tensors[name].numpy(), array) for name, array in arrays.items())


def test_containers_are_opened_and_wrappers_taken_off(tmp_path: Path) -> None:
    state = {f"module._orig_mod.{name}": value for name, value in STATE.items()}
    for content in ({"epoch": 1, "state_dict": state}, {"model": {"state_dict": state}}, {"network_weights": state}):
        torch.save(content, tmp_path / "w.pth")
        assert is_state(read_checkpoint(tmp_path / "w.pth"))
    assert "took off the prefix '_orig_mod.'" in read_file(tmp_path / "w.pth").notes


def test_other_prefixes_stay_for_the_loader_to_judge(tmp_path: Path) -> None:
    torch.save({f"model.{name}": value for name, value in STATE.items()}, tmp_path / "w.pth")
    assert set(read_checkpoint(tmp_path / "w.pth")) == {"model.a.weight", "model.a.bias"}


def test_names_of_tensorflow_and_mxnet(tmp_path: Path) -> None:
    np.savez(tmp_path / "tf.npz", **{"conv/kernel:0": np.zeros(2), "conv/bias:0": np.zeros(2)})
    np.savez(tmp_path / "mx.npz", **{"arg:w": np.zeros(2), "aux:mean": np.zeros(2)})
    assert set(read_checkpoint(tmp_path / "tf.npz")) == {"conv/kernel", "conv/bias"}
    assert set(read_checkpoint(tmp_path / "mx.npz")) == {"w", "mean"}


def test_two_networks_in_one_file_are_told_apart(tmp_path: Path) -> None:
    torch.save({"netG": STATE, "netD": STATE}, tmp_path / "w.pth")
    assert set(read_checkpoint(tmp_path / "w.pth")) == {f"{net}.{name}" for net in ("netG", "netD") for name in STATE}


def test_numbers_of_numpy_and_parsed_arguments_are_no_code(tmp_path: Path) -> None:
    content = {
        "state_dict": STATE,
        "best": np.float64(0.5),
        "history": np.arange(3),
        "args": argparse.Namespace(lr=0.1),
        "order": collections.OrderedDict(a=1),
    }
    torch.save(content, tmp_path / "w.pth")
    assert is_state(read_checkpoint(tmp_path / "w.pth"))


@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle", "pickle5", "old", "npz"])
def test_a_malicious_file_executes_nothing(tmp_path: Path, kind: str) -> None:
    hit = tmp_path / "executed"
    path = tmp_path / ("w.npz" if kind == "npz" else "w.pth")
    content = {"state_dict": {"a": Trap(hit)}}
    if kind in ("zip", "legacy"):
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    elif kind == "npz":
        np.savez(path, a=np.array([Trap(hit)], dtype=object))
    else:
        path.write_bytes(pickle.dumps(content, {"pickle": 2, "pickle5": 5, "old": 0}[kind]))
    words = refusal(path)
    assert not hit.exists()
    if kind in ("zip", "legacy", "pickle", "pickle5"):
        assert "would run code" in words
        assert "mkdir" in words
        assert "x.get('state_dict', x)" in words
    if kind == "pickle":  # the trap is real
        pickle.loads(path.read_bytes())
        assert hit.exists()


@pytest.mark.parametrize(
    "attack",
    [
        b"\x80\x02cbuiltins\neval\nX\x04\x00\x00\x001+10\x85R.",
        b"\x80\x02cnumpy\ndtype\n(cbuiltins\nexec\ntR.",
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.",
        b"\x80\x02cnumpy._core.multiarray\nscalar.__class__\n)R.",
        b"\x80\x04\x8c\x05numpy\x94\x8c\x0fndarray.tofile\x94\x93.",
        b"\x80\x02\x82\x01.",
        b"\x80\x02X\x01\x00\x00\x00aQ.",
        b"\x80\x02K\x01r\xff\xff\xff\x7f.",  # a memo of 2 billion places
        b"\x80\x02]" + b"]" * 20000 + b"a" * 20000 + b".",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00abc.",  # bytes of 2^56
    ],
)
def test_hand_made_pickles_are_refused(tmp_path: Path, attack: bytes) -> None:
    path = tmp_path / "w.pkl"
    path.write_bytes(attack)
    refusal(path)


def test_a_training_programs_own_class_gives_the_snippet_that_keeps_the_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"network_weights": STATE, "trainer": Foreign()}, path)
    words = refusal(path)
    assert "Foreign" in words
    snippet = words.split('python -c "')[1].split('"')[0]
    scope: dict[str, Any] = {}
    old = Path.cwd()
    os.chdir(tmp_path)
    try:
        exec(snippet, scope)
    finally:
        os.chdir(old)
    assert is_state(read_checkpoint(tmp_path / "weights.pth"))


def garbage() -> dict[str, tuple[str, bytes, str]]:
    stream = io.BytesIO()
    torch.save(STATE, stream)
    whole = stream.getvalue()
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("readme.txt", "x")
    hdf = b"\x89HDF\r\n\x1a\n" + bytes(20)
    return {
        "empty": ("w.pth", b"", "is empty"),
        "truncated zip": ("w.pth", whole[: len(whole) // 2], "damaged or truncated"),
        "truncated safetensors": ("w.safetensors", safetensors.torch.save(STATE)[:-5], "damaged or truncated"),
        "header longer than the file": ("w.safetensors", struct.pack("<Q", 10**9) + b"{" + bytes(50), "damaged"),
        "noise": ("w.pth", bytes(range(1, 200)), "no file of weights"),
        "text": ("w.pth", b"hello", "no file of weights"),
        "web page": ("w.pth", b"\n<!doctype html><p>404", "is a web page"),
        "lfs": ("w.pth", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        "other zip": ("w.pth", zipped.getvalue(), "zip archive of something else (first entry readme.txt)"),
        "keras": ("w.keras", zipped.getvalue(), "np.savez"),
        "hdf5": ("w.h5", hdf, "HDF5 file (Keras)"),
        "hdf5 by content": ("w.pth", hdf, "HDF5 file (Keras)"),
        "caffe": ("w.caffemodel", b"\n\x05VGG16", "net.params"),
        "mxnet": ("w.params", b"\x12\x01" + bytes(30), "mx.nd.load"),
        "tf graph": ("w.pb", b"\x08\x01", "tf.saved_model.load"),
        "tf index": ("model.ckpt-100.index", b"\0\0\1", "tf.train.load_checkpoint"),
        "tf data": ("model.ckpt-100.data-00000-of-00001", b"\1\2", "tf.train.load_checkpoint"),
        "flax": ("flax_model.msgpack", b"\x81\xa6params", "msgpack_restore"),
        "darknet": ("yolov3.weights", struct.pack("<iiiQ", 0, 2, 0, 5) + bytes(40), "darknet"),
        "onnx": ("w.onnx", b"\x08\x07", "exported network"),
    }


@pytest.mark.parametrize("case", garbage())
def test_what_cannot_be_read_is_one_sentence(tmp_path: Path, case: str) -> None:
    name, data, words = garbage()[case]
    (tmp_path / name).write_bytes(data)
    assert words in refusal(tmp_path / name)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "none.pth")
    assert "is a folder" in refusal(tmp_path)
    with pytest.raises(SightlineError, match="cannot read"):
        read_checkpoint("a\0b")


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (torch.zeros(3), "holds a Tensor"),
        ([torch.zeros(3)], "holds a list"),
        ({"epoch": 3}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
        ({"a": torch.zeros(1).expand(2**40)}, "unpacks to more than 256 MB"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "holds no tensors"),
        ({"a": torch.eye(3).to_sparse()}, "holds no tensors"),
    ],
)
def test_contents_that_are_no_state_dict(tmp_path: Path, content: Any, words: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    assert words in refusal(tmp_path / "w.pth")


def test_torchscript_is_a_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("m/code/__torch__.py", "class M: pass")
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/constants.pkl", b"\x80\x02).")
    assert "TorchScript program" in refusal(tmp_path / "w.pt")


@pytest.mark.parametrize(("size", "words"), [(2**31, "unpacks to more than 256 MB"), (200, "damaged or truncated")])
def test_a_few_kilobytes_cannot_fill_the_memory(tmp_path: Path, size: int, words: str) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(2**20))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", size)  # what it says it unpacks to
    path.write_bytes(data)
    assert len(data) < 2000
    assert words in refusal(path)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    for shape in ((2**40,), (-1,), (3, 2**61)):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        with zipfile.ZipFile(tmp_path / "w.npz", "w") as archive:
            archive.writestr("a.npy", header.getvalue() + bytes(8))
        assert "does not have the bytes of its shape" in refusal(tmp_path / "w.npz")


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    content: dict[str, Any] = {"x": 1}
    content["again"] = content
    torch.save(content, tmp_path / "w.pth")
    assert "holds no tensors" in refusal(tmp_path / "w.pth")
