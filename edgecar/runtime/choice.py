"""Choice of weights that suit an input, and of the frames that they were not trained for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgecar.artifact import (
    Artifact,
    find_artifact,
    is_artifact_path,
    read_artifact,
    shipped_for,
    shipped_names,
)
from edgecar.errors import ArtifactError
from edgecar.media.frame import Coding
from edgecar.metadata import Metadata
from edgecar.runtime.stats import PassReason
from edgecar.spec import CODERS, WEIGHTS_FOR, Coder, WeightsFor, coder_and_purpose

QP_ABOVE_CRF = 6
"""Mean QP that x264 gives the coarsest frames of a clip, less its CRF; at QPs below that of the
finest training clips, edgecar-s lost quality on validation clips, and gained above."""

WHOLE_RANGE_CRF = 10
"""Finest CRF of H.264 in training that counts as all: what is finer, `EdgecarNet` hardly changes,
as its gain is zero at the quantiser of lossless."""

NEVER_BELOW_QP, NEVER_ABOVE_QUALITY = 0, 100
"""Limits that no frame is passed for."""


@dataclass(frozen=True)
class Limits:
    """Frames that weights were not trained for: they pass as they are.

    Attributes:
        coder: Frames of another coding pass; None: of none.
        below_qp: H.264 frames of a lower mean QP pass; None: of none.
        above_quality: JPEG frames of a higher quality pass; None: of none.
        trained_on: Degradation the weights were trained to undo, for messages.
    """

    coder: Coder | None = None
    below_qp: float | None = None
    above_quality: int | None = None
    trained_on: str = ""

    def but(self, skip_below_qp: float | None, skip_above_quality: int | None) -> "Limits":
        """The same with the limits that are given; 0 and 100 mean that no frame passes."""
        limits = self
        if skip_below_qp is not None:
            never = skip_below_qp <= NEVER_BELOW_QP
            limits = replace(limits, below_qp=None if never else skip_below_qp)
        if skip_above_quality is not None:
            never = skip_above_quality >= NEVER_ABOVE_QUALITY
            limits = replace(limits, above_quality=None if never else skip_above_quality)
        return limits

    def reason_to_pass(self, coding: Coding) -> PassReason | None:
        """Return why a frame passes as it is; None if it is to be restored.

        Nothing is known against a frame that does not say how it was coded.
        """
        if self.coder and coding.codec and coder_for(coding.codec) != self.coder:
            return "other_coder"
        if coding.is_finer(than_qp=self.below_qp):
            return "below_qp"
        if coding.is_finer(than_quality=self.above_quality):
            return "above_quality"
        return None

    def in_words(self, reason: PassReason, coding: Coding) -> str:
        """Say why a frame passes, and what restores it all the same."""
        trained = f"the weights were trained on {self.trained_on or 'another'}"
        if reason == "below_qp":
            return (
                f"frames finer than QP {self.below_qp:g} pass as they are (got QP "
                f"{coding.qp:.1f}; {trained}); a skip-below-qp of 0 restores them too"
            )
        if reason == "above_quality":
            return (
                f"JPEG finer than quality {self.above_quality} passes as it is (got "
                f"{coding.jpeg_quality}; {trained}); a skip-above-quality of 100 restores it too"
            )
        return (
            f"{coding.codec} passes as it is ({trained}); ask for weights for a coder, as with "
            "--for, to restore it too"
        )


@dataclass(frozen=True)
class Choice:
    """Weights for one input.

    Attributes:
        artifact: Artifact to open a restorer with.
        limits: Frames of the input that pass as they are.
        reason: Network, weights and input in words.
        note: Warning for the user; empty if the weights are made for the input.
    """

    artifact: Artifact
    limits: Limits
    reason: str
    note: str = ""


def limits_of(metadata: Metadata, *, any_coder: bool = False) -> Limits:
    """Return the limits that follow from what weights were trained on.

    Blind networks soften what is finer than that: at QPs below, shipped ones lost up to 3 dB on
    validation clips. HEVC has no such limit, because only its key frames tell a QP. A network that
    is told the quantiser has none either, if it was trained for the whole range of its coder.

    Args:
        metadata: Metadata of the artifact.
        any_coder: Let no frame pass for its coding.
    """
    coder, finest = metadata.coder, metadata.finest
    below_qp = finest + QP_ABOVE_CRF if coder == "h264" and finest is not None else None
    above_quality = finest if coder == "jpeg" else None
    if metadata.takes_quantiser and finest is not None:
        below_qp = None if finest <= WHOLE_RANGE_CRF else below_qp
        above_quality = None if finest >= NEVER_ABOVE_QUALITY else above_quality
    own = None if any_coder else coder
    return Limits(own, below_qp, above_quality, metadata.trained_on)


def coder_for(codec: str) -> Coder | None:
    """Return the coder whose artifacts an input shows; None if no weights are made for it.

    Args:
        codec: How the input is coded: FFmpeg's short name, or the format of a picture.

    Example:
        >>> coder_for("mjpeg"), coder_for("h264"), coder_for("png"), coder_for("mpeg4")
        ('jpeg', 'h264', None, None)
    """
    named = "jpeg" if codec == "mjpeg" else codec
    return next((coder for coder in CODERS if coder == named), None)


def shared_codec(codecs: Sequence[str]) -> str:
    """Return the codec of the inputs that weights are made for; they are restored together.

    Raises:
        ArtifactError: They need different ones.
    """
    coders = {coder: codec for codec in codecs if (coder := coder_for(codec))}
    if len(coders) > 1:
        raise ArtifactError(
            f"the inputs need weights for {' and '.join(sorted(coders))}; run them apart, or give "
            "--for with the one to take for all"
        )
    return next(iter(coders.values()), codecs[0])


def choose_weights(network: str, codec: str, asked: WeightsFor | None = None) -> Choice:
    """Find the artifact that suits an input, and say why it was taken.

    A file of the user's is taken as it is. Of the weights that ship, those for the input's coder
    are taken. Others must be asked for, because they do harm: on HEVC at fine quantisers, weights
    for JPEG lost up to 3 dB and those for H.264 up to 1.6 dB. Where none are made for the input,
    some are taken that `limits_of` lets no frame of it through to.

    Args:
        network: A network that ships with weights, or an exported file.
        codec: How the input is coded: FFmpeg's short name, or the format of a picture.
        asked: The coder to take weights for, whatever the input, and the purpose if it is not to
            view: ``h264:detect``.

    Raises:
        ArtifactError: There is no such file or network, or none for the coder asked for.
    """
    wanted = asked or coder_for(codec)
    why = f"{'as asked; ' if asked else ''}the input is {codec}"
    if is_artifact_path(network):
        artifact = read_artifact(find_artifact(network))
        trained_on, model = artifact.metadata.trained_on, artifact.metadata.model
        trained = f"trained on {trained_on}; " if trained_on else ""
        coder = coder_and_purpose(asked)[0] if asked else wanted
        fits = artifact.metadata.coder in (None, coder)
        return Choice(
            artifact,
            limits_of(artifact.metadata, any_coder=True),
            f"{model}, {network} ({trained}{why})",
            "" if fits else f"{network} was trained on {trained_on}, not {asked or codec}",
        )
    there = shipped_for(network)
    if there and wanted and not asked and wanted not in there:
        others = ", ".join(shipped_names(wanted)) or "none"
        raise ArtifactError(
            f"no {wanted} weights ship for {network}, and its {there[0]} ones would make things "
            f"worse; take another network ({others}), or insist with --for {there[0]}"
        )
    if not there:
        names = sorted({name for each in WEIGHTS_FOR for name in shipped_names(each)})
        raise ArtifactError(
            f"no weights ship for {network!r} (there are: {', '.join(names) or 'none'}); "
            "give one of those or an exported .onnx file"
        )
    artifact = read_artifact(find_artifact(network, wanted or there[0]))
    if wanted is None:
        reason = (
            f"{network}, but no weights are made for {codec}, which passes as it is; --for "
            f"{' or '.join(there)} restores it all the same"
        )
    else:
        reason = f"{network}, weights for {wanted} ({artifact.metadata.trained_on}; {why})"
    return Choice(artifact, limits_of(artifact.metadata, any_coder=asked is not None), reason)
