"""Which weights suit an input."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgecar.artifact import (
    Artifact,
    find_artifact,
    is_artifact_path,
    read_artifact,
    shipped_coders,
    shipped_names,
)
from edgecar.errors import ArtifactError
from edgecar.media.pictures import PICTURE_FORMATS
from edgecar.spec import CODERS, Coder

SAME: dict[str, Coder] = {"mjpeg": "jpeg", **{coder: coder for coder in CODERS}}
"""Codings that weights are made for, by the names that inputs give them."""

PICTURES = set(PICTURE_FORMATS.values())


@dataclass(frozen=True)
class Choice:
    """Weights for one input.

    Attributes:
        artifact: What to open a restorer with.
        reason: Network, weights and input in words.
        note: What the user must be told besides; empty if the weights are made for the input.
    """

    artifact: Artifact
    reason: str
    note: str = ""


def coder_for(codec: str) -> Coder:
    """The coder whose artifacts an input most likely shows.

    Args:
        codec: How the input is coded: FFmpeg's short name, or the format of a picture.

    Example:
        >>> coder_for("mjpeg"), coder_for("png"), coder_for("mpeg4")
        ('jpeg', 'jpeg', 'h264')
    """
    return SAME.get(codec, "jpeg" if codec in PICTURES else "h264")


def shared_codec(codecs: Sequence[str]) -> str:
    """The codec of inputs that are restored with the same weights.

    Raises:
        ArtifactError: They need different ones.
    """
    coders = {coder_for(codec): codec for codec in codecs}
    if len(coders) > 1:
        raise ArtifactError(
            f"the inputs need weights for {' and '.join(sorted(coders))}; run them apart, or give "
            "--for with the one to take for all"
        )
    return codecs[0]


def choose_weights(network: str, codec: str, asked: Coder | None = None) -> Choice:
    """Find the artifact that suits an input, and say why it was taken.

    A file of the user's is taken as it is. Of the weights that ship, those for the input's coder
    are taken. Others must be asked for, because they do harm: on HEVC at fine quantisers, weights
    for JPEG lost up to 3 dB and those for H.264 up to 1.6 dB.

    Args:
        network: A network that ships with weights, or an exported file.
        codec: How the input is coded: FFmpeg's short name, or the format of a picture.
        asked: The coder to take weights for, whatever the input.

    Raises:
        ArtifactError: There is no such file or network, or none for the coder asked for.
    """
    wanted, why = asked or coder_for(codec), _input_in_words(codec, asked)
    if is_artifact_path(network):
        artifact = read_artifact(find_artifact(network))
        facts = artifact.facts
        trained = f"trained on {facts.trained_on}; " if facts.trained_on else ""
        unfit = facts.coder not in (None, wanted)
        return Choice(
            artifact,
            reason=f"{facts.model}, {network} ({trained}{why})",
            note=f"{network} was trained on {facts.trained_on}, not {wanted}" if unfit else "",
        )
    if wanted not in shipped_coders(network) and not asked:
        raise ArtifactError(_none_ship(network, wanted))
    artifact = read_artifact(find_artifact(network, wanted))
    return Choice(artifact, f"{network}, weights for {wanted} ({artifact.facts.trained_on}; {why})")


def _input_in_words(codec: str, asked: Coder | None) -> str:
    if asked:
        return f"as asked; the input is {codec}"
    if codec in SAME:
        return f"the input is {codec}"
    if codec in PICTURES:
        return f"the input is {codec}, which was probably JPEG before"
    return f"the input is {codec}, for which no weights are made"


def _none_ship(network: str, wanted: Coder) -> str:
    there = shipped_coders(network)
    if there:
        others = ", ".join(shipped_names(wanted)) or "none"
        return (
            f"no {wanted} weights ship for {network}, and its {there[0]} ones would make things "
            f"worse; take another network ({others}), or insist with --for {there[0]}"
        )
    names = sorted({name for coder in CODERS for name in shipped_names(coder)})
    return (
        f"no weights ship for {network!r} (there are: {', '.join(names) or 'none'}); "
        "give one of those or an exported .onnx file"
    )
