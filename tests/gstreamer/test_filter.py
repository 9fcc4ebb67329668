"""Pictures restored where they lie, without GStreamer."""

import numpy as np
import pytest

from edgecar.artifact import Artifact, Metadata
from edgecar.engines.fake import FakeEngine
from edgecar.errors import ArtifactError, MediaError, SettingsError
from edgecar.gstreamer.filter import Layout, restore, restorer_from
from edgecar.media.frame import Colour
from edgecar.runtime.restorer import Restorer

LAYOUTS = {
    "I420": Layout("I420", (5, 7), (2, 60, 80), (10, 6, 5), Colour()),
    "NV12": Layout("NV12", (5, 7), (2, 60), (10, 9), Colour()),
}


@pytest.fixture
def data():
    return bytearray(np.random.default_rng(0).integers(0, 256, 120, np.uint8))


@pytest.mark.parametrize("pixels", LAYOUTS)
def test_planes_are_views_of_the_buffer(pixels, data):
    frame = LAYOUTS[pixels].frame(memoryview(data))
    assert frame.y[3, 4] == data[2 + 3 * 10 + 4]
    u, v = (60 + 2 * 6 + 3, 80 + 2 * 5 + 3) if pixels == "I420" else (60 + 18 + 6, 60 + 18 + 7)
    assert (frame.u[2, 3], frame.v[2, 3]) == (data[u], data[v])
    frame.v[2, 3] ^= 255
    assert frame.v[2, 3] == data[v]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", LAYOUTS)
def test_only_the_picture_changes(pixels, channels, data):
    layout, before = LAYOUTS[pixels], bytes(data)
    metadata = Metadata("none", channels, 2, 1, "local", 8, "fp32", "", "", 0.0, 0.0)
    engine = FakeEngine(lambda batch: 1 - batch, channels)
    restorer = Restorer(Artifact(metadata, b""), engine)
    expected = restorer.restore(layout.frame(memoryview(before)))
    restore(restorer, memoryview(data), layout)
    shown = bytearray(before)
    for plane in "yuv":
        getattr(layout.frame(memoryview(shown)), plane)[:] = getattr(expected, plane)
    assert bytes(data) == bytes(shown) != before


def test_what_is_no_whole_picture_of_a_known_format_is_refused(data):
    for pixels, layout in LAYOUTS.items():
        words = rf"84 bytes ends before its {pixels} picture of 7x5"
        with pytest.raises(MediaError, match=words):
            layout.frame(memoryview(data[:84]))
    with pytest.raises(MediaError, match="got YUY2 pixels; convert to I420 or NV12"):
        Layout("YUY2", (5, 7), (0,), (16,), Colour()).frame(memoryview(data))


def test_properties_are_checked_and_weights_are_those_for_the_coder():
    with pytest.raises(SettingsError, match="coder is 'vp9'; give one of jpeg"):
        restorer_from("edgecar-xs", "vp9", "auto", "", True, 0, -1)
    with pytest.raises(SettingsError, match="precision is 'fp7'; give one of fp32"):
        restorer_from("edgecar-xs", "h264", "auto", "fp7", True, 0, -1)
    with pytest.raises(ArtifactError, match="'yolo'"):
        restorer_from("yolo", "h264", "auto", "", True, 0, -1)
    with restorer_from("edgecar-xs", "jpeg", "auto", "", True, 1, -1) as restorer:
        assert restorer.metadata.coder == "jpeg"


def test_the_element_tells_the_network_a_quantiser_or_refuses():
    with pytest.raises(SettingsError, match="got quantiser 99"):
        restorer_from("edgecar-xs", "h264", "auto", "", True, 1, 99)
