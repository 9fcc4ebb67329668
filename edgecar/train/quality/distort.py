"""Distorted pictures made of photographs, scored by the proxy and kept on disk.

Codings that cameras use, at many rates; what the networks that ship make of them, harm included,
because that is what the scorer is asked to judge; and, as in the data bases of the paper, blur and
noise.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from edgecar.artifact import find_artifact, shipped_coders
from edgecar.errors import SettingsError
from edgecar.evaluate.metrics import Luma
from edgecar.evaluate.stills import published_luma
from edgecar.files import atomic_write, cache_folder, sha256_of
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.pictures import jpeg_coded
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from edgecar.spec import CODERS, Coder
from edgecar.train.degrade import Bgr
from edgecar.train.quality.proxy import BEST, proxy_score
from edgecar.train.quality.rated import NONE, Rated, RatedSet

FORMAT = 1  # raise it when pictures come out differently from the same settings
FRAMES = 3  # of the clip around a picture; the last, which is no key frame, is taken
PAN_PX = 2  # a frame
NEUTRAL = 128  # chroma of a grey picture
OTHER_WEIGHTS = 0.3  # share of restored pictures whose weights were made for another coder

Report = Callable[[int, int], None]
"""Called with photographs ready and photographs in all."""


@dataclass(frozen=True)
class Distortions:
    """What is made of every photograph.

    Attributes:
        coded: How many codings: JPEG, H.264 and HEVC in turn.
        restored: How many of those are also restored, by a network drawn from ``networks``.
        blurred: How many are blurred.
        noisy: How many get white Gaussian noise.
        quality: Lowest and highest JPEG quality.
        crf: Lowest and highest CRF of x264.
        qp: Lowest and highest QP of x265.
        blur_px: Lowest and highest standard deviation of the blur.
        noise_codes: Lowest and highest standard deviation of the noise, in 8-bit codes.
        networks: That ship with weights.
    """

    coded: int = 5
    restored: int = 3
    blurred: int = 1
    noisy: int = 1
    quality: tuple[int, int] = (5, 95)
    crf: tuple[int, int] = (18, 48)
    qp: tuple[int, int] = (18, 45)
    blur_px: tuple[float, float] = (0.5, 4.0)
    noise_codes: tuple[float, float] = (2.0, 30.0)
    networks: tuple[str, ...] = ("edgecar-xs", "edgecar-s", "fastarcnn")

    def __post_init__(self) -> None:
        if not 0 <= self.restored <= self.coded or min(self.blurred, self.noisy) < 0:
            raise SettingsError(
                f"restored is {self.restored} of {self.coded} coded; need no more than those, and "
                "no count below 0"
            )
        if self.coded + self.blurred + self.noisy < 1:
            raise SettingsError("nothing is made of a photograph; ask for a distortion")
        for name in ("quality", "crf", "qp", "blur_px", "noise_codes"):
            ends = getattr(self, name)
            if len(ends) != 2 or not 0 < ends[0] <= ends[1]:
                raise SettingsError(f"{name} is {list(ends)}; need two numbers above 0 in order")
        unknown = [name for name in self.networks if not shipped_coders(name)]
        if unknown or (self.restored and not self.networks):
            raise SettingsError(f"networks are {list(self.networks)}; need some that ship weights")


def distorted_set(
    photos: Sequence[Bgr],
    distortions: Distortions,
    *,
    seed: int,
    unchanged: bool = False,
    report: Report = lambda _done, _all: None,
    folder: Path | None = None,
) -> RatedSet:
    """Photographs, distorted and scored by the proxy; made once, then read.

    Args:
        photos: Clean pictures, BGR, at least 180 px each way.
        distortions: What to make of each.
        seed: Of all that is drawn.
        unchanged: Also have every photograph as it is, at the proxy's 100.
        report: Told how many photographs are ready.
        folder: Where they are kept; default: the user's cache.
    """
    folder = folder or cache_folder("quality")
    references: list[Luma] = []
    pictures: list[Rated] = []
    with _Restorers(distortions.networks) as restorers:
        for number, photo in enumerate(photos):
            path = folder / f"{_key(photo, distortions, seed, number)}.npz"
            if not path.exists():
                made = _made(photo, distortions, np.random.default_rng((seed, number)), restorers)
                with atomic_write(path) as temporary:
                    np.savez(temporary, **made)
            with np.load(path) as stored:
                first = len(pictures)
                references.append(stored["clean"])
                for picture, score, kind, before in zip(
                    stored["pictures"], stored["scores"], stored["kinds"], stored["before"],
                    strict=True,
                ):  # fmt: skip
                    own = NONE if before == NONE else first + int(before)
                    pictures.append(Rated(number, picture, float(score), str(kind), own))
            if unchanged:
                pictures.append(Rated(number, references[-1], BEST, "unchanged"))
            report(number + 1, len(photos))
    return RatedSet(references, pictures)


class _Restorers(ExitStack):
    """Networks by name and coder, opened when they are first asked for."""

    def __init__(self, networks: Sequence[str]) -> None:
        super().__init__()
        self._networks = networks
        self._opened: dict[tuple[str, Coder], Restorer] = {}

    def restored(self, coded: Luma, coder: Coder, rng: np.random.Generator) -> Luma:
        """What a drawn network makes of it, now and then with the weights of another coder."""
        name = str(rng.choice(self._networks))
        own = shipped_coders(name)
        others = [c for c in own if c != coder]
        strange = coder not in own or (others and rng.random() < OTHER_WEIGHTS)
        weights = others[int(rng.integers(len(others)))] if strange else coder
        if (name, weights) not in self._opened:
            # In float32 on one thread: the pictures must not depend on the machine's arithmetic.
            restorer = Restorer(name, precision="fp32", codec=weights, threads=1, reuse=False)
            self._opened[name, weights] = self.enter_context(restorer)
        restored: Luma = self._opened[name, weights].luma(coded).copy()
        return restored


def _made(
    photo: Bgr, distortions: Distortions, rng: np.random.Generator, restorers: _Restorers
) -> dict[str, Any]:
    """All that is stored of a photograph."""
    clip = _panned(published_luma(photo))
    clean = clip[-1]
    pictures: list[tuple[str, Luma, int]] = []
    for number in range(distortions.coded):
        coder = CODERS[number % len(CODERS)]
        pictures.append((coder, _coded(clip, coder, distortions, rng), NONE))
    for number in rng.permutation(distortions.coded)[: distortions.restored].tolist():
        coder = CODERS[number % len(CODERS)]
        restored = restorers.restored(pictures[number][1], coder, rng)
        pictures.append((f"{coder} restored", restored, number))
    for _ in range(distortions.blurred):
        blurred = cv2.GaussianBlur(clean, (0, 0), rng.uniform(*distortions.blur_px))
        pictures.append(("blur", np.asarray(blurred, np.uint8), NONE))
    for _ in range(distortions.noisy):
        noise = rng.normal(0, rng.uniform(*distortions.noise_codes), clean.shape)
        pictures.append(("noise", np.rint(clean + noise).clip(0, 255).astype(np.uint8), NONE))
    return {
        "clean": clean,
        "pictures": np.stack([picture for _, picture, _ in pictures]),
        "scores": np.array([proxy_score(clean, picture) for _, picture, _ in pictures]),
        "kinds": np.array([kind for kind, _, _ in pictures]),
        "before": np.array([before for _, _, before in pictures]),
    }


def _panned(luma: Luma) -> list[Luma]:
    """A short clip of a camera that moves over the picture, with even sides; the same size each."""
    room = PAN_PX * (FRAMES - 1)
    height, width = ((side - room) // 2 * 2 for side in luma.shape)
    return [
        np.ascontiguousarray(luma[start : start + height, start : start + width])
        for start in range(0, room + 1, PAN_PX)
    ]


def _coded(
    clip: Sequence[Luma], coder: Coder, distortions: Distortions, rng: np.random.Generator
) -> Luma:
    if coder == "jpeg":
        low, high = distortions.quality
        return jpeg_coded(clip[-1], int(rng.integers(low, high + 1)))
    low, high = distortions.crf if coder == "h264" else distortions.qp
    grey = np.full(chroma_size(clip[0].shape), NEUTRAL, np.uint8)
    coding = VideoCoding(coder, int(rng.integers(low, high + 1)), preset="veryfast", b_frames=0)
    return video_coded([Frame(luma, grey, grey) for luma in clip], coding).frames[-1].y


def _key(photo: Bgr, distortions: Distortions, seed: int, number: int) -> str:
    """Of everything that what is made of a photograph depends on."""
    weights = {
        f"{name}.{coder}": sha256_of(find_artifact(name, coder).with_suffix(".safetensors"))
        for name in distortions.networks
        for coder in shipped_coders(name)
    }
    metadata: Iterator[Any] = iter(
        (FORMAT, asdict(distortions), seed, number, weights, _libraries(), _digest(photo))
    )
    return hashlib.sha256(json.dumps(list(metadata), sort_keys=True).encode()).hexdigest()[:32]


def _libraries() -> dict[str, list[int]]:
    return {name: list(version) for name, version in av.library_versions.items()}


def _digest(photo: Bgr) -> str:
    return hashlib.sha256(np.ascontiguousarray(photo).data).hexdigest()
