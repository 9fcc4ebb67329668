"""The element as GStreamer's Python loader finds it: `edgecar.gstreamer` tells how.

Only the bindings are imported here: this file is loaded whenever GStreamer looks for elements.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gi

for _name in ("Gst", "GstBase", "GstVideo"):
    gi.require_version(_name, "1.0")
from gi.repository import GLib, GObject, Gst, GstBase, GstVideo  # noqa: E402

if TYPE_CHECKING:
    from edgecar.media.frame import Colour
    from edgecar.runtime.restorer import Restorer

NAME = "edgecarrestore"
CAPS = Gst.Caps.from_string(
    "video/x-raw, format=(string){ I420, NV12 }, width=(int)[ 1, max ], height=(int)[ 1, max ], "
    "framerate=(fraction)[ 0, max ]"
)
FULL_RANGE = {GstVideo.VideoColorRange(1): True, GstVideo.VideoColorRange(2): False}


def _pad(name: str, direction: Any) -> Any:
    return Gst.PadTemplate.new(name, direction, Gst.PadPresence.ALWAYS, CAPS)


def _property(kind: Any, default: Any, text: str, *limits: int) -> Any:
    low, high = limits or (None, None)
    return GObject.Property(type=kind, default=default, minimum=low, maximum=high, blurb=text)


class EdgecarRestore(GstBase.BaseTransform):  # type: ignore[misc]  # the bindings are not typed
    """Restores frames in place; times, colour metadata and everything else pass through."""

    __gstmetadata__ = (
        "edgecar restore",
        "Filter/Effect/Video",
        "Cleans compression artifacts with a trained network",
        "edgecar",
    )
    __gsttemplates__ = (_pad("sink", Gst.PadDirection.SINK), _pad("src", Gst.PadDirection.SRC))

    network = _property(str, "edgecar-s", "A network that ships with weights, or an .onnx file")
    coder = _property(str, "h264", "Take weights for pictures coded with jpeg, h264 or hevc")
    engine = _property(str, "auto", "What runs the network, as edgecar doctor lists it")
    precision = _property(str, "", "fp32, bf16, fp16 or int8; empty: the engine's choice")
    reuse = _property(bool, True, "Compute only what a change can reach; same bytes out")
    threads = _property(int, 0, "CPU threads at most; 0: all", 0, 1024)
    quantiser = _property(int, -1, "QP 0 to 51, or JPEG quality; -1: middle of the range", -1, 100)

    _restorer: "Restorer | None" = None
    _info: Any = None
    _colour: "Colour | None" = None

    def do_start(self) -> bool:
        """Open the engine."""
        return self._tried(Gst.LibraryError.quark(), Gst.LibraryError.INIT, self._open)

    def do_stop(self) -> bool:
        """Close the engine."""
        restorer, self._restorer = self._restorer, None
        if restorer is not None:
            restorer.close()
        return True

    def do_set_caps(self, caps: Any, _caps_out: Any) -> bool:
        """Take note of size, format and colour, which may change on the way."""
        return self._tried(Gst.StreamError.quark(), Gst.StreamError.FORMAT, self._negotiate, caps)

    def do_transform_ip(self, buffer: Any) -> Any:
        """Restore one frame."""
        domain, code = Gst.StreamError.quark(), Gst.StreamError.FAILED
        done = self._tried(domain, code, self._restore, buffer)
        return Gst.FlowReturn.OK if done else Gst.FlowReturn.ERROR

    def _open(self) -> None:
        try:
            from edgecar.gstreamer.filter import restorer_from
        except ImportError as error:
            version = ".".join(map(str, sys.version_info[:2]))
            raise ImportError(
                f"edgecar cannot be imported by GStreamer's Python {version} ({error}); export "
                f"what 'python -m edgecar.gstreamer' prints, from an edgecar for {version}"
            ) from error
        self._restorer = restorer_from(
            self.network,
            self.coder,
            self.engine,
            self.precision,
            self.reuse,
            self.threads,
            self.quantiser,
        )
        Gst.info(f"{self._restorer.metadata.model} on {self._restorer.engine.info}")

    def _negotiate(self, caps: Any) -> None:
        from edgecar.media.frame import Colour

        info = GstVideo.VideoInfo.new_from_caps(caps)
        colours = info.colorimetry
        self._info = info
        self._colour = Colour(
            FULL_RANGE.get(colours.range),
            GstVideo.VideoColorMatrix.to_iso(colours.matrix),
            GstVideo.VideoColorPrimaries.to_iso(colours.primaries),
            GstVideo.VideoTransferFunction.to_iso(colours.transfer),
        )

    def _restore(self, buffer: Any) -> None:
        from edgecar.gstreamer.filter import PLANES, Layout, restore

        assert self._restorer is not None and self._colour is not None  # noqa: PT018  # for mypy
        info, pixels = self._info, GstVideo.VideoFormat.to_string(self._info.finfo.format)
        # Decoders may pad lines and planes; then the buffer says so, and the caps do not.
        place = GstVideo.buffer_get_video_meta(buffer) or info
        layout = Layout(
            pixels,
            (info.height, info.width),
            tuple(place.offset[: PLANES[pixels]]),
            tuple(place.stride[: PLANES[pixels]]),
            self._colour,
        )
        with buffer.map(Gst.MapFlags.READ | Gst.MapFlags.WRITE) as mapped:
            restore(self._restorer, mapped.data, layout)

    def _tried(self, domain: int, code: Any, work: Callable[..., None], *arguments: Any) -> bool:
        """Do something; a failure becomes one line on the bus: the bindings would swallow it."""
        try:
            work(*arguments)
        except Exception as error:
            text = " ".join(str(error).split()) or type(error).__name__
            fault = GLib.Error.new_literal(domain, text, int(code))
            self.post_message(Gst.Message.new_error(self, fault, type(error).__name__))
            return False
        return True


GObject.type_register(EdgecarRestore)
__gstelementfactory__ = (NAME, Gst.Rank.NONE, EdgecarRestore)
