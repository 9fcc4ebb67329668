"""Frames a second on coded cameras: ``python -m benchmarks.run.realtime --data DIR --save FILE``.

Each clip is coded with x264, or taken as its camera coded it, and every contender goes through the
same file in turn, round after round, in one process, so that what else the machine does hits all
alike. Reuse has gone through it before for as long as a camera's first minute: engines compile the
shapes that keep coming back.

- ``reuse``, ``dense``: ``edgecar run -o null``, decoding included, with and without reuse;
- ``bare``: the engine alone on whole frames that lie ready as floats, nothing decoded;
- ``decode``: edgecar's reader alone;
- ``spp3``, ``spp4``, ``fspp4``: the ``ffmpeg`` command with its post-filters, decoding included.

Before, both ways of edgecar restore every frame, and the run fails if a byte differs. Rows that the
file has already are kept: what was broken off goes on.
"""

import tempfile
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import fmean, median
from typing import Annotated, Any

import numpy as np
import typer

from benchmarks.run.contenders import Case, Filters, Ways, contenders_for, filters_here
from benchmarks.run.realtime_suite import RealtimeClip, find_suite, load_suite
from benchmarks.run.study import own_command, run_study
from edgecar.artifact import Artifact, find_artifact, read_artifact
from edgecar.bench.results import Row, new_results, resumed, write_results
from edgecar.engines.base import Codes
from edgecar.engines.select import usable_cores
from edgecar.errors import ReuseError
from edgecar.media.reader import open_reader
from edgecar.media.video_codec import CodedClip, VideoCoding, video_coded
from edgecar.runtime.change_map import changed_cells
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.tune import median_ratio, timed_rounds
from edgecar.runtime.tuning import Tuning

TILE_PX = 64
WARM_UP_FRAMES = 1000
OWN_CODING = "as it is"  # a camera's own stream, not coded again

CaseKey = tuple[object, ...]
"""Network, clip, preset, CRF, B-frames and GOP."""


NAMES = ("reuse", "dense", "bare", "decode", "spp3", "spp4", "fspp4")
"""Contenders in a row; a filter that is not installed has None."""


def measure(
    data: Annotated[Path, typer.Option(help="The folder that the suite's files are relative to.")],
    save: Annotated[Path, typer.Option(help="Result file; what it has already is kept.")],
    suite: Annotated[str, typer.Option(help="A shipped suite, or a TOML file.")] = "realtime",
    only: Annotated[str | None, typer.Option(help="Only clips whose name contains this.")] = None,
    grid: Annotated[str | None, typer.Option(help="Codings of all clips: a grid's name.")] = None,
    network: Annotated[str, typer.Option(help="A shipped network, or an artifact.")] = "edgecar-s",
    frames: Annotated[int | None, typer.Option(min=2, help="Frames of a clip, at most.")] = None,
    seconds_per_case: Annotated[float, typer.Option(min=0, help="At least three rounds.")] = 15,
    warm_up_frames: Annotated[
        int, typer.Option(min=0, help="Frames that reuse restores before.")
    ] = WARM_UP_FRAMES,
) -> None:
    """Measure and save."""
    clips = load_suite(find_suite(suite), data, only=only, grid=grid, frames=frames)
    artifact = read_artifact(find_artifact(network, "h264"))
    rows, command = resumed(save, own_command("benchmarks.run.realtime"))
    done = {_key(row) for row in rows}
    for row in measured(clips, artifact, seconds_per_case, warm_up_frames, done):
        typer.echo(line(row))
        rows.append(row)
        write_results(save, new_results("realtime", rows, command))
    typer.echo(f"wrote     {save}; next: make tables")


def _key(row: Row) -> CaseKey:
    return row["network"], row["clip"], *(row[name] for name in named_coding(None))


def measured(
    clips: Sequence[RealtimeClip],
    artifact: Artifact,
    seconds: float,
    warm_up_frames: int,
    done: Set[CaseKey],
) -> Iterator[dict[str, Any]]:
    """A row for every coding of every clip, but for those done already."""
    filters = filters_here()
    with tempfile.TemporaryDirectory() as folder:
        for case in _cases(clips, artifact.metadata.model, Path(folder), done):
            # The defaults, whatever was tuned on this machine: figures are to be compared.
            with (
                Restorer(artifact, tuning=Tuning()) as reuse,
                Restorer(artifact, reuse=False, tuning=Tuning()) as dense,
            ):
                yield case_row(case, Ways(reuse, dense), filters, seconds, warm_up_frames)


def case_row(
    case: Case, ways: Ways, filters: Filters, seconds: float, warm_up_frames: int
) -> dict[str, Any]:
    """Measure one case."""
    difference = max_difference(case.path, ways)
    if difference:
        how = case.coding.options() if case.coding else OWN_CODING
        raise ReuseError(
            f"{case.clip}, {how}: outputs with reuse differ by up to "
            f"{difference} codes, need 0; run with --no-reuse, and report this with the clip"
        )
    contenders = contenders_for(case, ways, filters)
    timed_rounds(contenders, 0, 1)  # shapes of whole frames are compiled, files cached
    for _ in range(warm_up_frames // len(case.coded.frames)):
        contenders["reuse"]()
    before = replace(ways.reuse.stats)
    rates = timed_rounds(contenders, seconds)
    now = ways.reuse.stats
    windows, frames = now.windows_run - before.windows_run, now.frames - before.frames
    read = now.pixels_read - before.pixels_read
    info, coding = ways.reuse.engine.info, case.coding
    height, width = case.coded.frames[0].size
    fps = {name: round(median(values), 2) for name, values in rates.items()}
    ratio = {name: round(median_ratio(rates["reuse"], each), 4) for name, each in rates.items()}
    return {
        "network": ways.reuse.metadata.model,
        "engine": info.name,
        "provider": info.provider,
        "precision": info.precision,
        "threads": usable_cores(),
        "clip": case.clip,
        "height": height,
        "width": width,
        "frames": len(case.coded.frames),
        **named_coding(coding),
        "kbps": round(case.coded.kbps, 1),
        "rounds": len(rates["reuse"]),
        "changed_tiles_share": round(changed_tiles_share([f.y for f in case.coded.frames]), 4),
        "computed_share": round(read / (now.pixels_of_frames - before.pixels_of_frames), 4),
        "windows_per_frame": round(windows / frames, 2),
        "max_difference": difference,
        **{f"fps_{name}": fps.get(name) for name in NAMES},
        **{
            f"reuse_to_{name}": ratio.get(name) for name in NAMES if name not in ("reuse", "decode")
        },
    }


def max_difference(clip: Path, ways: Ways) -> int:
    """Largest difference in codes of luma restored with reuse and without, over all frames."""
    worst = 0
    with open_reader(clip) as reader:
        for frame in reader:
            # A stream of its own: the timed one begins with nothing to use again, as a camera does.
            one, other = (
                way.restore(frame, stream="compared").y for way in (ways.reuse, ways.dense)
            )
            worst = max(worst, int(np.abs(np.subtract(one, other, dtype=np.int16)).max()))
    return worst


def changed_tiles_share(lumas: Sequence[Codes]) -> float:
    """Mean share of tiles of 64 px in which a frame differs from the one before."""
    height, width = lumas[0].shape
    padding = ((0, -height % TILE_PX), (0, -width % TILE_PX))
    padded = [np.pad(luma, padding)[None] for luma in lumas]
    return fmean(float(changed_cells(a, b, TILE_PX).mean()) for a, b in pairwise(padded))


def named_coding(coding: VideoCoding | None) -> dict[str, Any]:
    """The parts of a row that say how its clip is coded."""
    if coding is None:
        return {"preset": OWN_CODING, "crf": None, "b_frames": None, "gop": None}
    return {
        "preset": coding.preset,
        "crf": coding.quantiser,
        "b_frames": coding.b_frames or 0,
        "gop": coding.gop,
    }


def _case_key(network: str, clip: str, coding: VideoCoding | None) -> CaseKey:
    return network, clip, *named_coding(coding).values()


def _cases(
    clips: Sequence[RealtimeClip], network: str, folder: Path, done: Set[CaseKey]
) -> Iterator[Case]:
    for clip in clips:
        codings = [c for c in clip.codings if _case_key(network, clip.name, c) not in done]
        frames = clip.load() if codings else []
        for coding in codings:
            if coding is None:
                own = Path(clip.file or "")
                yield Case(clip.name, None, CodedClip(frames, b"", own.stat().st_size), own)
                continue
            coded = video_coded(frames, coding)
            path = folder / f"{clip.name}.mkv"
            path.write_bytes(coded.bitstream)
            yield Case(clip.name, coding, coded, path)


def line(row: dict[str, Any]) -> str:
    """A row in words."""
    speeds = ((name, row[f"fps_{name}"]) for name in NAMES)
    coding = " ".join(str(row[name]) for name in named_coding(None) if row[name] is not None)
    return (
        f"{row['clip']}  {coding}: "
        f"{row['changed_tiles_share']:.0%} of tiles change, {row['computed_share']:.0%} computed; "
        f"frames/s: {', '.join(f'{name} {fps:.1f}' for name, fps in speeds if fps is not None)}; "
        f"reuse/dense {row['reuse_to_dense']:.2f}"
    )


if __name__ == "__main__":
    run_study(measure)
