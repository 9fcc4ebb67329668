"""Checkpoint files to their content, without running anything that they hold."""

import re
import threading
import warnings
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
from edgecar.zoo.formats import foreign, is_safetensors

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


class Inert:
    """Stands for every class that is not loaded: becomes a dictionary of what was stored.

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
    """Read what a checkpoint holds: tensors, arrays, numbers, text, and dictionaries of them.

    Args:
        path: A file in the format of safetensors or ``torch.save``, told by its content.

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
    """Every dictionary in the content of a checkpoint, outer ones first, with the keys to it."""
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
    """The function or class that torch refused; empty if it refused something else."""
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
