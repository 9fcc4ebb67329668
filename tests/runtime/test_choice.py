"""Weights are chosen by what the input is coded with, and never silently."""

from dataclasses import replace

import pytest

from edgecar.errors import ArtifactError
from edgecar.media.frame import Coding
from edgecar.runtime.choice import choose_weights, coder_for, limits_of
from edgecar.runtime.restorer import Restorer
from edgecar.spec import CODERS, WEIGHTS_FOR

MADE_FOR = {"jpeg": "jpeg", "mjpeg": "jpeg", "h264": "h264", "hevc": "hevc"}
NONE_MADE = ("png", "bmp", "webp", "gif", "jpeg2000", "", "mpeg4", "mpeg2video", "vp9", "rawvideo")


def test_coder_whose_artifacts_an_input_shows() -> None:
    expected = {**MADE_FOR, **dict.fromkeys(NONE_MADE)}
    assert {codec: coder_for(codec) for codec in expected} == expected


@pytest.mark.parametrize("codec", ["mjpeg", "h264", "hevc"])
def test_weights_for_the_coder_of_the_input_are_taken_without_a_note(ship, codec) -> None:
    ship("edgecar-xs", *CODERS)
    choice = choose_weights("edgecar-xs", codec)
    coder, trained_on = coder_for(codec), choice.artifact.metadata.trained_on
    assert choice.artifact.metadata.coder == coder
    assert choice.note == ""
    assert choice.reason == (
        f"edgecar-xs, weights for {coder} ({trained_on}; the input is {codec})"
    )


@pytest.mark.parametrize("there", [CODERS, ("h264",), ("jpeg",)])
@pytest.mark.parametrize("codec", ["png", "mpeg4", "something new"])
def test_what_no_weights_are_made_for_passes_and_that_is_said(ship, there, codec) -> None:
    ship("edgecar-xs", *there)
    choice = choose_weights("edgecar-xs", codec)
    assert choice.limits.reason_to_pass(Coding(codec=codec)) == "other_coder"
    said = f"no weights are made for {codec}, which passes as it is; --for {' or '.join(there)}"
    assert said in choice.reason


@pytest.mark.parametrize(
    ("trained_on", "coding", "reason"),
    [
        ("jpeg 10-40", Coding(jpeg_quality=40, codec="jpeg"), None),
        ("jpeg 10-40", Coding(jpeg_quality=41, codec="jpeg"), "above_quality"),
        ("jpeg 10-40", Coding(jpeg_quality=90, codec="mjpeg"), "above_quality"),
        ("jpeg 10-80", Coding(jpeg_quality=75, codec="mjpeg"), None),
        ("jpeg 10-40", Coding(codec="mjpeg"), None),
        ("jpeg 10-40", Coding(qp=40, codec="h264"), "other_coder"),
        ("h264 crf 22-48", Coding(qp=0, codec="h264"), "below_qp"),
        ("h264 crf 22-48", Coding(qp=-11, codec="h264"), "below_qp"),
        ("h264 crf 22-48", Coding(qp=27.9, codec="h264"), "below_qp"),
        ("h264 crf 22-48", Coding(qp=28, codec="h264"), None),
        ("h264 crf 12-48", Coding(qp=20, codec="h264"), None),
        ("h264 crf 22-48", Coding(codec="h264"), None),
        ("h264 crf 22-48", Coding(codec="hevc"), "other_coder"),
        ("hevc qp 20-38", Coding(codec="hevc"), None),
        ("h264 crf 22-48", Coding(), None),
        ("my camera", Coding(jpeg_quality=99, codec="jpeg"), None),
        ("", Coding(qp=1, codec="h264"), None),
        ("h264", Coding(qp=1, codec="h264"), None),
    ],
)
def test_frames_that_weights_were_not_trained_for_pass(exported, trained_on, coding, reason):
    limits = limits_of(replace(exported("edgecar-xs").metadata, trained_on=trained_on))
    assert limits.reason_to_pass(coding) == reason
    assert limits.but(0, 100).reason_to_pass(coding) in (None, "other_coder")
    if reason:
        assert len(limits.in_words(reason, coding).splitlines()) == 1


def test_limits_that_are_given_come_before_those_of_the_weights(exported) -> None:
    metadata = replace(exported("edgecar-xs").metadata, trained_on="h264 crf 22-48")
    limits = limits_of(metadata).but(35, 50)
    assert limits.reason_to_pass(Coding(qp=34, codec="h264")) == "below_qp"
    assert limits.reason_to_pass(Coding(qp=36, codec="h264")) is None
    anything = limits_of(metadata, any_coder=True).but(None, 50)
    assert anything.reason_to_pass(Coding(jpeg_quality=60, codec="mjpeg")) == "above_quality"


@pytest.mark.parametrize(("there", "codec"), [("jpeg", "h264"), ("h264", "hevc"), ("hevc", "h264")])
def test_weights_that_would_do_harm_are_refused_unless_asked_for(ship, there, codec) -> None:
    ship("edgecar-xs", there)
    ship("edgecar-s", *CODERS)
    said = rf"no {codec} weights .* \(edgecar-s\), or insist with --for {there}"
    with pytest.raises(ArtifactError, match=said):
        choose_weights("edgecar-xs", codec)
    assert choose_weights("edgecar-xs", codec, there).artifact.metadata.coder == there


@pytest.mark.parametrize("asked", WEIGHTS_FOR)
@pytest.mark.parametrize("codec", ["png", "h264", "mpeg4"])
def test_what_is_asked_for_is_taken_whatever_the_input(ship, asked, codec) -> None:
    ship("edgecar-xs", *WEIGHTS_FOR)
    choice = choose_weights("edgecar-xs", codec, asked)
    assert choice.artifact.metadata.weights_for == asked
    assert choice.note == ""
    assert choice.reason.endswith(f"; as asked; the input is {codec})")
    assert choice.limits.reason_to_pass(Coding(codec=codec)) is None


@pytest.mark.parametrize(
    ("network", "codec", "asked", "said"),
    [
        ("edgecar-xs", "h264", "hevc", r"no hevc weights ship for 'edgecar-xs' \(there are: "),
        ("edgecar-xs", "h264", "h264:detect", r"\(there are: none; it has some for jpeg, h264\)"),
        ("nosuch", "h264", None, r"no weights ship for 'nosuch' \(there are: edgecar-xs, msfan\)"),
        ("absent.onnx", "h264", None, r"absent\.onnx: no such file"),
    ],
)
def test_what_does_not_exist_is_refused(ship, network, codec, asked, said) -> None:
    ship("edgecar-xs", "jpeg", "h264")
    ship("msfan", "hevc")
    with pytest.raises(ArtifactError, match=said):
        choose_weights(network, codec, asked)


@pytest.mark.parametrize(
    ("trained_on", "codec", "asked", "misfit"),
    [
        ("jpeg 10-40", "jpeg", None, ""),
        ("jpeg 10-40", "png", None, "png"),
        ("jpeg 10-40", "h264", "jpeg", ""),
        ("jpeg 10-40", "jpeg", "hevc", "hevc"),
        ("jpeg 10-40", "h264", "h264:detect", "h264:detect"),
        ("h264 crf 29-47", "jpeg", "h264:detect", ""),
        ("h264 crf 29-47", "h264", None, ""),
        ("h264 crf 29-47", "vp9", None, "vp9"),
        ("", "h264", None, ""),
        ("my camera", "h264", None, ""),
    ],
)
def test_file_is_taken_as_it_is_and_a_misfit_is_noted(
    tmp_path, write_artifact, trained_on, codec, asked, misfit
) -> None:
    path = write_artifact(tmp_path / "mine.onnx", trained_on)
    choice = choose_weights(str(path), codec, asked)
    assert choice.artifact.path == path
    assert choice.note == (f"{path} was trained on {trained_on}, not {misfit}" if misfit else "")
    trained = f"trained on {trained_on}; " if trained_on else ""
    why = f"as asked; the input is {codec}" if asked else f"the input is {codec}"
    assert choice.reason == f"edgecar-xs, {path} ({trained}{why})"


def test_restorer_of_an_unknown_coder_is_refused() -> None:
    with pytest.raises(ArtifactError, match="made for 'mpeg4'; choose jpeg, h264, hevc"):
        Restorer("edgecar-s", codec="mpeg4")
