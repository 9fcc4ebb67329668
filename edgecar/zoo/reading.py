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
CHECKPOINTS = (".pt", ".pth", ".ckpt", ".pkl", ".bin", ".safetensors")
TENSORFLOW = f"read its variables with TensorFlow, {TRANSPOSE}"
TRAINED = "give the PyTorch checkpoint that it was made from"
CAFFE = "load it with caffe or cv2.dnn, and torch.save the blobs under the network's layer names"
UNPACK = "unpack it and give one checkpoint"
SHARDS = (
    "an index of safetensors shards, which holds no weights",
    "load each shard that it lists and save all tensors as one .safetensors file",
)

# What a file begins with, what it is, and how to get a checkpoint from it.
BEGINNINGS: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"MATLAB 7.3", "a MATLAB 7.3 file (MatConvNet)", f"read it with h5py, {TRANSPOSE}"),
    (0, b"MATLAB", "a MATLAB file (MatConvNet)", f"read it with scipy.io.loadmat, {TRANSPOSE}"),
    (0, b"\x89HDF\r\n", "an HDF5 file (Keras)", f"read it with Keras or h5py, {TRANSPOSE}"),
    (4, b"TFL3", "a TensorFlow Lite file", TRAINED),
    (0, b"\x93NUMPY", "a NumPy array", "torch.save all weights as one dictionary of tensors"),
    (0, b"7767517", "an ncnn network", TRAINED),
    (0, b"ftrt", "a TensorRT engine", TRAINED),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file", "run: git lfs pull"),
    (0, b"\x1f\x8b", "a gzip archive", UNPACK),
    (0, b"BZh", "a bzip2 archive", UNPACK),
    (0, b"\xfd7zXZ", "an xz archive", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (0, b"Rar!", "a RAR archive", UNPACK),
)
# Formats without a fixed beginning, by what their names end in.
ENDINGS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((".safetensors.index.json",), *SHARDS),
    ((".mat",), "a MATLAB file (MatConvNet)", f"read it with scipy.io.loadmat, {TRANSPOSE}"),
    ((".h5", ".hdf5"), "a Keras file", f"read it with Keras or h5py, {TRANSPOSE}"),
    ((".keras",), "a Keras file", f"read it with Keras, {TRANSPOSE}"),
    ((".caffemodel",), "a Caffe network", CAFFE),
    ((".prototxt",), "the description of a Caffe network, without weights", CAFFE),
    ((".onnx",), "an ONNX file", TRAINED),
    ((".tflite",), "a TensorFlow Lite file", TRAINED),
    ((".pb", ".meta"), "a TensorFlow graph", TENSORFLOW),
    ((".index",), "the index of a TensorFlow checkpoint", TENSORFLOW),
    ((".npz",), "NumPy arrays", "torch.save them as one dictionary of tensors"),
    ((".npy",), "a NumPy array", "torch.save all weights as one dictionary of tensors"),
    ((".xml",), "an OpenVINO network", TRAINED),
    ((".param",), "an ncnn network", TRAINED),
    ((".json",), "JSON text, which holds no weights", "give the checkpoint beside it"),
    ((".zip",), "a zip archive", UNPACK),
    ((".tar",), "a tar archive", UNPACK),
    ((".tgz", ".gz"), "a gzip archive", UNPACK),
    ((".7z",), "a 7z archive", UNPACK),
    ((".rar",), "a RAR archive", UNPACK),
)


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

    Args:
        path: File in the format of safetensors or ``torch.save``, told by its content.

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
        if is_safetensors(path) or (path.suffix == ".safetensors" and not _pickled(path)):
            return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: not a safetensors file ({error})") from error
    return _unpickled(path)


def mappings(content: Any) -> Iterator[tuple[tuple[str, ...], Mapping[Any, Any]]]:
    """Yield every dictionary in the content of a checkpoint, outer first, with the keys to it."""
    seen: set[int] = set()  # a file can contain itself

    def walk(part: Any, keys: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
        if not isinstance(part, Mapping) or id(part) in seen:
            return
        seen.add(id(part))
        yield keys, part
        for key, value in part.items():
            yield from walk(value, (*keys, str(key)))

    return walk(content, ())


def _pickled(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"\x80\x02")


def _unpickled(path: Path) -> Any:
    inert: list[str] = []
    while True:
        try:
            with (
                _reading,
                path.open("rb") as file,  # by a path torch would go by its suffix
                warnings.catch_warnings(),
                safe_globals(_permitted(inert)),
            ):
                warnings.simplefilter("ignore")  # about pickles that are refused anyway
                return torch.load(file, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            name = _named_in(str(error))
            if "persistent_load" in str(error):  # the source of a class, in the older format
                raise CheckpointError(f"{path}: {_whole('')}") from error
            if name in inert or len(inert) == MOST_CLASSES or not _is_class(name):
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


def pickled_network(content: Any) -> str:
    """Say that a checkpoint holds a whole network in place of its weights; empty if it does not."""
    for _, part in mappings(content):
        stored = getattr(part, "__dict__", {})
        if "_modules" in stored:
            return _whole(stored.get(CLASS, ""))
    return ""


def _whole(name: str) -> str:
    return (
        f"refused, because loading it would run code ({name or 'a network'}): a whole network was "
        f"pickled, need its weights alone; where it was trained: {SAVE_WEIGHTS}"
    )


def _permitted(inert: list[str]) -> list[Any]:
    """Return the calls allowed besides torch's own: NumPy's, and stand-ins that run nothing."""
    scalar, array = (np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0])
    numpy = [
        (call, f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for call, name in ((scalar, "scalar"), (array, "_reconstruct"))
    ]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefdFDSUV"}
    return [*numpy, np.ndarray, np.dtype, *kinds, *(_inert(name) for name in inert)]


def _inert(name: str) -> tuple[type, str]:
    return type("Inert", (Inert,), {"name": name}), name


def _named_in(reason: str) -> str:
    """Return the function or class that torch refused; empty if it refused something else."""
    found = re.search(r"GLOBAL (\S+)", reason)
    if not found or "blocked" in reason:
        return f"{found[1]}()" if found else ""
    return found[1] if "." in found[1] else f"builtins.{found[1]}"


def _is_class(name: str) -> bool:
    last = name.rpartition(".")[2].lstrip("_")
    ours = name.startswith("torchao.") or not name
    return not ours and (last[:1].isupper() or bool(SMALL_CLASSES.fullmatch(name)))


def _refusal(name: str) -> str:
    if name.startswith("torchao."):
        return (
            f"holds weights that torchao quantised ({name}); save the weights as they were trained "
            "and export them with --precision int8"
        )
    if name:
        return (
            f"refused, because loading it would run code ({name.removesuffix('()')}); save tensors "
            f"only: {SAVE_WEIGHTS}"
        )
    return "not a PyTorch checkpoint; give a state dict"


def is_safetensors(path: Path) -> bool:
    """Tell a safetensors file by its header: the length of a JSON table, then the table."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def foreign(path: Path) -> tuple[str, str] | None:
    """Return what a foreign file is and how to get a checkpoint from it; None for PyTorch files.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, "net.pth")
        ...     _ = path.write_bytes(bytes(4) + b"TFL3")
        ...     foreign(path)[0]
        'a TensorFlow Lite file'
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if head[:2] == b"PK":
        return _in_zip(path)
    if head[:1] == b"\x80" or is_safetensors(path):  # a pickle
        return None
    for at, begins, what, advice in BEGINNINGS:
        if head[at:].startswith(begins):
            return what, advice
    return _by_content(path, head) or _by_name(path)


def _by_content(path: Path, head: bytes) -> tuple[str, str] | None:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if re.match(rb"(<\?xml[^>]*>\s*)?<net\b", text):
        return "an OpenVINO network", TRAINED
    if text[:1] == b"<":
        return "a web page or other text", "download the file itself again"
    if text[:1] == b"{" and b'"weight_map"' in head:
        return SHARDS
    if head[257:262] == b"ustar":
        return _in_tar(path)
    # Protocol buffers have no signature, but the first fields of these messages are always these.
    if re.match(rb"\x08[\x03-\x14][\x12\x1a\x3a\x42]", head):
        return "an ONNX file", TRAINED
    if re.match(rb"\x08\x01\x12", head):
        return "a TensorFlow graph", TENSORFLOW
    if re.match(rb"\x0a.[\x20-\x7e]+(\xa2\x06|\x12)", head, re.DOTALL) and path.suffix != ".pb":
        return "a Caffe network", CAFFE
    return None


def _by_name(path: Path) -> tuple[str, str] | None:
    for endings, what, advice in ENDINGS:
        if path.name.lower().endswith(endings):
            return f"{what} by its name", advice
    return None


def _in_tar(path: Path) -> tuple[str, str] | None:
    try:
        with tarfile.open(path) as archive:
            names = archive.getnames()
    except (tarfile.TarError, OSError):
        return None
    if {"tensors", "storages", "pickle"} <= set(names):
        return "a checkpoint of PyTorch 0.1", "load it there and torch.save it again"
    return f"a tar archive{_holding(names)}", UNPACK


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
        return "a file of NumPy arrays", "torch.save them as one dictionary of tensors"
    if any(name.endswith(".weights.h5") for name in names):
        return "a Keras file", f"read it with Keras, {TRANSPOSE}"
    return f"a zip archive{_holding(names)}", UNPACK


def _holding(names: list[str]) -> str:
    held = [name for name in names if name.endswith(CHECKPOINTS)]
    return f" that holds {', '.join(held[:3])}{' and more' if held[3:] else ''}" if held else ""
