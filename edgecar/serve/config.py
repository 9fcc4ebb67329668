"""A service's TOML file, checked, with the line of each mistake."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from edgecar.errors import SettingsError
from edgecar.files import table_from_toml
from edgecar.media.sources import source_from
from edgecar.serve.settings import IN_WORDS, Server, Settings

TOKEN_VARIABLE = "EDGECAR_TOKEN"

Location = Sequence[str | int]


def load_settings(path: Path) -> Settings:
    """What a file says.

    ``EDGECAR_TOKEN`` of the environment takes the place of ``server.token``, so that it need not be
    in a file. Paths in the file are relative to its folder.

    Raises:
        SettingsError: It cannot be read, is no TOML, or a setting is not understood: each mistake
            with its line.
    """
    try:
        text, table = path.read_text(encoding="utf-8"), table_from_toml(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}); give a file") from error
    except ValueError as error:  # names line and column
        raise SettingsError(f"{path} is not TOML: {error}; correct it") from error
    if (token := os.environ.get(TOKEN_VARIABLE)) and isinstance(
        table.setdefault("server", {}), dict
    ):
        table["server"].pop("token_file", None)
        table["server"]["token"] = token
    try:
        settings = Settings.model_validate(table)
    except ValidationError as error:
        raise SettingsError(explained(error, path, text)) from error
    settings = _resolved(settings, path.parent.resolve())
    if settings.state.exists() and settings.state.samefile(path):
        raise SettingsError(f"state is {path} itself, which would be lost; give it another name")
    return _with_token(settings)


def with_address(settings: Settings, host: str | None, port: int | None) -> Settings:
    """The same at another address.

    Raises:
        SettingsError: The address is open to others and there is no token.
    """
    given = {"host": host, "port": port}
    changed = {name: value for name, value in given.items() if value is not None}
    try:
        server = Server.model_validate({**dict(settings.server), **changed})
    except ValidationError as error:
        raise SettingsError(reason(error.errors(include_url=False)[0])) from error
    return settings.model_copy(update={"server": server})


def explained(error: ValidationError, path: Path, text: str) -> str:
    """Every mistake on a line of its own: file, line, key and what is wrong."""
    lines = []
    for mistake in error.errors(include_url=False):
        number = line_of(text, mistake["loc"])
        lines.append(f"{path}:{number}: {key_name(mistake['loc'])}{reason(mistake)}")
    return "\n".join(lines)


def reason(mistake: Any) -> str:
    """What pydantic found, in a few words, without the value: it may be a secret."""
    if mistake["type"] == "extra_forbidden":
        return "no such setting; remove it or correct its name"
    if mistake["type"] == "missing":
        return "is missing; add it"
    if mistake["type"] == "string_pattern_mismatch":
        return IN_WORDS[mistake["ctx"]["pattern"]]
    return str(mistake["msg"]).removeprefix("Value error, ")


def key_name(location: Location) -> str:
    """``camera[1].record.folder`` with a colon; empty for the whole."""
    name = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return f"{name.lstrip('.')}: " if name else ""


def line_of(text: str, location: Location) -> int:
    r"""The line where a value stands, or the table that lacks it; counted from 1.

    Args:
        text: Of the TOML file.
        location: Keys from the outermost in; a number is a place in an array of tables.

    Example:
        >>> line_of('[server]\nport = 1\n[[camera]]\nname = "a"\n', ("camera", 0, "name"))
        4
    """
    best, best_depth = 1, 0
    seen: dict[str, int] = {}
    table: list[str | int] = []
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}", line)
        key = re.match(r"\s*([A-Za-z0-9_.\"'-]+)\s*=", line)
        if header:
            table = _table_path(header[2], header[1] == "[[", seen)
            place = table
        elif key:
            place = [*table, *_parts(key[1])]
        else:
            continue
        if len(place) > best_depth and list(location[: len(place)]) == place:
            best, best_depth = number, len(place)
    return best


def _table_path(name: str, is_array: bool, seen: dict[str, int]) -> list[str | int]:
    """Keys of a table's header, with its place where it, or a table around it, is in an array."""
    if is_array:
        seen[name] = seen.get(name, -1) + 1
    path: list[str | int] = []
    for depth, part in enumerate(_parts(name)):
        path.append(part)
        outer = ".".join(_parts(name)[: depth + 1])
        if outer in seen:
            path.append(seen[outer])
    return path


def _parts(name: str) -> list[str]:
    return [part.strip().strip("\"'") for part in name.split(".")]


def _resolved(settings: Settings, folder: Path) -> Settings:
    """The same with paths made absolute."""
    server = settings.server
    cameras = []
    for camera in settings.camera:
        if camera.is_file:
            path = folder / (source_from(camera.source).path or "")
            camera = camera.model_copy(update={"source": str(path)})
        if camera.record:
            record = camera.record.model_copy(update={"folder": folder / camera.record.folder})
            camera = camera.model_copy(update={"record": record})
        cameras.append(camera)
    server = server.model_copy(
        update={
            "folders": tuple(folder / each for each in server.folders),
            "token_file": server.token_file and folder / server.token_file,
        }
    )
    return settings.model_copy(
        update={"server": server, "state": folder / settings.state, "camera": tuple(cameras)}
    )


def _with_token(settings: Settings) -> Settings:
    path = settings.server.token_file
    if path is None:
        return settings
    try:
        token = path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"token file {path} cannot be read; give a file with a token"
        ) from error
    if len(token) < 16:
        raise SettingsError(f"token in {path} has {len(token)} characters; use at least 16")
    server = settings.server.model_copy(update={"token": SecretStr(token), "token_file": None})
    return settings.model_copy(update={"server": server})
