"""``edgecar models``: the networks, what they cost and what their weights achieve."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from edgecar.cli.output import Json, next_step, print_json, stdout


def command(as_json: Json = False) -> None:
    """List the networks of the zoo with their cost, halo, weights and measured quality.

    Example: edgecar models
    """
    from edgecar.zoo.shipped import network_table

    networks = network_table()
    if as_json:
        print_json(networks)
        return
    table = Table(
        box=SIMPLE_HEAD,
        caption="Halo: derived from the graph. PSNR: luma, Classic5 at JPEG quality 10, measured.",
    )
    costs = ("Params", "kMAC/px", "Halo px")
    for name in ("Network", "Channels", *costs, "Context", "Weights", "PSNR"):
        table.add_column(name, no_wrap=True, justify="right" if name in costs else "left")
    for network in networks:
        table.add_row(*_cells(network))
    stdout.print(table)
    next_step("edgecar run INPUT -o OUTPUT --network edgecar-s")


def _cells(network: dict[str, Any]) -> list[str]:
    weights = network["weights"]
    quality = [f"{entry['psnr']['classic5 q10']:.2f}" for entry in weights]
    return [
        network["name"],
        "/".join(str(count) for count in network["channels"]),
        f"{network['params']:,}",
        f"{network['kmacs_per_px']:.1f}",
        str(network["halo_px"]),
        network["context"],
        ", ".join(entry["for"] for entry in weights) or "–",
        ", ".join(quality) or "–",
    ]
