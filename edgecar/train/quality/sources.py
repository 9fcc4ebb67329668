"""Pictures to train the scorer on: a subjective study, or photographs distorted and scored here.

Distorted pictures are kept on disk with their score by a full-reference proxy. They are codings
that cameras use, at many rates; the output of the networks that ship, harm included, because that
is what the scorer is asked to judge; and, as in the data bases of the paper, blur and noise.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torchmetrics.functional.image import (
    multiscale_structural_similarity_index_measure,
    visual_information_fidelity,
)

from edgecar.artifact import find_artifact, shipped_for
from edgecar.errors import DataError, SettingsError
from edgecar.evaluate.clips import published_luma
from edgecar.evaluate.metrics import Luma
from edgecar.files import atomic_write, cache_folder, sha256_of
from edgecar.media.frame import Frame, chroma_size
from edgecar.media.pictures import jpeg_coded
from edgecar.media.video_codec import VideoCoding, video_coded
from edgecar.runtime.restorer import Restorer
from edgecar.spec import CODERS, Coder, WeightsFor
from edgecar.train.degrade import Bgr
from edgecar.train.folders import load_photos, photo_folders
from edgecar.train.quality.rated import NONE, Rated, RatedSet, rated_from_csv, split_by_reference
from edgecar.zoo.multiscale_iqa import IqaConfig

PROXY = "proxy: 100 × mean of MS-SSIM and VIF"
BEST = 100.0  # proxy of equal pictures
LEAST_PX = 176  # needed by torchmetrics for five scales of an 11×11 window
FORMAT = 1  # raise it when pictures come out differently from the same settings
FRAMES = 3  # of the clip around a picture; the last, which is no key frame, is taken
PAN_PX = 2  # a frame
NEUTRAL = 128  # chroma of a grey picture
VALIDATION_PHOTOGRAPHS = 10
UNSEEN_NETWORK = "edgecar-m"  # restores test pictures, and none that is trained on
OTHER_WEIGHTS = 0.3  # share of restored pictures whose weights were made for another coder

Report = Callable[[int, int], None]
"""Called with photographs ready and photographs in all."""


@dataclass(frozen=True)
class Distortions:
    """Pictures to make of every photograph.

    Attributes:
        coded: Number of codings: JPEG, H.264 and HEVC in turn.
        restored: Number of those that are also restored, by a network drawn from ``networks``.
        blurred: Number of blurred pictures.
        noisy: Number of pictures with white Gaussian noise.
        quality: Lowest and highest JPEG quality.
        crf: Lowest and highest CRF of x264.
        qp: Lowest and highest QP of x265.
        blur_px: Lowest and highest standard deviation of the blur.
        noise_codes: Lowest and highest standard deviation of the noise, in 8-bit codes.
        networks: Networks that ship with weights.
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
        unknown = [name for name in self.networks if not shipped_for(name)]
        if unknown or (self.restored and not self.networks):
            raise SettingsError(f"networks are {list(self.networks)}; need some that ship weights")


@dataclass(frozen=True)
class QualityRecipe:
    """Settings of a training run of the scorer.

    Attributes:
        network: Sizes and switches.
        distortions: Pictures to make of photographs where no opinion scores are given.
        photographs: Take the first so many; 0: all.
        share: Share of the references of a subjective study to train on; the rest are held out.
        lower_is_better: True for differential opinion scores (DMOS).
        optimiser: ``sgd`` with momentum 0.9, as in the paper, or ``adam``.
        rate: Learning rate of the first step; it falls as a cosine.
        final_share: Rate of the last step, as a share of the first; 1: it does not fall.
        weight_decay: L2 penalty.
        batch: Patches per step.
        epochs: Each draws as many patches as fit side by side into the pictures.
        seed: Seed of weights, distortions, split and patches.
    """

    network: IqaConfig = field(default_factory=IqaConfig)
    distortions: Distortions = field(default_factory=Distortions)
    photographs: int = 0
    share: float = 0.8
    lower_is_better: bool = False
    optimiser: str = "sgd"
    rate: float = 1e-3
    final_share: float = 0.01
    weight_decay: float = 1e-7
    batch: int = 128
    epochs: float = 100.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.optimiser not in ("sgd", "adam"):
            raise SettingsError(f"no optimiser {self.optimiser!r}; use sgd or adam")
        if not 0 < self.share < 1:
            raise SettingsError(f"share is {self.share}; need a number between 0 and 1")
        if self.batch < 2:
            raise SettingsError(f"batch is {self.batch}; normalisation needs at least 2 patches")
        if self.photographs < 0 or self.weight_decay < 0:
            raise SettingsError("photographs and weight_decay must not be below 0")
        if not (self.epochs > 0 and self.rate > 0 and 0 <= self.final_share <= 1):
            raise SettingsError("epochs and rate must be above 0, final_share within 0 and 1")


@dataclass(frozen=True)
class Sources:
    """Pictures for a run.

    Attributes:
        training: Pictures to learn from.
        held_out: Pictures of other references, by the name of the set.
        target: Meaning of their scores.
        trained_on: Description of the training pictures, for the record.
    """

    training: RatedSet
    held_out: dict[str, RatedSet]
    target: str
    trained_on: str


def opinion_sources(recipe: QualityRecipe, scores: Path) -> Sources:
    """Read a subjective study and split it by reference, as in the paper."""
    training, held_out = split_by_reference(rated_from_csv(scores), recipe.share, recipe.seed)
    used = len({picture.reference for picture in training.pictures})
    words = f"{scores.stem}: {len(training.pictures)} pictures of {used} references"
    return Sources(training, {scores.stem: held_out}, f"opinion scores of {scores.stem}", words)


def proxy_sources(
    recipe: QualityRecipe,
    data: list[Path],
    tests: Sequence[Path],
    report: Report,
    *,
    measure_only: bool = False,
) -> Sources:
    """Distort photographs and score them by the proxy.

    Args:
        recipe: Distortions to make.
        data: Folders to train on, or a data set with ``train``, ``test`` and ``val``.
        tests: Folders of other photographs to measure on, besides those that are held out.
        report: Called with the number of photographs that are ready.
        measure_only: Make nothing to learn from.
    """
    folders, validation = photo_folders(data, [])
    photos = [] if measure_only else load_photos(folders)[: recipe.photographs or None]
    training = distorted_set(
        photos, recipe.distortions, seed=recipe.seed, unchanged=True, report=report
    )
    # A network that restored no training picture restores some of these.
    networks = tuple(dict.fromkeys((*recipe.distortions.networks, UNSEEN_NETWORK)))
    measured_on = replace(recipe.distortions, networks=networks)
    others = {"validation": load_photos(validation)[:VALIDATION_PHOTOGRAPHS]}
    others |= {folder.name: load_photos([folder]) for folder in tests}
    held_out = {
        name: distorted_set(own, measured_on, seed=recipe.seed + 1, report=report)
        for name, own in others.items()
    }
    names = ", ".join("/".join(folder.resolve().parts[-2:]) for folder in folders)
    words = f"{len(training.pictures)} pictures made of {len(photos)} photographs of {names}"
    return Sources(training, held_out, PROXY, words)


def proxy_score(reference: Luma, distorted: Luma) -> float:
    """100 × the mean of MS-SSIM and VIF, each kept within 0 and 1; 100 for equal pictures.

    It stands in for opinion scores, which do not come with edgecar, and is no opinion. Table 1 of
    the paper has MS-SSIM and VIF at an SRCC of .951 and .964 on LIVE (PSNR .876, SSIM .948). They
    fail differently, which is why both count: MS-SSIM hardly moves among fine codings, and VIF
    falls to .677 on TID2013, with its changes of contrast. VIF exceeds 1 where contrast was raised,
    which is no better picture here.

    Args:
        reference: ``(H, W)`` uint8, at least 176 px each way.
        distorted: Picture of the same size.

    Raises:
        DataError: The sizes differ or a side is too short.
    """
    if reference.shape != distorted.shape or min(reference.shape) < LEAST_PX:
        raise DataError(
            f"reference is {reference.shape}, distorted {distorted.shape}; the proxy needs one "
            f"size of at least {LEAST_PX} px each way"
        )
    clean, judged = (
        torch.from_numpy(luma.copy())[None, None].float() for luma in (reference, distorted)
    )
    with torch.inference_mode():
        structure = multiscale_structural_similarity_index_measure(judged, clean, data_range=255.0)
        fidelity = visual_information_fidelity(judged, clean)
    assert isinstance(structure, torch.Tensor)
    both = torch.stack([structure.reshape(()), fidelity.reshape(())]).clamp(0, 1)
    return BEST * float(both.mean())


def distorted_set(
    photos: Sequence[Bgr],
    distortions: Distortions,
    *,
    seed: int,
    unchanged: bool = False,
    report: Report = lambda _done, _all: None,
    folder: Path | None = None,
) -> RatedSet:
    """Distort photographs and score them by the proxy; they are made once, then read.

    Args:
        photos: Clean pictures, BGR, at least 180 px each way.
        distortions: Pictures to make of each.
        seed: Seed of all draws.
        unchanged: Also take every photograph as it is, at the proxy's 100.
        report: Called with the number of photographs that are ready.
        folder: Folder to keep them in; default: the user's cache.
    """
    folder = folder or cache_folder("quality")
    references: list[Luma] = []
    pictures: list[Rated] = []
    with _Restorers(distortions.networks) as restorers:
        for number, photo in enumerate(photos):
            path = folder / f"{_key(photo, distortions, seed, number)}.npz"
            if not path.exists():
                rng = np.random.default_rng((seed, number))
                clean, made = _made(photo, distortions, rng, restorers)
                with atomic_write(path) as temporary:
                    np.savez(
                        temporary,
                        clean=clean,
                        pictures=np.stack([picture for picture, _ in made]),
                        scores=[proxy_score(clean, picture) for picture, _ in made],
                        before=[before for _, before in made],
                    )
            first = len(pictures)
            with np.load(path) as stored:
                references.append(stored["clean"])
                every = zip(stored["pictures"], stored["scores"], stored["before"], strict=True)
                for picture, score, before in every:
                    own = NONE if before == NONE else first + int(before)
                    pictures.append(Rated(number, picture, float(score), own))
            if unchanged:
                pictures.append(Rated(number, references[-1], BEST))
            report(number + 1, len(photos))
    return RatedSet(references, pictures)


class _Restorers(ExitStack):
    """Networks by name and coder, opened when they are first asked for."""

    def __init__(self, networks: Sequence[str]) -> None:
        super().__init__()
        self._networks = networks
        self._opened: dict[tuple[str, WeightsFor], Restorer] = {}

    def restored(self, coded: Luma, coder: Coder, rng: np.random.Generator) -> Luma:
        """Restore by a drawn network, now and then with the weights of another coder."""
        name = str(rng.choice(self._networks))
        own = shipped_for(name)
        others = [c for c in own if c != coder]
        strange = coder not in own or (others and rng.random() < OTHER_WEIGHTS)
        weights: WeightsFor = others[int(rng.integers(len(others)))] if strange else coder
        if (name, weights) not in self._opened:
            # In float32 on one thread: the pictures must not depend on the machine's arithmetic.
            restorer = Restorer(name, precision="fp32", codec=weights, threads=1, reuse=False)
            self._opened[name, weights] = self.enter_context(restorer)
        restored: Luma = self._opened[name, weights].luma(coded).copy()
        return restored


def _made(
    photo: Bgr, distortions: Distortions, rng: np.random.Generator, restorers: _Restorers
) -> tuple[Luma, list[tuple[Luma, int]]]:
    """Return the clean picture, and the distorted ones with the number of the one before."""
    clip = _panned(published_luma(photo))
    clean = clip[-1]
    coders = [CODERS[number % len(CODERS)] for number in range(distortions.coded)]
    made = [(_coded(clip, coder, distortions, rng), NONE) for coder in coders]
    for number in rng.permutation(distortions.coded)[: distortions.restored].tolist():
        made.append((restorers.restored(made[number][0], coders[number], rng), number))
    for _ in range(distortions.blurred):
        blurred = cv2.GaussianBlur(clean, (0, 0), rng.uniform(*distortions.blur_px))
        made.append((np.asarray(blurred, np.uint8), NONE))
    for _ in range(distortions.noisy):
        noise = rng.normal(0, rng.uniform(*distortions.noise_codes), clean.shape)
        made.append((np.rint(clean + noise).clip(0, 255).astype(np.uint8), NONE))
    return clean, made


def _panned(luma: Luma) -> list[Luma]:
    """Make a short clip of a camera that moves over the picture, with even sides."""
    room = PAN_PX * (FRAMES - 1)
    height, width = ((side - room) // 2 * 2 for side in luma.shape)
    return [
        np.ascontiguousarray(luma[start : start + height, start : start + width])
        for start in range(0, room + 1, PAN_PX)
    ]


def _coded(
    clip: Sequence[Luma], coder: Coder, distortions: Distortions, rng: np.random.Generator
) -> Luma:
    ranges = {"jpeg": distortions.quality, "h264": distortions.crf, "hevc": distortions.qp}
    low, high = ranges[coder]
    drawn = int(rng.integers(low, high + 1))
    if coder == "jpeg":
        return jpeg_coded(clip[-1], drawn)
    grey = np.full(chroma_size(clip[0].shape), NEUTRAL, np.uint8)
    coding = VideoCoding(coder, drawn, preset="veryfast", b_frames=0)
    return video_coded([Frame(luma, grey, grey) for luma in clip], coding).frames[-1].y


def _key(photo: NDArray[np.uint8], distortions: Distortions, seed: int, number: int) -> str:
    """Hash everything that the pictures made of a photograph depend on."""
    weights = {
        f"{name}.{coder}": sha256_of(find_artifact(name, coder).with_suffix(".safetensors"))
        for name in distortions.networks
        for coder in shipped_for(name)
    }
    libraries = {name: list(version) for name, version in av.library_versions.items()}
    digest = hashlib.sha256(np.ascontiguousarray(photo).data).hexdigest()
    parts = [FORMAT, asdict(distortions), seed, number, weights, libraries, digest]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
