"""What callers of a service may ask for: no file outside its folders."""

from pathlib import Path

from edgecar.artifact import is_artifact_path
from edgecar.errors import SettingsError
from edgecar.serve.settings import PASS, Camera, Server


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
    known = _paths(before) if before else {}
    for what, path in _paths(camera).items():
        if known.get(what) != path and not _inside(path, server.folders):
            raise SettingsError(
                f"{what} {path} is in none of the server's folders "
                f"({', '.join(map(str, server.folders)) or 'it has none'}); "
                "add its folder to server.folders in the service's file"
            )


def _paths(camera: Camera) -> dict[str, Path]:
    """Files that a camera names, by what they are."""
    paths = {}
    if camera.is_file:
        paths["source"] = Path(camera.source.removeprefix("file://")).expanduser()
    if camera.record:
        paths["recording folder"] = camera.record.folder
    for network in camera.networks:
        if network != PASS and is_artifact_path(network):
            paths[f"network {network}"] = Path(network)
    return paths


def _inside(path: Path, folders: tuple[Path, ...]) -> bool:
    try:
        real = path.resolve()
        return any(real.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # a zero byte, or links in a circle
        return False
