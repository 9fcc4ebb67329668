"""The eight figures at the top of `benchmarks/README.md`, each taken from the result files."""

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean, median

from benchmarks.run.page_tables import Named
from edgecar.bench.machine import machine_line
from edgecar.bench.results import Row
from edgecar.evaluate.tables import QUANTISERS, VIDEO_CODECS, gains, grouped, of_each_detector

NETWORK = "edgecar-s"
FULL_HD = (1080, 1920)


def _rows(results: Sequence[Named], kind: str) -> Iterator[Row]:
    return (row for _, result in results if result.kind == kind for row in result.rows)


def _bench(results: Sequence[Named], network: str, key: str) -> tuple[Row, str] | None:
    """The fastest luma row of a network at 1080p that has a figure, and the machine it ran on."""
    found = [
        (row, machine_line(result.machine))
        for _, result in results
        if result.kind == "bench"
        for row in result.rows
        if (row["network"], row["channels"], row["height"], row["width"]) == (network, 1, *FULL_HD)
        and row[key] is not None
    ]
    return max(found, key=lambda pair: pair[0]["fps"] or 0, default=None)


def cost(results: Sequence[Named]) -> str | None:
    """Arithmetic for a pixel and parameters, beside ARCNN."""
    ours, theirs = (_bench(results, name, "gmacs") for name in (NETWORK, "arcnn"))
    if ours is None or theirs is None:
        return None
    kmacs = [found[0]["gmacs"] * 1e6 / (FULL_HD[0] * FULL_HD[1]) for found in (ours, theirs)]
    return (
        f"{NETWORK}: **{kmacs[0]:.1f} kMAC/px**, {ours[0]['params']:,} parameters (ARCNN: "
        f"{kmacs[1]:.1f} kMAC/px, {theirs[0]['params']:,})"
    )


def cpu_speed(results: Sequence[Named]) -> str | None:
    """Frames a second of dense 1080p on a CPU."""
    ours, theirs = (_bench(results, name, "fps") for name in (NETWORK, "arcnn"))
    if ours is None or theirs is None:
        return None
    return (
        f"{NETWORK} at 1080p, every pixel computed: **{ours[0]['fps']:.1f} frames/s** in "
        f"{ours[0]['precision']} on {ours[1]} (ARCNN: {theirs[0]['fps']:.1f})"
    )


def gpu_speed(results: Sequence[Named]) -> str | None:
    """Frames a second of dense 1080p on a GPU."""
    own = [
        row
        for row in _rows(results, "gpu")
        if (row["network"], row["height"], row["width"]) == (NETWORK, *FULL_HD)
    ]
    if not own:
        return None
    best = max(own, key=lambda row: row["fps"])
    return (
        f"{NETWORK} at 1080p, every pixel computed: **{best['fps']:.0f} frames/s** in "
        f"{best['precision']} on {best['gpu']} ({best['provider']})"
    )


def jpeg_gain(results: Sequence[Named]) -> str | None:
    """Gain on Classic5 at JPEG quality 10."""
    found = {
        row["network"]: row["psnr_out"] - row["psnr_in"]
        for row in _rows(results, "jpeg")
        if (row["set"].lower(), row["quality"]) == ("classic5", 10)
    }
    own = [f"{name} **{db:+.2f} dB**" for name, db in found.items() if name.startswith("edgecar")]
    return f"Luma PSNR on Classic5 at JPEG quality 10: {', '.join(own)}" if own else None


def video_gain(results: Sequence[Named]) -> str | None:
    """Mean gain over coded clips, and the input that fares worst."""
    found = []
    for codec, title in VIDEO_CODECS.items():
        studies = [
            gain
            for _, result in results
            if result.kind == "video"
            for gain in gains(row for row in result.rows if row["codec"] == codec)
            if gain.network == NETWORK
        ]
        if studies:
            gain = max(studies, key=lambda each: each.inputs)
            clip, quantiser = gain.lowest_at
            found.append(
                f"{title} **{gain.mean:+.2f} dB** ({gain.inputs} inputs; lowest "
                f"{gain.lowest:+.2f} on {clip}, {QUANTISERS[codec]} {quantiser})"
            )
    return f"Luma PSNR of {NETWORK} over coded clips: {'; '.join(found)}" if found else None


def reuse(results: Sequence[Named]) -> str | None:
    """Speed with reuse over dense restoring on coded cameras."""
    own = [row["reuse_to_dense"] for row in _rows(results, "realtime") if row["network"] == NETWORK]
    if not own:
        return None
    return (
        f"Computing only what changed, the same bytes: **{median(own):.2f} times** dense frames a "
        f"second (median of {len(own)} coded clips; {min(own):.2f} to {max(own):.2f})"
    )


def service(results: Sequence[Named]) -> str | None:
    """Restored frames a second of the service under the load of several cameras."""
    own = [row for row in _rows(results, "service") if row["case"] == "load"]
    if not own:
        return None
    best = max(own, key=lambda row: row["restored_fps"])
    return (
        f"{best['cameras']} cameras of 720p, {best['read_fps']:.0f} frames/s decoded: "
        f"**{best['restored_fps']:.1f} frames/s restored** by {best['network']}; frames are "
        f"{best['age_p50_ms']:.0f} ms old at the output (median)"
    )


def detection(results: Sequence[Named]) -> str | None:
    """Changes of AP50 by our networks whose interval leaves out 0, in both directions."""
    rows = list(_rows(results, "detection"))
    own = [row for row in of_each_detector(rows) if row["network"].startswith("edgecar")]
    if not own:
        return None
    named = []
    for row in own:
        made_for = " by weights for detectors" if "detect" in row["network"] else ""
        named.append({**row, "name": VIDEO_CODECS.get(row["codec"], "JPEG") + made_for})
    parts = []
    for name, each in grouped(named, "name").items():
        better = sum(row["over_coded50_interval"][0] > 0 for row in each)
        worse = sum(row["over_coded50_interval"][1] < 0 for row in each)
        mean = 100 * fmean(row["over_coded50"] for row in each)
        parts.append(f"{name} **{better} better, {worse} worse** of {len(each)} (mean {mean:+.1f})")
    return f"AP50 over coded pictures, by 95 % intervals: {'; '.join(parts)}"


FIGURES: Sequence[tuple[str, str, Callable[[Sequence[Named]], str | None]]] = (
    ("Cost", "complexity", cost),
    ("CPU", "speed", cpu_speed),
    ("GPU", "gpu", gpu_speed),
    ("JPEG", "jpeg", jpeg_gain),
    ("Video", "video", video_gain),
    ("Reuse", "realtime", reuse),
    ("Service", "service", service),
    ("Detectors", "detection", detection),
)
"""Name, page with the whole table, and text of each figure."""
