"""Coded clips made of photographs, kept on disk under a key of everything they depend on."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict

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
from edgecar.train.degrade import Bgr, Pair, VideoRange

MOST_MOVERS = 4
ROOM_TO_MOVE = 1.6  # sides of what a moving camera looks at, in sides of its frame
MOSAIC_PHOTOS = 9
CLOCK_SHARE = 0.5  # of cameras that burn in a clock
SCALES = (0.5, 2.0)  # of a photograph's size
MOST_SHARPENED = 2.5  # share of the fine detail that is added again
SHARPENING_PX = (0.6, 2.0)  # standard deviation of the blur that tells what is fine
CLIP_FORMAT = 5  # raise it when clips come out differently from the same settings

Report = Callable[[int, int], None]
"""Called with clips ready and clips in all."""


class ClipPairs:
    """Pairs of frames from clips that were coded beforehand.

    The first use of a degradation codes its clips, a few a second; later ones read them.

    Args:
        photos: Clean pictures, BGR.
        degradation: Ranges of the coder's settings.
        seed: Seed of clips and settings.
        report: Called with the number of clips that are ready.
        clips: Number of clips; default: that of the degradation.
    """

    def __init__(
        self,
        photos: Sequence[Bgr],
        degradation: VideoRange,
        *,
        seed: int,
        report: Report = lambda _done, _all: None,
        clips: int | None = None,
    ) -> None:
        self._photos = list(photos)
        self._degradation = degradation
        self._folder = cache_folder("coded")
        self._photos_key = hashlib.sha256(b"".join(_digest(p) for p in self._photos)).hexdigest()
        self._clips: list[NDArray[np.uint8]] = []
        count = clips or degradation.clips
        for number in range(count):
            self._clips.append(self._clip(seed, number))
            report(number + 1, count)

    def pair(self, rng: np.random.Generator) -> Pair:
        clip = self._clips[rng.integers(len(self._clips))]
        return _pair_of(clip, int(rng.integers(clip.shape[1])))

    def spread(self, count: int) -> list[Pair]:
        # Settings are drawn per clip, so the first clips are as good a sample as any.
        return [_pair_of(clip, clip.shape[1] // 2) for clip in self._clips[:count]]

    def _clip(self, seed: int, number: int) -> NDArray[np.uint8]:
        """``(2, frames, height, width)``: coded and clean, mapped from disk."""
        path = self._folder / f"{self._key(seed, number)}.npy"
        if not path.exists():
            rng = np.random.default_rng((seed, number))
            scene = list(self._sent(self._scene(rng), rng))
            coding: VideoCoding = self._degradation.coding(rng)
            coded = video_coded(scene, coding).frames
            kept = np.s_[:: self._degradation.every]
            both = np.stack([[f.y for f in frames[kept]] for frames in (coded, scene)])
            with atomic_write(path) as temporary:
                np.save(temporary, both)
        clip: NDArray[np.uint8] = np.load(path, mmap_mode="r")
        return clip

    def _key(self, seed: int, number: int) -> str:
        libraries = {name: list(version) for name, version in av.library_versions.items()}
        metadata = {
            "format": CLIP_FORMAT,
            "photos": self._photos_key,
            "coder": self._degradation.coder,
            "settings": asdict(self._degradation) | {"clips": None},  # more clips keep the first
            "seed": [seed, number],
            "libraries": libraries,
        }
        return hashlib.sha256(json.dumps(metadata, sort_keys=True).encode()).hexdigest()[:32]

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


def _pair_of(clip: NDArray[np.uint8], frame: int) -> Pair:
    return Pair(np.asarray(clip[0, frame]), np.asarray(clip[1, frame]))


def _digest(photo: Bgr) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(photo).data).digest()
