"""``edgecar serve``: cameras restored without end, with an HTTP API and a page."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgecar.cli.output import Json, print_json, stderr, stdout
from edgecar.errors import SettingsError
from edgecar.files import shipped

if TYPE_CHECKING:
    from edgecar.serve.settings import Settings

WRONG_USAGE = 2


def command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="Settings file of the service (TOML).")
    ] = None,
    example: Annotated[
        bool, typer.Option("--example", help="Print an example settings file and exit.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check the settings file, print its cameras and exit.")
    ] = False,
    host: Annotated[
        str | None, typer.Option(help="Address to listen at. Default: the one in CONFIG.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="Port to listen at; 0 takes a free one. Default: the one in CONFIG.",
        ),
    ] = None,
    log_json: Annotated[
        bool, typer.Option("--log-json", help="Log one JSON object per line.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Restore the cameras of CONFIG until SIGTERM, and answer at http://127.0.0.1:8321/.

    Cameras can be added, changed and removed while others run, on the page or by the REST API
    (/api/openapi.json). Changes are kept for the next start. EDGECAR_TOKEN is the token that
    callers must send if the server is open to other machines.

    Example: edgecar serve cameras.toml
    """
    if example:
        sys.stdout.write((shipped("engines", "service") / "cameras.toml").read_text("utf-8"))
        return
    if config is None:
        stderr.print("edgecar: no CONFIG; write one with: edgecar serve --example > cameras.toml")
        raise typer.Exit(WRONG_USAGE)
    try:
        from edgecar.serve.config import load_settings
        from edgecar.serve.run import listening_socket, serve, start_logging
        from edgecar.serve.service import Service
    except ImportError as error:
        raise SettingsError(
            f"serve needs {error.name}, which is not installed; run: pip install 'edgecar[serve]'"
        ) from error
    settings = load_settings(config, host, port)
    if check:
        _print_cameras(settings, as_json)
        return
    redactor = start_logging(as_json=log_json)
    listening = listening_socket(settings.server.host, settings.server.port)
    service = Service(settings, redactor=redactor)
    shown_host, shown_port = listening.getsockname()[:2]
    where = f"[{shown_host}]" if ":" in shown_host else shown_host

    def started() -> None:
        if as_json:
            print_json({"url": f"http://{where}:{shown_port}/", "cameras": service.names()})
            sys.stdout.flush()
            return
        stderr.print(f"serving   {len(service.names())} camera(s)")
        stderr.print(f"next      open http://{where}:{shown_port}/", style="dim")

    serve(service, listening, started)


def _print_cameras(settings: "Settings", as_json: bool) -> None:
    cameras = {camera.name: " → ".join(camera.networks) for camera in settings.camera}
    if as_json:
        print_json({"cameras": cameras})
        return
    for name, networks in cameras.items():
        stdout.print(f"{name:<10}{networks}")
    stdout.print(f"the file is right; {len(cameras)} camera(s)")
