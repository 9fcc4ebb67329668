"""Coded clips, real or made of photographs, kept under a key of everything they depend on."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from edgecar.files import atomic_write, cache_folder
from edgecar.media.frame import Frame
from edgecar.media.scene import (
    fixed_camera,
    in_full_range,
    mosaic,
    moving_camera,
    with_clock,
)
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.spec import Size
from edgecar.train.degrade import Bgr, HeldOut, Pair, VideoRange
from edgecar.train.folders import Original

MOST_MOVERS = 4
ROOM_TO_MOVE = 1.6  # sides of what a moving camera looks at, in sides of its frame
MOSAIC_PHOTOS = 9
CLOCK_SHARE = 0.5  # of cameras that burn in a clock
SCALES = (0.5, 2.0)  # of a photograph's size
MOST_SHARPENED = 2.5  # share of the fine detail that is added again
SHARPENING_PX = (0.6, 2.0)  # standard deviation of the blur that tells what is fine
HELD_OUT_CLIPS = 24  # made of photographs, where no real ones are held out
HELD_OUT_EVERY = 24  # frames of a real clip of which one is looked at
HELD_OUT_SEED = 1 << 20  # far from the seeds of recipes
CLIP_FORMATS = {"h264": 7, "hevc": 8}  # to be raised when the same settings give other clips

Report = Callable[[int, int], None]
"""Called with clips ready and clips in all."""

Coded = NDArray[np.void]
"""``(frames,)`` of ``coded`` and ``clean``, ``(height, width)`` uint8 each, and ``quantiser``."""


class ClipPairs:
    """Pairs of frames from clips that were coded beforehand.

    The first use of a degradation codes its clips, a few a second; later ones read them.

    Args:
        photos: Clean pictures, BGR.
        degradation: Ranges of the coder's settings.
        seed: Seed of clips and settings.
        report: Called with the number of clips that are ready.
        real: Real clips, for the share of pairs that the degradation takes from them.
    """

    def __init__(
        self,
        photos: Sequence[Bgr],
        degradation: VideoRange,
        *,
        seed: int,
        report: Report = lambda _done, _all: None,
        real: Sequence[Original] = (),
    ) -> None:
        self._degradation = degradation
        make = _Maker(photos, degradation)
        made = range(degradation.clips if degradation.real < 1 else 0)
        draws = range(degradation.draws if degradation.real > 0 else 0)
        jobs = [partial(make.of_photographs, seed, number) for number in made]
        jobs += [partial(make.of_real, clip, seed, draw) for draw in draws for clip in real]
        clips: list[Coded] = []
        for job in jobs:
            clips.append(job())
            report(len(clips), len(jobs))
        self._made, self._real = clips[: len(made)], clips[len(made) :]

    def pair(self, rng: np.random.Generator) -> Pair:
        clips = self._real if rng.random() < self._degradation.real else self._made
        clip = clips[rng.integers(len(clips))]
        return _pair_of(clip, int(rng.integers(len(clip))))


def clips_held_out(
    photos: Sequence[Bgr],
    degradation: VideoRange,
    real: Sequence[Original] = (),
    report: Report = lambda _done, _all: None,
) -> HeldOut:
    """Return pairs of frames by the CRFs or QPs to validate at.

    Every real clip is coded at each of them. Without real clips, some are made of ``photos``, each
    coded at one.
    """
    make = _Maker(
        photos, replace(degradation, every=HELD_OUT_EVERY if real else degradation.frames // 2)
    )
    levels = degradation.validation_levels()
    jobs: list[tuple[int, Callable[[], Coded]]]
    if real:
        jobs = [(lv, partial(make.of_real, clip, level=lv)) for clip in real for lv in levels]
    else:
        made = range(max(HELD_OUT_CLIPS, len(levels)))
        jobs = [
            (level, partial(make.of_photographs, HELD_OUT_SEED, number, level))
            for number, level in ((n, levels[n % len(levels)]) for n in made)
        ]
    kind = "crf" if degradation.coder == "h264" else "qp"
    pairs: HeldOut = {f"{kind} {level}": [] for level in levels}
    for done, (level, job) in enumerate(jobs, 1):
        clip = job()
        shown = range(1, len(clip)) or range(1)  # the first one is a key frame
        pairs[f"{kind} {level}"] += [_pair_of(clip, frame) for frame in shown]
        report(done, len(jobs))
    return pairs


class _Maker:
    """Maker of coded clips, or reader of those that were made before."""

    def __init__(self, photos: Sequence[Bgr], degradation: VideoRange) -> None:
        self._photos, self._degradation = list(photos), degradation
        self._photos_key = hashlib.sha256(b"".join(map(_digest, self._photos))).hexdigest()
        # Numbers and shares of clips change none of them.
        numbers = ("clips", "draws", "real")
        self._settings = {k: v for k, v in asdict(degradation).items() if k not in numbers}

    def of_photographs(self, seed: int, number: int, level: int | None = None) -> Coded:
        """Return a clip made of photographs, coded as drawn, or at a CRF or QP."""
        key: dict[str, Any] = {"photos": self._photos_key, "seed": [seed, number], "level": level}
        key |= self._settings

        def code() -> tuple[list[Frame], VideoCoding]:
            rng = np.random.default_rng((seed, number))
            scene = list(self._sent(self._scene(rng), rng))
            drawn = self._degradation.coding(rng)
            fixed = drawn if level is None else replace(drawn, quantiser=level, max_kbps=None)
            return scene, fixed

        return self._kept(key, code)

    def of_real(
        self, clip: Original, seed: int = 0, draw: int = 0, level: int | None = None
    ) -> Coded:
        """Return a real clip, mirrored and coded as drawn, or as it is at a CRF or QP."""
        key: dict[str, Any] = {"clip": clip.sha256, "factor": clip.factor}
        key |= {"level": level} if level is not None else {"seed": [seed, draw], **self._settings}

        def code() -> tuple[list[Frame], VideoCoding]:
            scene = clip.frames()
            if level is not None:
                return scene, VideoCoding(self._degradation.coder, level)
            rng = np.random.default_rng((seed, draw, int(clip.sha256[:8], 16)))
            scene = [_mirrored(frame) for frame in scene] if rng.integers(2) else scene
            return scene, self._degradation.coding(rng, scene[0].size)

        return self._kept(key, code)

    def _kept(
        self, key: dict[str, Any], code: Callable[[], tuple[list[Frame], VideoCoding]]
    ) -> Coded:
        """Return a coded clip, mapped from disk; it is coded if it is not there yet."""
        libraries = {name: list(version) for name, version in av.library_versions.items()}
        coder = {"coder": self._degradation.coder, "every": self._degradation.every}
        metadata = {"format": CLIP_FORMATS[self._degradation.coder], "libraries": libraries}
        metadata |= {**coder, **key}
        name = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:32]
        path = cache_folder("coded") / f"{name}.npy"
        if not path.exists():
            scene, coding = code()
            coded = video_coded(scene, coding)
            quantisers = coded.quantisers
            kept = range(0, len(scene), self._degradation.every)
            plane = (np.uint8, scene[0].size)
            fields = [("coded", *plane), ("clean", *plane), ("quantiser", np.float32)]
            both = np.empty(len(kept), fields)
            for place, frame in enumerate(kept):
                both[place] = coded.frames[frame].y, scene[frame].y, quantisers[frame]
            with atomic_write(path) as temporary:
                np.save(temporary, both)
        clip: Coded = np.load(path, mmap_mode="r")
        return clip

    def _scene(self, rng: np.random.Generator) -> Iterable[Frame]:
        size, frames = self._degradation.size, self._degradation.frames
        seed = int(rng.integers(1 << 31))
        if rng.integers(2):
            height, width = (round(ROOM_TO_MOVE * side) for side in size)
            wall, noise = self._wall((height, width), rng), self._noise(rng)
            yield from moving_camera(wall, size, frames, noise=noise, seed=seed)
            return
        movers = [self._mover(rng) for _ in range(rng.integers(1, MOST_MOVERS + 1))]
        noise = self._noise(rng)
        yield from fixed_camera(self._wall(size, rng), movers, frames, noise=noise, seed=seed)

    def _sent(self, frames: Iterable[Frame], rng: np.random.Generator) -> Iterable[Frame]:
        """Apply the range of luma and the clock of a camera.

        A network that saw 16 to 235 alone lifts black bars that are 0.
        """
        full, clock = rng.integers(2), rng.uniform() < CLOCK_SHARE
        seed = int(rng.integers(1 << 31))
        if full:
            frames = in_full_range(frames)
        white, black = (255, 0) if full else (235, 16)
        return with_clock(frames, white=white, black=black, seed=seed) if clock else frames

    def _noise(self, rng: np.random.Generator) -> float:
        """Draw the noise of a sensor: none in a fifth of the clips, mostly little, seldom a lot.

        A network that saw clean originals alone takes what noise a fine quantiser leaves for
        artifacts.
        """
        return self._degradation.noise * float(rng.uniform() ** 2) * int(rng.integers(5) > 0)

    def _mover(self, rng: np.random.Generator) -> Bgr:
        """A piece of other photographs, a sixth to a half of the frame's shorter side."""
        shorter = min(self._degradation.size)
        height, width = (int(side) for side in rng.integers(shorter // 6, shorter // 2, 2))
        return self._wall((height, width), rng)

    def _wall(self, size: Size, rng: np.random.Generator) -> Bgr:
        """Photographs side by side, resized and sharpened, some of them far too much.

        Pixel by pixel photographs are neither as fine as what good cameras deliver nor as soft as
        what interpolating sensors and cheap lenses do. A network that never saw fine grain, or the
        bright seams that cameras draw along edges, takes them for artifacts; one that never saw
        soft edges makes them crisp.
        """
        scale = float(np.exp(rng.uniform(*np.log(SCALES))))
        sharpness = MOST_SHARPENED * rng.uniform() ** 2
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
        chosen = [self._photos[rng.integers(len(self._photos))] for _ in range(MOSAIC_PHOTOS)]
        resized = [
            cv2.resize(photo[:, :: rng.choice([-1, 1])], None, None, scale, scale, method)
            for photo in chosen
        ]
        wall = mosaic([np.asarray(photo, np.uint8) for photo in resized], size)
        soft = cv2.GaussianBlur(wall, (0, 0), rng.uniform(*SHARPENING_PX))
        return np.asarray(cv2.addWeighted(wall, 1 + sharpness, soft, -sharpness, 0), np.uint8)


def _mirrored(frame: Frame) -> Frame:
    y, u, v = (np.ascontiguousarray(plane[:, ::-1]) for plane in (frame.y, frame.u, frame.v))
    return Frame(y, u, v, colour=frame.colour)


def _pair_of(clip: Coded, frame: int) -> Pair:
    one = clip[frame]
    return Pair(np.asarray(one["coded"]), np.asarray(one["clean"]), float(one["quantiser"]))


def _digest(photo: Bgr) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(photo).data).digest()
