"""Shipped folders, fingerprints and files that appear whole or not at all."""

import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # the same before it was in the standard library

PACKAGE = Path(__file__).parent
WEIGHTS = PACKAGE / "zoo" / "weights"
BLOCK_BYTES = 1 << 20


def shipped(*parts: str) -> Path:
    """A folder of data that ships with edgecar: in the wheel's `edgecar/data`, or in a checkout.

    Example:
        >>> shipped("export", "recipes").name
        'recipes'
    """
    inside = PACKAGE.joinpath("data", *parts)
    return inside if inside.exists() else PACKAGE.parent.joinpath(*parts)


def cache_folder(*parts: str) -> Path:
    """A folder for what can be made again: under ``EDGECAR_CACHE``, else the user's cache.

    Example:
        >>> cache_folder("coded").name
        'coded'
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edgecar"
    return Path(os.environ.get("EDGECAR_CACHE") or default).joinpath(*parts)


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def table_from_toml(path: Path) -> dict[str, Any]:
    """What a TOML file says.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not TOML, or not UTF-8.
    """
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return table


@contextmanager
def written_whole(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its name when the block succeeds.

    On any failure, an interrupt included, the temporary file is removed and ``path`` is untouched.
    The suffix is kept, so that libraries which choose a format by it work.

    Args:
        path: Missing folders are made.
        mode: Who may read and write it, less what the process's mask takes away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _new_file(path, mode)
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _new_file(path: Path, mode: int) -> Path:
    """Make an empty file of a new name beside ``path``.

    The system takes the mask off the mode. To read the mask a process must set it, and files that
    other threads make in that moment would get rights that nobody meant.
    """
    while True:
        temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
        with suppress(FileExistsError):
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
            return temporary
