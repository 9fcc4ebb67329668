"""``make demo``: from a checkpoint to a restored clip, with what it gained.

Exports two networks, codes a 1080p fixed-camera clip made of scikit-image's photographs as H.264,
restores it, and measures both clips against the frames that went into the coder.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np

from edgecar.cli.output import engine_line, progress_bar, stdout
from edgecar.evaluate.metrics import psnr
from edgecar.exporter.to_onnx import export
from edgecar.media.color import bgr_from_frame, compared_pictures
from edgecar.media.pictures import write_picture
from edgecar.media.reader import open_reader
from edgecar.media.scene import photo_scene, write_scene
from edgecar.runtime.cameras import Job
from edgecar.runtime.job import run_job
from edgecar.runtime.restorer import Restorer
from edgecar.spec import Coder, Size

FOLDER = Path("demo")
SIZE: Size = (1080, 1920)
FRAMES = 50
CRF = 35
EXPORTED: tuple[tuple[str, Coder], ...] = (("msfan", "jpeg"), ("edgecar-s", "h264"))
SHOWN = (slice(0, 420), slice(0, 640))  # part of the picture, enough to see blocks in


def main() -> None:
    """Run the demonstration in the folder ``demo``."""
    FOLDER.mkdir(exist_ok=True)
    stdout.print("1  checkpoints to checked ONNX artifacts")
    for name, coder in EXPORTED:
        done = export(f"{name}.pt", FOLDER / f"{name}.onnx", codec=coder)
        parity = done.metadata.parity_max_error
        stdout.print(f"   {done.path}: halo {done.metadata.halo_px} px, parity {parity:.1e} of 1.0")
    stdout.print(f"2  a {SIZE[1]}x{SIZE[0]} fixed-camera clip, {FRAMES} frames, H.264 at CRF {CRF}")
    coded, restored = FOLDER / "coded.mp4", FOLDER / "restored.mkv"
    write_scene(coded, SIZE, FRAMES, CRF)
    stdout.print(f"   {coded}: {coded.stat().st_size / 1024:.0f} KiB")
    stdout.print("3  restored tile by tile")
    with Restorer(FOLDER / "edgecar-s.onnx") as restorer, progress_bar("   restoring") as progress:
        report = run_job(Job(str(coded), str(restored), codec="ffv1"), restorer, progress)
        used = engine_line(restorer.engine.info)
    stdout.print(f"   {restored}: {report.fps:.1f} frames/s end to end, {used}")
    _measure(coded, restored)
    stdout.print("5  cost and speed at 1080p")
    bench = "bench --res 1080p --networks edgecar-xs,edgecar-s,edgecar-m"
    subprocess.run([sys.executable, "-m", "edgecar", *bench.split()], check=True)


def _measure(coded: Path, restored: Path) -> None:
    """Print PSNR before and after, and write a before/after picture of the last frame."""
    gains = []
    with open_reader(coded) as before, open_reader(restored) as after:
        for clean, worse, better in zip(photo_scene(SIZE, FRAMES), before, after, strict=True):
            gains.append((psnr(clean.y, worse.y), psnr(clean.y, better.y)))
            last = worse, better
    coded_db, restored_db = np.mean(gains, axis=0)
    stdout.print(
        f"4  PSNR of luma: {coded_db:.2f} dB coded, {restored_db:.2f} dB restored "
        f"({restored_db - coded_db:+.2f} dB)"
    )
    pictures = [bgr_from_frame(frame)[SHOWN] for frame in last]
    path = FOLDER / "before_after.png"
    write_picture(path, compared_pictures(pictures[0], pictures[1], "side"))
    stdout.print(f"   {path}: before, after")


if __name__ == "__main__":
    main()
