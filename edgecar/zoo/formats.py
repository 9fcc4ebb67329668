"""Files that hold weights in another form than a checkpoint of PyTorch, told by content and name.

None of them is converted here: what they are and how to convert them is said instead.
"""

import re
import tarfile
import zipfile
from pathlib import Path

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
ENDINGS: tuple[tuple[str, str, str], ...] = (
    (".safetensors.index.json", "an index of safetensors shards, which holds no weights",
     "load each shard that it lists and save all tensors as one .safetensors file"),
    (".mat", "a MATLAB file (MatConvNet)", f"read it with scipy.io.loadmat, {TRANSPOSE}"),
    (".h5", "a Keras file", f"read it with Keras or h5py, {TRANSPOSE}"),
    (".hdf5", "a Keras file", f"read it with Keras or h5py, {TRANSPOSE}"),
    (".keras", "a Keras file", f"read it with Keras, {TRANSPOSE}"),
    (".caffemodel", "a Caffe network", CAFFE),
    (".prototxt", "the description of a Caffe network, without weights", CAFFE),
    (".onnx", "an ONNX file", TRAINED),
    (".tflite", "a TensorFlow Lite file", TRAINED),
    (".pb", "a TensorFlow graph", TENSORFLOW),
    (".meta", "a TensorFlow graph", TENSORFLOW),
    (".index", "the index of a TensorFlow checkpoint", TENSORFLOW),
    (".npz", "NumPy arrays", "torch.save them as one dictionary of tensors"),
    (".npy", "a NumPy array", "torch.save all weights as one dictionary of tensors"),
    (".pdparams", "a PaddlePaddle checkpoint", "torch.save its arrays as a dictionary of tensors"),
    (".msgpack", "a Flax checkpoint", TENSORFLOW.replace("TensorFlow", "Flax")),
    (".mlmodel", "a Core ML network", TRAINED),
    (".engine", "a TensorRT engine", TRAINED),
    (".xml", "an OpenVINO network", TRAINED),
    (".param", "an ncnn network", TRAINED),
    (".json", "JSON text, which holds no weights", "give the checkpoint beside it"),
    (".zip", "a zip archive", UNPACK),
    (".tar", "a tar archive", UNPACK),
    (".tgz", "a gzip archive", UNPACK),
    (".gz", "a gzip archive", UNPACK),
    (".7z", "a 7z archive", UNPACK),
    (".rar", "a RAR archive", UNPACK),
)  # fmt: skip


def is_safetensors(path: Path) -> bool:
    """Tell a safetensors file by its header: the length of a JSON table, then the table."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(9)
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size


def foreign(path: Path) -> tuple[str, str] | None:
    """Say what a file is and how to get a checkpoint from it, if it is none of PyTorch.

    Returns:
        What it is, and what to do; None if it may be a checkpoint.

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
        return ENDINGS[0][1:]
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
    for ending, what, advice in ENDINGS:
        if path.name.lower().endswith(ending):
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
