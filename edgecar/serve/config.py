"""Reading a service's TOML file, and keeping what was changed while the service ran."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from edgecar.errors import SettingsError
from edgecar.files import atomic_write, table_from_toml
from edgecar.serve.settings import PATTERNS_IN_WORDS, CameraSettings, Settings, Table

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOKEN_VARIABLE = "EDGECAR_TOKEN"
OWNER_ONLY = 0o600  # the state holds the passwords of cameras


def load_settings(path: Path, host: str | None = None, port: int | None = None) -> Settings:
    """Read and check a service's file; host and port override those in it.

    The variable ``EDGECAR_TOKEN`` overrides ``server.token``, so that no file needs to hold it.
    Relative paths in the file begin at its folder.

    Raises:
        SettingsError: The file cannot be read or is wrong; each mistake is named with its line.
    """
    folder = path.parent.resolve()
    try:
        text, table = path.read_text(encoding="utf-8"), table_from_toml(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); give a file") from error
    except ValueError as error:  # names line and column
        raise SettingsError(f"{path} is not TOML: {error}; correct it") from error
    server = table.setdefault("server", {})
    if isinstance(server, dict):
        given = {"host": host, "port": port}
        server.update({key: value for key, value in given.items() if value is not None})
        if token := os.environ.get(TOKEN_VARIABLE):
            server.pop("token_file", None)
            server["token"] = token
        elif isinstance(server.get("token_file"), str) and "token" not in server:
            server["token"] = _token_in(folder / server.pop("token_file"))
    try:
        settings = Settings.model_validate(table, context={"folder": folder})
    except ValidationError as error:
        lines = [f"{path}:{line_of(text, m['loc'])}: {in_words(m)}" for m in error.errors()]
        raise SettingsError("\n".join(lines)) from error
    if settings.state.exists() and settings.state.samefile(path):
        raise SettingsError(f"state is {path} itself, which would be lost; give it another name")
    return settings


def _token_in(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"token file {path} cannot be read; give a file with a token"
        ) from error


def mistakes_in(errors: Sequence[Any]) -> str:
    """Return all mistakes that pydantic found, in one line."""
    return "; ".join(map(in_words, errors))


def in_words(mistake: Any) -> str:
    """Return the key and the reason of one mistake, without the value: it may be a secret."""
    key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in mistake["loc"]).lstrip(".")
    reason = str(mistake["msg"]).removeprefix("Value error, ")
    if mistake["type"] == "extra_forbidden":
        reason = "no such setting; remove it or correct its name"
    elif mistake["type"] == "missing":
        reason = "is missing; add it"
    elif mistake["type"] == "string_pattern_mismatch":
        reason = PATTERNS_IN_WORDS[mistake["ctx"]["pattern"]]
    return f"{key}: {reason}" if key else reason


def line_of(text: str, location: Sequence[str | int]) -> int:
    r"""Return the line of a value, or of the table that lacks it, counted from 1.

    It is the first line up to which the text, read as TOML, holds the value.

    Args:
        text: Text of the TOML file.
        location: Keys from the outermost in; a number is a place in an array of tables.

    Example:
        >>> line_of('[server]\nport = 1\n[[camera]]\nname = "a"\n', ("camera", 0, "name"))
        4
    """
    best, best_depth = 1, 0
    lines = text.splitlines(keepends=True)
    for number in range(1, len(lines) + 1):
        with suppress(tomllib.TOMLDecodeError):  # in the middle of a value
            depth = _depth(tomllib.loads("".join(lines[:number])), location)
            if depth > best_depth:
                best, best_depth = number, depth
    return best


def _depth(value: Any, location: Sequence[str | int]) -> int:
    """Return how many keys of a location, from the outermost in, lead to a value."""
    for depth, key in enumerate(location):
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            return depth
    return len(location)


class _State(Table):
    """Contents of the state file; None stands for a camera that was removed."""

    version: Literal[1]
    cameras: dict[str, CameraSettings | None]

    @model_validator(mode="after")
    def _names_fit(self) -> "_State":
        wrong = [name for name, camera in self.cameras.items() if camera and camera.name != name]
        if wrong:
            raise ValueError(f"camera {wrong[0]!r}: name is another; correct it")
        return self


class StateFile:
    """Cameras as callers changed them, in a JSON file that only its owner can read.

    They override the cameras of the service's file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed: dict[str, CameraSettings | None] = {}

    def load(self, configured: Mapping[str, CameraSettings]) -> dict[str, CameraSettings]:
        """Return the cameras to run: those of the service's file, with the changes on top.

        Raises:
            SettingsError: The state is damaged or has another version.
        """
        try:
            self._changed = _State.model_validate_json(self._path.read_bytes()).cameras
        except FileNotFoundError:
            pass
        except (OSError, ValidationError) as error:
            wrong = mistakes_in(error.errors()) if isinstance(error, ValidationError) else error
            raise SettingsError(
                f"{self._path} cannot be read ({wrong}); repair it, or move it away to start from "
                "the service's file"
            ) from error
        cameras = {**configured, **self._changed}
        return {name: camera for name, camera in cameras.items() if camera is not None}

    def note(self, name: str, camera: CameraSettings | None) -> None:
        """Keep a camera as it is now; None for one that was removed.

        Raises:
            SettingsError: The file cannot be written and stays as it was.
        """
        changed = {**self._changed, name: camera}
        text = _State(version=1, cameras=changed).model_dump_json(indent=2) + "\n"
        try:
            with atomic_write(self._path, OWNER_ONLY) as temporary:
                temporary.write_text(text, encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{self._path} cannot be written ({error.strerror}), so the change would be lost "
                "with a restart and was not made; check the disk and its permissions"
            ) from error
        self._changed = changed
