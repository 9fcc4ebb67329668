"""Boxes that plans are built for: `engines/targets/<box>.toml`."""

import re
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from edgecar.engines.gpu import Gpu
from edgecar.errors import SettingsError
from edgecar.files import shipped, table_from_toml
from edgecar.spec import Precision, Size

LibraryName = Literal["tensorrt", "tensorrt-rtx"]
LIBRARIES: tuple[LibraryName, ...] = get_args(LibraryName)

OWN_TILE: Size = (384, 656)
OWN_BATCH = 9  # tiles of a 1080p frame with a halo of 12 px: more are computed for nothing there
MULTIPROCESSORS_PER_TILE = 4


@dataclass(frozen=True)
class Target:
    """A box that plans are built for.

    Attributes:
        name: Name of the file.
        title: Name for people.
        matches: Words in the names of its GPU or board.
        library: TensorRT, or its edition for RTX cards.
        compute_capability: Such as ``8.7``; empty where one plan is for several.
        precisions: Precisions worth building, the one to prefer first.
        tile: ``(height, width)`` that an engine reads, halos included.
        batch: Tiles at a time.
        workspace_mib: Scratch memory that TensorRT may plan with.
        dla_cores: Deep learning accelerators beside the GPU.
        int8_tops: Published ceiling of dense INT8 arithmetic, 10¹² operations a second; 0: unknown.
        fp16_tflops: The same of dense FP16.
        memory_gb_s: Published memory bandwidth, 10⁹ bytes a second.
        source: Source of these figures.
    """

    name: str
    title: str
    matches: tuple[str, ...]
    library: LibraryName
    compute_capability: str
    precisions: tuple[Precision, ...]
    tile: Size
    batch: int
    workspace_mib: int
    dla_cores: int
    int8_tops: float
    fp16_tflops: float
    memory_gb_s: float
    source: str


@cache
def all_targets() -> dict[str, Target]:
    """Every target that ships, by name."""
    files = sorted(shipped("engines", "targets").glob("*.toml"))
    return {path.stem: target_from_toml(path) for path in files}


def target_named(name: str) -> Target:
    """A target that ships, or a file of the user's.

    Raises:
        SettingsError: There is neither, or the file is not understood.
    """
    if name.endswith(".toml"):
        return target_from_toml(Path(name))
    if name not in all_targets():
        raise SettingsError(
            f"no target is called {name!r}; choose auto, {', '.join(all_targets())}, or a .toml "
            "file like those in engines/targets"
        )
    return all_targets()[name]


def target_of(gpu: Gpu) -> Target | None:
    """The target that a GPU or its board is named after; None if there is none.

    The longest match decides, of whole words: an ``L40`` is no ``L4``.
    """
    names = f"{gpu.name} / {gpu.board}"
    found = [
        (len(match), target)
        for target in all_targets().values()
        for match in target.matches
        if re.search(rf"\b{re.escape(match)}\b", names)
        and target.compute_capability in ("", gpu.compute_capability)
    ]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def target_from_toml(path: Path) -> Target:
    """A target from its file.

    Raises:
        SettingsError: It is no TOML, or a key is missing, unknown or of another type.
    """
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read target {path}: {error}") from error
    known = {field.name: field.type for field in fields(Target) if field.name != "name"}
    for key in sorted(set(table) ^ set(known)):
        what = "unknown key" if key in table else "missing key"
        raise SettingsError(f"{path}: {what} {key!r}; the keys are {', '.join(known)}")
    values = {key: _checked(path, key, known[key], table[key]) for key in known}
    return Target(name=path.stem, **values)


def _checked(path: Path, key: str, kind: Any, value: Any) -> Any:
    fits = {
        "matches": _all_of(str, value),
        "precisions": _all_of(str, value) and set(value) <= set(get_args(Precision)),
        "tile": _all_of(int, value) and len(value) == 2 and min(value) > 0,
        "library": value in LIBRARIES,
    }
    if key not in fits:
        least = 1 if key in ("batch", "workspace_mib") else 0
        number = kind in (int, float)
        fits[key] = type(value) in (int, kind) and value >= least if number else type(value) is kind
    if not fits[key]:
        raise SettingsError(f"{path}: {key} is {value!r}, which it cannot be")
    return tuple(value) if isinstance(value, list) else value


def _all_of(kind: type, value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(entry) is kind for entry in value)


def own_target(gpu: Gpu) -> Target:
    """A target for a GPU that none ships for, from what its driver says."""
    name = "-".join(re.findall(r"[a-z0-9]+", gpu.name.lower()))
    return Target(
        name=name,
        title=gpu.name,
        matches=(gpu.name,),
        library="tensorrt",
        compute_capability=gpu.compute_capability,
        precisions=("fp16", "int8", "fp32"),
        tile=OWN_TILE,
        batch=min(OWN_BATCH, max(1, gpu.multiprocessors // MULTIPROCESSORS_PER_TILE)),
        workspace_mib=max(256, gpu.memory_mib // 16),
        dla_cores=0,
        int8_tops=0,
        fp16_tflops=0,
        memory_gb_s=0,
        source="-",
    )
