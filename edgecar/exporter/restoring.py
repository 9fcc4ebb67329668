"""Measurement of what a network restores, made before it is exported.

A file of weights does not say how its author ran them: whether the residual is added or subtracted,
in which range and order of channels, with what at the end. Read wrongly, a network computes the
same in torch and in ONNX, and ruins pictures in both. So photographs are coded and made noisy, and
the network must not make them worse; if it does, other readings tell why.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgecar.errors import GateError
from edgecar.exporter.frames import LEVELS, generated_frames
from edgecar.metadata import coder_of
from edgecar.spec import MIDDLE_QUANTISER
from edgecar.zoo.card import takes_quantiser
from edgecar.zoo.checkpoints import Loaded

SIDE_PX = 64  # of a photograph's middle, rounded up to what the network reads
NOISES = (15, 25, 50)  # standard deviations in 8-bit codes: those that denoisers are published for
NOISY = 2  # photographs for each
NOISE_GAIN_DB, CODED_GAIN_DB = 1.5, 0.1
"""Gain by which a reading counts as one that restores: random weights reach less by chance."""
HARM_DB = 0.05  # loss that counts; below, a network does nothing
OUTSIDE, OUTSIDE_SHARE = 1 / 16, 0.01
"""Edges overshoot by some codes, which the runtime clips; a hundredth of all pixels that lie 16
codes outside [0, 1] is no overshoot, and clipping does not make a picture of it."""
DRAWN_KURTOSIS = (1.8, 3.0)  # of uniform and normal distributions, which weights are drawn from
LEAST_WEIGHTS = 256  # of a layer whose distribution tells something


@dataclass(frozen=True)
class Restored:
    """Gain of a network on degraded photographs.

    Attributes:
        undoes: Degradation of the photographs: the one that the weights are for, or of those that
            were tried the one with the largest gain.
        before_db: PSNR of the degraded photographs, mean.
        after_db: PSNR after the network.
        note: Why it is exported although it restores nothing; empty if it does.
    """

    undoes: str
    before_db: float
    after_db: float
    note: str = ""

    @property
    def gain_db(self) -> float:
        """Gain in PSNR."""
        return self.after_db - self.before_db


class Trial:
    """A network on photographs of one degradation: ``(N, C, H, W)`` in [0, 1] but for noise.

    Their quantisers, ``(N,)``, are the middle of the range where the degradation has none.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        seen: Tensor,
        clean: Tensor,
        quantisers: Tensor | None = None,
    ) -> None:
        self.name, self.network, self.seen, self.clean = name, network, seen, clean
        if quantisers is None:
            quantisers = torch.full_like(seen[:, 0, 0, 0], MIDDLE_QUANTISER)
        self._quantisers = quantisers
        self.least_gain_db = NOISE_GAIN_DB if name.startswith("noise") else CODED_GAIN_DB
        self.made = self.run(seen)
        self.before_db = self.psnr(seen)
        self.gain_db = self.psnr(self.made) - self.before_db
        self.restores = self.gain_db / self.least_gain_db  # above 1 it does

    def run(self, pictures: Tensor) -> Tensor:
        """Return the network's output; what is no number counts as far outside."""
        told = [self._quantisers[: len(pictures)]] if takes_quantiser(self.network) else []
        with torch.inference_mode():
            made: Tensor = self.network(pictures, *told).nan_to_num(1e3, 1e3, -1e3)
        return made

    def psnr(self, pictures: Tensor) -> float:
        """Return the mean PSNR in dB of pictures, clipped as the runtime clips."""
        errors = (pictures.clamp(0, 1) - self.clean).square().mean((1, 2, 3))
        return float((-10 * errors.clamp_min(1e-6).log10()).mean())


def restoration(loaded: Loaded, trained_on: str, path: Path) -> Restored:
    """Measure what a network restores."""
    drawn = looks_drawn(loaded.network)
    trials: list[Trial] = []
    for trial in _trials(loaded, trained_on):
        trials.append(trial)
        if len(trials) > len(NOISES) and (drawn or max(t.restores for t in trials) >= 1):
            break  # video is tried only where a trained network restored nothing else
    best = max(trials, key=lambda trial: trial.restores)
    found = Restored(best.name, round(best.before_db, 3), round(best.before_db + best.gain_db, 3))
    outside = max(
        float(((made - made.clamp(0, 1)).abs() > OUTSIDE).float().mean())
        for made in (trials[0].made, trials[0].run(trials[0].clean[:NOISY]))
    )
    restores = best.restores >= 1 and outside <= OUTSIDE_SHARE
    why = _better_reading(trials, best.restores, not restores)
    if not why and (restores or min(trial.gain_db for trial in trials) >= -HARM_DB):
        return found
    if not why and drawn:
        note = "its weights look as they were drawn at random: untrained, it restores nothing"
        return replace(found, note=note)
    beyond = f"{outside:.0%} of its output lies outside [0, 1]; " if outside > OUTSIDE_SHARE else ""
    unknown = (
        "it was trained for something else or in another range, has other layers between these or "
        "at its end, or is damaged; give the network that its author runs"
    )
    raise GateError(
        f"{path}: read as {loaded.card.name}, it makes pictures worse ({found.undoes}: "
        f"{found.before_db:.1f} to {found.after_db:.1f} dB): {beyond}{why or unknown}; "
        "nothing written"
    )


def looks_drawn(network: nn.Module) -> bool:
    """Tell weights that no training has changed: each layer's are spread as they are drawn.

    The kurtosis of a layer's weights is 1.8 if they are drawn evenly and 3 if normally, give or
    take sqrt(24 / n). Training moves it in every layer, by much more in some.

    Example:
        >>> looks_drawn(nn.Conv2d(32, 32, 3))
        True
    """
    squares: list[float] = []
    for weight in network.parameters():
        values = weight.detach().double().flatten()
        if weight.dim() >= 4 and weight.numel() >= LEAST_WEIGHTS and values.std() > 0:
            kurtosis = float(((values - values.mean()) / values.std()).pow(4).mean())
            off = min(abs(kurtosis - drawn) for drawn in DRAWN_KURTOSIS)
            squares.append(off**2 * weight.numel() / 24)
    count = len(squares)
    return sum(squares) <= count + 6 * math.sqrt(2 * count)  # six deviations of chi-squared


def _trials(loaded: Loaded, trained_on: str) -> Iterator[Trial]:
    """Try the degradation that weights are for; if they do not say, JPEG, noise, and then video."""
    align_px = loaded.card.align_px

    def coded(degradation: str) -> Trial:
        side = -(-SIDE_PX // align_px) * align_px
        held = generated_frames(degradation, loaded.channels, align_px).held
        seen, clean = (
            torch.from_numpy(np.stack([_middle(picture, side) for picture in pictures])) / 255
            for pictures in ([pair.coded for pair in held], [pair.clean for pair in held])
        )
        quantisers = torch.tensor([pair.quantiser for pair in held])
        return Trial(degradation, loaded.network, seen, clean, quantisers)

    if coder_of(trained_on):
        yield coded(trained_on)
        return
    jpeg, *videos = (f"{coder} {low}-{high}" for coder, (low, high) in LEVELS.items())
    first = coded(jpeg)
    yield first
    dice = torch.Generator().manual_seed(0)
    clean = first.clean[:NOISY]
    for deviation in NOISES:
        noisy = clean + torch.randn(clean.shape, generator=dice) * deviation / 255
        yield Trial(f"noise of {deviation} codes", loaded.network, noisy, clean)
    if loaded.channels == 1:
        yield from map(coded, videos)


def _middle(picture: np.ndarray, side: int) -> np.ndarray:
    top, left = ((whole - side) // 2 for whole in picture.shape[1:])
    return picture[:, top : top + side, left : left + side]


def _readings(trial: Trial, *, runs: bool) -> dict[str, list[Tensor]]:
    """Return the photographs as other readings would restore them, by what is wrong with this one.

    With `runs` also those for which the network has to run again.
    """
    seen, made = trial.seen, trial.made
    residual = made - seen  # of networks that predict the picture, this is none
    colour = seen.shape[1] == 3
    readings = {
        "its sign is reversed, so that the residual is added where it is to be subtracted, or the "
        "other way round: negate weights and bias of its last layer": [seen - residual],
        "it predicts the picture itself, and this layout adds or subtracts a residual": [
            -residual,
            residual,
        ],
        "it predicts the error of the picture, and this layout predicts the picture": [
            seen - made,
            seen + made,
        ],
        "it ends in a sigmoid, which this layout lacks": [
            *(each.sigmoid() for each in (made, -residual, residual)),
            seen - (-residual).sigmoid(),
        ],
        "it writes 0 to 255, need 0 to 1: divide weights and bias of its last layer by 255": [
            made / 255,
            seen + residual / 255,
        ],
        "the bias of its last layer is missing or wrong: brightness or colour is shifted": [
            made - (made - trial.clean).mean((0, 2, 3), keepdim=True)
        ],
    }
    if colour:
        readings["the channels of its output are BGR, need RGB: reverse them in its last layer"] = [
            made.flip(1),
            seen + residual.flip(1),
        ]
    if runs:
        readings |= {
            "it reads and writes 0 to 255, need 0 to 1: multiply the weights of its first layer by "
            "255, divide weights and bias of its last by 255": [trial.run(255 * seen) / 255],
            "it reads and writes -1 to 1, need 0 to 1": [trial.run(2 * seen - 1) / 2 + 0.5],
        }
    if runs and colour:
        why = "its channels are BGR, need RGB: reverse them in its first and last layer"
        readings[why] = [trial.run(seen.flip(1)).flip(1)]
    return readings


def _better_reading(trials: Sequence[Trial], restores: float, runs: bool) -> str:
    """Say why the network is misread, if run in another way it restores far more; else nothing."""
    most, said = max(1.0, restores + 1), ""
    for trial in trials:
        readings = _readings(trial, runs=runs)
        for why, pictures in [(why, each) for why, all_ in readings.items() for each in all_]:
            gain = trial.psnr(pictures) - trial.before_db
            if gain / trial.least_gain_db > most and gain > trial.gain_db:
                most = gain / trial.least_gain_db
                after = trial.before_db + gain
                said = f"{why} ({trial.name}: then {trial.before_db:.1f} to {after:.1f} dB)"
    return said
