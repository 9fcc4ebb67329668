"""Weights are chosen by what the input is coded with, and never silently."""

from itertools import product

import pytest

from edgecar.errors import ArtifactError
from edgecar.runtime.choice import choose_weights, coder_for
from edgecar.runtime.restorer import Restorer
from edgecar.spec import CODERS


@pytest.mark.parametrize(
    ("codec", "coder"),
    [
        ("jpeg", "jpeg"),
        ("mjpeg", "jpeg"),
        ("h264", "h264"),
        ("hevc", "hevc"),
        *((name, "jpeg") for name in ("png", "bmp", "tiff", "webp")),
        *((name, "h264") for name in ("mpeg4", "vp9", "av1", "rawvideo", "something new")),
    ],
)
def test_coder_whose_artifacts_an_input_shows(codec, coder) -> None:
    assert coder_for(codec) == coder


@pytest.mark.parametrize("codec", ["mjpeg", "h264", "hevc"])
def test_weights_for_the_coder_of_the_input_are_taken_without_a_note(ship, codec) -> None:
    ship("edgecar-xs", *CODERS)
    choice = choose_weights("edgecar-xs", codec)
    assert choice.artifact.facts.coder == coder_for(codec)
    assert choice.note == ""
    assert choice.reason.startswith(f"edgecar-xs, weights for {coder_for(codec)} (")
    assert choice.reason.endswith(f"; the input is {codec})")


def test_reason_names_network_weights_and_input(ship) -> None:
    ship("edgecar-s", "h264")
    reason = choose_weights("edgecar-s", "h264").reason
    assert reason == "edgecar-s, weights for h264 (h264 crf 29-47; the input is h264)"


@pytest.mark.parametrize(
    ("codec", "coder", "said"),
    [
        ("png", "jpeg", "the input is png, which was probably JPEG before"),
        ("mpeg4", "h264", "the input is mpeg4, for which no weights are made"),
    ],
)
def test_guess_is_said(ship, codec, coder, said) -> None:
    ship("edgecar-xs", *CODERS)
    choice = choose_weights("edgecar-xs", codec)
    assert choice.artifact.facts.coder == coder
    assert said in choice.reason


@pytest.mark.parametrize(
    ("there", "codec"),
    [
        (("jpeg",), "h264"),
        (("jpeg",), "vp9"),
        (("h264", "hevc"), "png"),
        (("h264",), "hevc"),
        (("hevc",), "h264"),
    ],
)
def test_weights_that_would_do_harm_are_refused_unless_asked_for(ship, there, codec) -> None:
    ship("edgecar-xs", *there)
    ship("edgecar-s", *CODERS)
    wanted = coder_for(codec)
    with pytest.raises(
        ArtifactError,
        match=rf"no {wanted} weights .* \(edgecar-s\), or insist with --for {there[0]}",
    ):
        choose_weights("edgecar-xs", codec)
    assert choose_weights("edgecar-xs", codec, there[0]).artifact.facts.coder == there[0]


@pytest.mark.parametrize(("asked", "codec"), [*product(CODERS, ["png", "h264", "mpeg4"])])
def test_what_is_asked_for_is_taken_whatever_the_input(ship, asked, codec) -> None:
    ship("edgecar-xs", *CODERS)
    choice = choose_weights("edgecar-xs", codec, asked)
    assert choice.artifact.facts.coder == asked
    assert choice.note == ""
    assert choice.reason.endswith(f"; as asked; the input is {codec})")


def test_what_is_asked_for_and_does_not_ship_is_refused(ship) -> None:
    ship("edgecar-xs", "jpeg")
    with pytest.raises(ArtifactError, match=r"no hevc weights ship for 'edgecar-xs' \(there are: "):
        choose_weights("edgecar-xs", "h264", "hevc")


def test_unknown_network_is_answered_with_all_there_are(ship) -> None:
    ship("edgecar-xs", "jpeg", "h264")
    ship("msfan", "hevc")
    with pytest.raises(
        ArtifactError, match=r"no weights ship for 'nosuch' \(there are: edgecar-xs, msfan\)"
    ):
        choose_weights("nosuch", "h264")


# Files.


@pytest.mark.parametrize(
    ("trained_on", "codec", "noted"),
    [
        ("jpeg 10-40", "jpeg", False),
        ("jpeg 10-40", "png", False),
        ("jpeg 10-40", "h264", True),
        ("h264 crf 29-47", "h264", False),
        ("h264 crf 29-47", "vp9", False),
        ("h264 crf 29-47", "hevc", True),
        ("", "h264", False),
        ("my camera", "h264", False),
    ],
)
def test_file_is_taken_as_it_is_and_a_misfit_is_noted(
    tmp_path, write_artifact, trained_on, codec, noted
) -> None:
    path = write_artifact(tmp_path / "mine.onnx", trained_on)
    choice = choose_weights(str(path), codec)
    assert choice.artifact.path == path
    note = f"{path} was trained on {trained_on}, not {coder_for(codec)}"
    assert choice.note == (note if noted else "")
    trained = f"trained on {trained_on}; " if trained_on else ""
    assert choice.reason.startswith(f"edgecar-xs, {path} ({trained}the input is {codec}")


def test_file_is_held_against_what_is_asked_for(tmp_path, write_artifact) -> None:
    path = str(write_artifact(tmp_path / "mine.onnx", "jpeg 10-40"))
    assert choose_weights(path, "h264", "jpeg").note == ""
    assert "not hevc" in choose_weights(path, "jpeg", "hevc").note


def test_missing_file_is_refused() -> None:
    with pytest.raises(ArtifactError, match=r"absent\.onnx: no such file"):
        choose_weights("absent.onnx", "h264")


def test_restorer_of_an_unknown_coder_is_refused() -> None:
    with pytest.raises(ArtifactError, match="made for 'mpeg4'; choose jpeg, h264, hevc"):
        Restorer("edgecar-s", codec="mpeg4")
