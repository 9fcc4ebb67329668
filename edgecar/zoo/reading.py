"""Checkpoint files to their content, without running any code that they hold.

Files of other formats are told by content and name, and are not converted here: the message says
what they are and how to convert them.
"""

import re
import tarfile
import threading
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import safe_globals

from edgecar.errors import CheckpointError

MOST_CLASSES = 64  # that a file may name besides those of tensors
SAVE_WEIGHTS = "torch.save(network.state_dict(), path)"
# Classes that are written in small letters; other such names are functions.
SMALL_CLASSES = re.compile(
    r"(datetime|collections|fractions|decimal|uuid|copyreg|numpy\.random\S*)\.\w+"
    r"|functools\.partial"
    r"|builtins\.(slice|range|frozenset|object|list|dict|tuple|int|float|str|bool|bytes|type)"
)
CLASS = "pickled class"
_reading = threading.Lock()  # torch's list of permitted classes is one for the process

HEAD_BYTES = 1024
TRANSPOSE = (
    "transpose filters from (height, width, in, out) to (out, in, height, width) and torch.save "
    "them under the layer names of the network"
)
TRAINED = "give the PyTorch checkpoint that it was made from"
UNPACK = "unpack it and give one checkpoint"
KERAS = f"read it with Keras or h5py, {TRANSPOSE}"
NUMPY = "torch.save all weights as one dictionary of tensors"

FORMATS: tuple[tuple[str, str, bytes, tuple[str, ...]], ...] = (
    (
        "a MATLAB file (MatConvNet)",
        f"read it with scipy.io.loadmat, or h5py from MATLAB 7.3 on, {TRANSPOSE}",
        rb"MATLAB",
        (".mat",),
    ),
    ("an HDF5 file (Keras)", KERAS, rb"\x89HDF\r\n", (".h5", ".hdf5", ".keras")),
    ("a TensorFlow Lite file", TRAINED, rb"....TFL3", (".tflite",)),
    ("NumPy arrays", NUMPY, rb"\x93NUMPY", (".npy", ".npz")),
    ("an ncnn network", TRAINED, rb"7767517", (".param",)),
    ("a TensorRT engine", TRAINED, rb"ftrt", ()),
    ("a Git LFS pointer, not the file", "run: git lfs pull", rb"version https://git-lfs", ()),
    (
        "a compressed archive",
        UNPACK,
        rb"\x1f\x8b|BZh|\xfd7zXZ|\x28\xb5\x2f\xfd|7z\xbc\xaf\x27\x1c|Rar!",
        (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"),
    ),
    ("an OpenVINO network", TRAINED, rb"\W*(<\?xml[^>]*>\s*)?<net\b", (".xml",)),
    ("a web page or other text", "download the file itself again", rb"(\xef\xbb\xbf)?\s*<", ()),
    (
        "an index of safetensors shards, which holds no weights",
        "load each shard that it lists and save all tensors as one .safetensors file",
        rb'\s*\{.*"weight_map"',
        (".safetensors.index.json",),
    ),
    # Protocol buffers have no signature, but the first fields of these messages are always these.
    ("an ONNX file", TRAINED, rb"\x08[\x03-\x14][\x12\x1a\x3a\x42]", (".onnx",)),
    (
        "a TensorFlow graph",
        f"read its variables with TensorFlow, {TRANSPOSE}",
        rb"\x08\x01\x12",
        (".pb", ".meta", ".index"),
    ),
    (
        "a Caffe network",
        "load it with caffe or cv2.dnn, and torch.save the blobs under the network's layer names",
        rb"\x0a.[\x20-\x7e]{2,}(\xa2\x06|\x12)",
        (".caffemodel", ".prototxt"),
    ),
    ("JSON text, which holds no weights", "give the checkpoint beside it", rb"(?!)", (".json",)),
)
"""Formats of others: what they are, how to get a checkpoint, how they begin, how names end."""


class Inert:
    """Stand-in for every class that is not loaded: a dictionary of the stored values.

    Settings of a training run are often objects (paths, namespaces, dates). Their code is neither
    imported nor called. What they hold is kept as data, because some of them hold weights.
    """

    name = ""

    def __new__(cls, *_args: Any, **_options: Any) -> Any:
        """Return an ordered dictionary, which torch's unpickler fills."""
        made: OrderedDict[Any, Any] = OrderedDict()
        vars(made)[CLASS] = cls.name
        return made


def content_of(path: Path) -> Any:
    """Read the tensors, arrays, numbers and text of a checkpoint, and dictionaries of them.

    Raises:
        CheckpointError: The file is missing, unreadable or in another format, or loading it would
            run code.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; give a .pt, .pth or .safetensors checkpoint")
    try:
        other = foreign(path)
        if other:
            what, advice = other
            raise CheckpointError(f"{path}: this is {what}, not a PyTorch checkpoint; {advice}")
        with path.open("rb") as file:
            pickled = file.read(2) in (b"PK", b"\x80\x02")
        if is_safetensors(path) or (path.suffix == ".safetensors" and not pickled):
            return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    return _unpickled(path)


def mappings(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield every dictionary in the content of a checkpoint, outer first, with the keys to it."""
    seen: set[int] = set()  # a file can contain itself

    def walk(part: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if isinstance(part, Mapping) and id(part) not in seen:
            seen.add(id(part))
            yield keys, part
            for key, value in part.items():
                yield from walk(value, (*keys, str(key)))

    return walk(content, ())


def pickled_network(content: Any) -> str:
    """Say that a checkpoint holds a whole network in place of its weights; empty if it does not."""
    for _, part in mappings(content):
        stored = getattr(part, "__dict__", {})
        if "_modules" in stored:
            return _whole(stored.get(CLASS, ""))
    return ""


def _unpickled(path: Path) -> Any:
    """Load a pickle; every class that it names in vain is replaced by a stand-in, one by one."""
    inert: list[str] = []
    while True:
        stand_ins = [(type("Inert", (Inert,), {"name": name}), name) for name in inert]
        try:
            with (
                _reading,
                path.open("rb") as file,  # by a path torch would go by its suffix
                warnings.catch_warnings(),
                safe_globals([*_numpy_calls(), *stand_ins]),
            ):
                warnings.simplefilter("ignore")  # about pickles that are refused anyway
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            if "persistent_load" in str(error):  # the source of a class, in the older format
                raise CheckpointError(f"{path}: {_whole('')}") from error
            named = re.search(r"GLOBAL (\S+)", str(error))
            name = "" if not named else named[1] if "." in named[1] else f"builtins.{named[1]}"
            last = name.rpartition(".")[2].lstrip("_")
            is_class = last[:1].isupper() or SMALL_CLASSES.fullmatch(name)
            safe = is_class and "blocked" not in str(error) and not name.startswith("torchao.")
            if not safe or name in inert or len(inert) == MOST_CLASSES:
                raise CheckpointError(f"{path}: {_refusal(name)}") from error
            inert.append(name)
        except Exception as error:  # what damaged files raise shares no base
            if inert:
                raise CheckpointError(
                    f"{path}: holds objects that cannot be read without their code "
                    f"({', '.join(inert[:3])}); save tensors only: {SAVE_WEIGHTS}"
                ) from error
            reason = " ".join([type(error).__name__, *str(error).splitlines()[:1]])
            raise CheckpointError(
                f"{path}: damaged or not a PyTorch checkpoint ({reason[:120]})"
            ) from error


def _numpy_calls() -> list[Any]:
    """Return the calls allowed besides torch's own, which make NumPy's arrays and numbers."""
    scalar, array = (np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0])
    calls = [
        (call, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for call, name in ((scalar, "scalar"), (array, "_reconstruct"))
    ]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSUV"}
    return [*calls, np.ndarray, np.dtype, *kinds]


def _whole(name: str) -> str:
    return (
        f"refused, because loading it would run code ({name or 'a network'}): a whole network was "
        f"pickled, need its weights alone; where it was trained: {SAVE_WEIGHTS}"
    )


def _refusal(name: str) -> str:
    if not name:
        return "not a PyTorch checkpoint; give a state dict"
    if name.startswith("torchao."):
        return (
            f"holds weights that torchao quantised ({name}); save the weights as they were trained "
            "and export them with --precision int8"
        )
    return f"refused, because loading it would run code ({name}); save tensors only: {SAVE_WEIGHTS}"


def is_safetensors(path: Path) -> bool:
    """Tell a safetensors file by its header: the length of a JSON table, then the table."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def foreign(path: Path) -> tuple[str, str] | None:
    """Return what a foreign file is and how to get a checkpoint from it; None for PyTorch files."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:2] == b"PK":
        return _in_zip(path)
    if head[:1] == b"\x80" or is_safetensors(path):  # a pickle
        return None
    for what, advice, begins, _ in FORMATS:
        if re.match(begins, head, re.DOTALL):
            return what, advice
    if head[257:262] == b"ustar":
        with suppress(tarfile.TarError, OSError), tarfile.open(path) as archive:
            names = archive.getnames()
            if {"tensors", "storages", "pickle"} <= set(names):
                return "a checkpoint of PyTorch 0.1", "load it there and torch.save it again"
            return f"a tar archive{_holding(names)}", UNPACK
    for what, advice, _, endings in FORMATS:
        if path.name.lower().endswith(endings):
            return f"{what} by its name", advice
    return None


def _in_zip(path: Path) -> tuple[str, str] | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None  # damaged: PyTorch says how
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        save = "torch.save(torch.jit.load(path).state_dict(), path)"
        return "a TorchScript archive, which holds code", f"save its weights alone: {save}"
    if "data.pkl" in inner:
        return None
    if any(name.endswith("extern_modules") for name in names):
        return "a torch.package archive, which holds code", "torch.save its network's state_dict()"
    if names and all(name.endswith(".npy") for name in names):
        return "a file of NumPy arrays", NUMPY
    if any(name.endswith(".weights.h5") for name in names):
        return "a Keras file", KERAS
    return f"a zip archive{_holding(names)}", UNPACK


def _holding(names: list[str]) -> str:
    ends = (".pt", ".pth", ".ckpt", ".pkl", ".bin", ".safetensors")
    held = [name for name in names if name.endswith(ends)]
    return f" that holds {', '.join(held[:3])}{' and more' if held[3:] else ''}" if held else ""
