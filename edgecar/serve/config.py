"""Reading a service's TOML file, and keeping what was changed while the service ran."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from edgecar.errors import SettingsError
from edgecar.files import atomic_write, table_from_toml
from edgecar.serve.settings import (
    PATTERNS_IN_WORDS,
    SHORTEST_TOKEN,
    Camera,
    Settings,
    Table,
)

TOKEN_VARIABLE = "EDGECAR_TOKEN"
STATE_VERSION = 1
OWNER_ONLY = 0o600  # the state holds the passwords of cameras

Location = Sequence[str | int]


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
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"token file {path} cannot be read; give a file with a token"
        ) from error
    if len(token) < SHORTEST_TOKEN:
        raise SettingsError(
            f"token in {path} has {len(token)} characters; use at least {SHORTEST_TOKEN}"
        )
    return token


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


def line_of(text: str, location: Location) -> int:
    r"""Return the line of a value, or of the table that lacks it, counted from 1.

    Args:
        text: Text of the TOML file.
        location: Keys from the outermost in; a number is a place in an array of tables.

    Example:
        >>> line_of('[server]\nport = 1\n[[camera]]\nname = "a"\n', ("camera", 0, "name"))
        4
    """
    best, best_depth = 1, 0
    table: list[str | int] = []
    places: dict[tuple[str | int, ...], int] = {}  # last place of each array of tables
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}", line)
        key = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if header:
            *outer, last = _keys(header[2])
            table = []
            for name in outer:
                table.append(name)
                if tuple(table) in places:
                    table.append(places[tuple(table)])
            table.append(last)
            if header[1] == "[[":
                place = places[tuple(table)] = places.get(tuple(table), -1) + 1
                table.append(place)
            found = table
        elif key:
            found = [*table, *_keys(key[1])]
        else:
            continue
        if len(found) > best_depth and list(location[: len(found)]) == found:
            best, best_depth = number, len(found)
    return best


def _keys(dotted: str) -> list[str]:
    return [part.strip().strip("\"'") for part in dotted.split(".")]


class _State(Table):
    """Contents of the state file; None stands for a camera that was removed."""

    version: Literal[1]
    cameras: dict[str, Camera | None]

    @model_validator(mode="after")
    def _names_fit(self) -> "_State":
        wrong = [name for name, camera in self.cameras.items() if camera and camera.name != name]
        if wrong:
            raise ValueError(f"camera {wrong[0]!r}: name is another; correct it")
        return self


class StateFile:
    """Cameras as callers changed them. They override the cameras of the service's file.

    Args:
        path: JSON file that only its owner can read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed: dict[str, Camera | None] = {}

    def load(self, configured: Mapping[str, Camera]) -> dict[str, Camera]:
        """Return the cameras to run: those of the service's file, with the changes on top.

        Raises:
            SettingsError: The state is damaged or has another version.
        """
        try:
            state = _State.model_validate(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return dict(configured)
        except (OSError, ValueError, RecursionError) as error:
            wrong = mistakes_in(error.errors()) if isinstance(error, ValidationError) else error
            raise SettingsError(
                f"{self._path} cannot be read ({wrong}); repair it, or move it away to start from "
                "the service's file"
            ) from error
        self._changed = state.cameras
        cameras = {**configured, **self._changed}
        return {name: camera for name, camera in cameras.items() if camera is not None}

    def note(self, name: str, camera: Camera | None) -> None:
        """Keep a camera as it is now; None for one that was removed.

        Raises:
            SettingsError: The file cannot be written and stays as it was.
        """
        changed = {**self._changed, name: camera}
        state = _State(version=STATE_VERSION, cameras=changed)
        try:
            with atomic_write(self._path, OWNER_ONLY) as temporary:
                temporary.write_text(state.model_dump_json(indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{self._path} cannot be written ({error.strerror}), so the change would be lost "
                "with a restart and was not made; check the disk and its permissions"
            ) from error
        self._changed = changed
