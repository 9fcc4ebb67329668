"""What callers of a service may ask for: no file outside its folders."""

import re
from pathlib import Path

from edgecar.artifact import is_artifact_path
from edgecar.errors import SettingsError
from edgecar.media.sources import source_from
from edgecar.serve.settings import NAME, Camera, Server


def check_allowed(camera: Camera, server: Server, before: Camera | None = None) -> None:
    """Refuse paths outside the server's folders.

    The service's own file may name any path: whoever writes it has the machine. What it named is
    not asked about again when something else of the camera changes.

    Args:
        camera: As a caller wants it.
        server: Whose folders count.
        before: As it is, where it is changed.

    Raises:
        SettingsError: A path lies outside.
    """
    known = _paths(before) if before else []
    for what, path in _paths(camera):
        if (what, path) not in known and not _inside(path, server.folders):
            raise SettingsError(
                f"{what} {path} is in none of the server's folders "
                f"({', '.join(map(str, server.folders)) or 'it has none'}); "
                "add its folder to server.folders in the service's file"
            )


def _paths(camera: Camera) -> list[tuple[str, Path]]:
    """Files that a camera names, with what they are."""
    paths = []
    source = source_from(camera.source)  # read as it will be when it is opened
    if source.path is not None:
        paths.append(("source", source.path))
    if camera.record:
        # The camera's own folder in it may be a link.
        paths.append(("recording folder", camera.record.folder / camera.name))
    for network in camera.networks:
        # What is no plain name may lead out of the folder of shipped weights.
        if not re.fullmatch(NAME, network) or is_artifact_path(network):
            paths.append(("network", Path(network)))
    return paths


def _inside(path: Path, folders: tuple[Path, ...]) -> bool:
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        return False
