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
    """A box that plans are built for; the keys of its file."""

    name: str  # of the file
    title: str  # for people
    matches: tuple[str, ...]  # words in the names of its GPU or board
    library: LibraryName  # TensorRT, or its edition for RTX cards
    compute_capability: str  # such as 8.7; empty where one plan is for several
    precisions: tuple[Precision, ...]  # worth building, the one to prefer first
    tile: Size  # (height, width) that an engine reads, halos included
    batch: int  # tiles at a time
    workspace_mib: int  # scratch memory that TensorRT may plan with
    dla_cores: int = 0  # deep learning accelerators beside the GPU
    # Published ceilings of dense arithmetic, 10¹² operations a second, and of memory, 10⁹ bytes a
    # second; 0: unknown.
    int8_tops: float = 0
    fp16_tflops: float = 0
    memory_gb_s: float = 0
    source: str = "-"  # of these figures


@cache
def all_targets() -> dict[str, Target]:
    """Return every target that ships, by name."""
    files = sorted(shipped("engines", "targets").glob("*.toml"))
    return {path.stem: _target_from_toml(path) for path in files}


def target_named(name: str) -> Target:
    """Return a target that ships, or that of a .toml file; any other name is a `SettingsError`."""
    if name.endswith(".toml"):
        return _target_from_toml(Path(name))
    if name not in all_targets():
        raise SettingsError(
            f"no target is called {name!r}; choose auto, {', '.join(all_targets())}, or a .toml "
            "file like those in engines/targets"
        )
    return all_targets()[name]


def target_of(gpu: Gpu) -> Target | None:
    """Return the target that a GPU or its board is named after; None if there is none.

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


def own_target(gpu: Gpu) -> Target:
    """Return a target for a GPU that none ships for, from what its driver says."""
    return Target(
        name="-".join(re.findall(r"[a-z0-9]+", gpu.name.lower())),
        title=gpu.name,
        matches=(gpu.name,),
        library="tensorrt",
        compute_capability=gpu.compute_capability,
        precisions=("fp16", "int8", "fp32"),
        tile=OWN_TILE,
        batch=min(OWN_BATCH, max(1, gpu.multiprocessors // MULTIPROCESSORS_PER_TILE)),
        workspace_mib=max(256, gpu.memory_mib // 16),
    )


def _target_from_toml(path: Path) -> Target:
    """Return the target of a file; one that is not understood is a `SettingsError`."""
    try:
        table = table_from_toml(path)
    except (OSError, ValueError) as error:  # not TOML, or not even text
        raise SettingsError(f"cannot read target {path}: {error}") from error
    known = {field.name: field.type for field in fields(Target) if field.name != "name"}
    for key in sorted(set(table) ^ set(known)):
        what = "unknown key" if key in table else "missing key"
        raise SettingsError(f"{path}: {what} {key!r}; the keys are {', '.join(known)}")
    for key, value in table.items():
        if not _fits(key, known[key], value):
            raise SettingsError(f"{path}: {key} is {value!r}, which it cannot be")
    values: dict[str, Any] = {
        key: tuple(v) if isinstance(v, list) else v for key, v in table.items()
    }
    return Target(name=path.stem, **values)


def _fits(key: str, kind: Any, value: Any) -> bool:
    """Return True if a value is of the type, and in the range, of a field."""
    if kind in (int, float):
        least = 1 if key in ("batch", "workspace_mib") else 0
        return type(value) in (int, kind) and value >= least
    if kind is str:
        return type(value) is str
    if key == "library":
        return value in LIBRARIES
    if not isinstance(value, list) or not value:
        return False
    if key == "tile":
        return len(value) == 2 and all(type(side) is int and side > 0 for side in value)
    allowed = get_args(Precision) if key == "precisions" else value
    return all(type(entry) is str and entry in allowed for entry in value)
