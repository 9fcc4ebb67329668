"""Changes made while the service ran, kept for the next time."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edgecar.errors import SettingsError
from edgecar.files import atomic_write
from edgecar.serve.config import key_name, reason
from edgecar.serve.settings import Camera

VERSION = 1
OWNER_ONLY = 0o600  # it holds the passwords of cameras

_log = logging.getLogger(__name__)


class StateFile:
    """Cameras as they were changed by callers; it has the last word over the service's file.

    A camera of the file that nobody changed follows the file.

    Args:
        path: JSON, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed: dict[str, Camera | None] = {}

    def load(self, configured: Mapping[str, Camera]) -> dict[str, Camera]:
        """The cameras to run.

        Args:
            configured: Those of the service's file.

        Raises:
            SettingsError: The state is damaged, or of another version.
        """
        self._changed = self._read()
        cameras = {**configured, **self._changed}
        return {name: camera for name, camera in cameras.items() if camera is not None}

    def note(self, name: str, camera: Camera | None) -> None:
        """Keep a camera as it is from now on; None for one that was removed.

        Raises:
            SettingsError: The file cannot be written; what it said before still stands.
        """
        changed = {**self._changed, name: camera}
        table = {
            "version": VERSION,
            "cameras": {n: c and c.model_dump(mode="json") for n, c in changed.items()},
        }
        try:
            with atomic_write(self._path, OWNER_ONLY) as temporary:
                temporary.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise SettingsError(
                f"{self._path} cannot be written ({error.strerror}), so the change would be lost "
                "with a restart and was not made; see to disk and rights"
            ) from error
        self._changed = changed

    def _read(self) -> dict[str, Camera | None]:
        try:
            table: Any = json.loads(self._path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise SettingsError(
                f"{self._path} cannot be read ({error}); repair it, or move it away to start from "
                "the service's file"
            ) from error
        if not isinstance(table, dict) or table.get("version") != VERSION:
            raise SettingsError(f"{self._path} is of another version; move it away")
        if not isinstance(table.get("cameras"), dict):
            raise SettingsError(f"{self._path} holds no cameras; repair it, or move it away")
        cameras: dict[str, Camera | None] = {}
        for name, camera in table["cameras"].items():
            try:
                cameras[name] = None if camera is None else Camera.model_validate(camera)
            except ValidationError as error:
                mistake = error.errors(include_url=False)[0]
                raise SettingsError(
                    f"{self._path}, camera {name}: {key_name(mistake['loc'])}{reason(mistake)}"
                ) from error
            if camera is not None and camera.get("name") != name:
                raise SettingsError(f"{self._path}, camera {name!r}: name is another; correct it")
        return cameras
