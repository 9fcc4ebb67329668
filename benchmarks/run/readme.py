"""Write the table of networks in README.md from measured results.

python -m benchmarks.run.readme [--check]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from edgecar.files import atomic_write
from edgecar.zoo.shipped import WORST, codec_of, network_table

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- networks: written by make tables -->\n", "<!-- end of networks -->"
NONE = "–"
CLASSIC = "classic5 q10"


def main() -> None:
    """Write the table, or fail with ``--check`` where README.md has another one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="Write nothing; fail on a difference.")
    check = parser.parse_args().check
    before = README.read_text(encoding="utf-8")
    after = with_table(before, network_lines())
    if check and after != before:
        sys.exit("README.md: its table of networks is not that of the results; run: make tables")
    if not check:
        with atomic_write(README) as path:
            path.write_text(after, encoding="utf-8")


def with_table(text: str, lines: list[str]) -> str:
    """Return a page with the lines between its two markers."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return "\n".join([head + BEGIN, *lines, "", END + tail])


def network_lines() -> list[str]:
    """Return the table of networks and the sentence that says where its figures come from."""
    cpu, gpu = (json.loads((RESULTS / f"{name}.json").read_text()) for name in FILES)
    coded = json.loads((RESULTS / "jpeg-classic5.json").read_text())["rows"]
    (jpeg,) = {round(row["psnr_in"], 2) for row in coded if row["quality"] == 10}
    table = [row_of(network, speeds(cpu), speeds(gpu)) for network in network_table()]
    heads = ("Network", "kMAC/px", "CPU, fps", "GPU, fps", "JPEG, dB", "H.264, dB")
    machine = gpu["machine"]["gpus"][0].partition(" (")[0]
    return [
        "| " + " | ".join(heads) + " |",
        "|---|" + "--:|" * (len(heads) - 1),
        *("| " + " | ".join(row) + " |" for row in table),
        "",
        f"fps: whole 1080p frames a second, luma, on {cpu['machine']['cores']} cores of an "
        f"{cpu['machine']['cpu']} with AVX-512 ({cpu['rows'][0]['precision']}, OpenVINO) and on an "
        f"{machine} ({gpu['rows'][0]['precision']}, ONNX Runtime with tiles). JPEG: luma PSNR on "
        f"Classic5 at quality 10, where JPEG itself has {jpeg:.2f}. H.264: mean gain in luma PSNR "
        "over the coded test clips. –: not measured, or no such weights.",
    ]


FILES = ("cpu-1080p", "gpu-h100")


def speeds(results: dict[str, Any]) -> dict[str, float]:
    """Return frames per second at 1080p by network."""
    rows = [row for row in results["rows"] if row["height"] == 1080]
    return {row["network"]: row["fps"] for row in rows if row["precision"] != "fp32"}


def row_of(network: dict[str, Any], cpu: dict[str, float], gpu: dict[str, float]) -> list[str]:
    """Return the cells of one network."""
    weights = {codec_of(entry): entry for entry in network["weights"] if not entry["config"]}
    psnr = weights.get("jpeg", {}).get("psnr", {}).get(CLASSIC)
    gains = weights.get("h264", {}).get("gain_db", {})
    gained = [gain for name, gain in gains.items() if name != WORST]
    name = network["name"]
    return [
        name,
        f"{network['kmacs_per_px']:.1f}",
        figure(cpu.get(name)),
        figure(gpu.get(name)),
        f"{psnr:.2f}" if psnr else NONE,
        f"{sum(gained) / len(gained):+.2f}" if gained else NONE,
    ]


def figure(value: float | None) -> str:
    """Return two significant digits of a speed."""
    if value is None:
        return NONE
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


if __name__ == "__main__":
    main()
