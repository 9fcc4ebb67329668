"""Runs pipelines with the system's Python and saves what passed, for tests to look at.

``launch PIPELINE FILE`` saves what came to the sinks named ``before`` and ``after``, ``push FILE``
sends padded buffers of several sizes and formats through, ``seek FILE`` starts over in the middle,
``fail`` has the engine fail, ``late`` has GStreamer come after numpy.
"""

import argparse
import sys

# Here and nowhere else, as pytest imports every file under tests with a Python that lacks `gi`.
SECONDS = 60
PUSHED = [("I420", 322, 242), ("NV12", 322, 242), ("NV12", 65, 49), ("I420", 65, 49)]
EACH = 3


def planes_of(sample, GstVideo, Gst):  # noqa: N803
    """Y, U and V of a sample, read line by line."""
    import numpy as np

    buffer = sample.get_buffer()
    info = GstVideo.VideoInfo.new_from_caps(sample.get_caps())
    place = GstVideo.buffer_get_video_meta(buffer) or info
    _, mapped = buffer.map(Gst.MapFlags.READ)
    data = bytes(mapped.data)
    buffer.unmap(mapped)
    rows, columns = (info.height + 1) // 2, (info.width + 1) // 2

    def lines(plane, count, length):
        start, step = place.offset[plane], place.stride[plane]
        text = b"".join(data[start + n * step :][:length] for n in range(count))
        return np.frombuffer(text, np.uint8).reshape(count, length)

    y = lines(0, info.height, info.width)
    if info.finfo.name == "NV12":
        pairs = lines(1, rows, 2 * columns)
        return y, pairs[:, ::2], pairs[:, 1::2]
    return y, lines(1, rows, columns), lines(2, rows, columns)


class Run:
    """A pipeline and what its sinks received."""

    def __init__(self, text):
        import gi

        for name in ("Gst", "GstApp", "GstVideo"):
            gi.require_version(name, "1.0")
        from gi.repository import Gst, GstApp, GstVideo  # noqa: F401  # the second adds methods

        Gst.init(None)
        self.Gst, self.GstVideo = Gst, GstVideo
        self.pipeline = Gst.parse_launch(text)
        self.saved = {}

    def __getitem__(self, name):
        return self.pipeline.get_by_name(name)

    def play(self):
        self.pipeline.set_state(self.Gst.State.PLAYING)

    def pull(self, name, most=None):
        """Save samples of a sink up to the end of the stream."""
        sink, count = self[name], 0
        while most is None or count < most:
            sample = sink.try_pull_sample(SECONDS * self.Gst.SECOND)
            if sample is None:
                break
            number = sum(key.startswith(f"{name} y") for key in self.saved)
            planes = planes_of(sample, self.GstVideo, self.Gst)
            for letter, plane in zip("yuv", planes, strict=True):
                self.saved[f"{name} {letter} {number:02}"] = plane
            self.saved[f"{name} caps {number:02}"] = sample.get_caps().to_string()
            self.saved[f"{name} pts {number:02}"] = sample.get_buffer().pts
            count += 1

    def end(self, path=None):
        """Save, and print what went wrong."""
        import numpy as np

        bus = self.pipeline.get_bus()
        while message := bus.pop_filtered(self.Gst.MessageType.ERROR):
            fault, _ = message.parse_error()
            sys.stdout.write(f"error: {fault.message}\n")
        self.pipeline.set_state(self.Gst.State.NULL)
        if path:
            np.savez(path, **self.saved)


def launch(text, path):
    run = Run(text)
    run.play()
    for name in ("before", "after"):
        if run[name]:
            run.pull(name)
    run.end(path)


def padded(run, pixels, width, height, seed):
    """A buffer whose lines and planes lie apart, with 7 between them, and its caps."""
    import numpy as np

    Gst, GstVideo = run.Gst, run.GstVideo  # noqa: N806
    kind = getattr(GstVideo.VideoFormat, pixels)
    rows, columns = (height + 1) // 2, (width + 1) // 2
    chroma = [columns, columns] if pixels == "I420" else [2 * columns]
    lengths, counts = [width, *chroma], [height, *[rows] * len(chroma)]
    strides = [length + 13 for length in lengths]
    offsets, end = [], 5
    for count, stride in zip(counts, strides, strict=True):
        offsets.append(end)
        end += count * stride + 11
    data = np.full(end, 7, np.uint8)
    rng = np.random.default_rng(seed)
    for offset, stride, count, length in zip(offsets, strides, counts, lengths, strict=True):
        for row in range(count):
            start = offset + row * stride
            data[start : start + length] = rng.integers(0, 256, length)
    buffer = Gst.Buffer.new_wrapped(data.tobytes())
    fill = [0] * (4 - len(offsets))
    GstVideo.buffer_add_video_meta_full(
        buffer, GstVideo.VideoFrameFlags.NONE, kind, width, height, len(offsets),
        offsets + fill, strides + fill,
    )  # fmt: skip
    caps = Gst.Caps.from_string(
        f"video/x-raw,format={pixels},width={width},height={height},framerate=25/1,"
        "colorimetry=bt709"
    )
    return buffer, caps


def push(path):
    run = Run(
        "appsrc name=source format=time is-live=false ! tee name=t "
        "t. ! queue max-size-buffers=0 ! appsink name=before sync=false "
        "t. ! queue max-size-buffers=0 ! edgecarrestore network=edgecar-xs threads=1 "
        "! appsink name=after sync=false"
    )
    run.play()
    seed = 0
    for pixels, width, height in PUSHED:
        for _ in range(EACH):
            buffer, caps = padded(run, pixels, width, height, seed // 2)  # each second again
            buffer.pts = seed * run.Gst.SECOND // 25
            run["source"].push_sample(run.Gst.Sample.new(buffer, caps, None, None))
            seed += 1
    run["source"].emit("end-of-stream")
    for name in ("before", "after"):
        run.pull(name)
    run.end(path)


def seek(path):
    run = Run(
        "videotestsrc num-buffers=30 pattern=ball ! video/x-raw,format=I420,width=96,height=64 "
        "! edgecarrestore network=edgecar-xs threads=1 ! appsink name=after sync=false "
        "max-buffers=1"
    )
    run.play()
    run.pull("after", 5)
    flags = run.Gst.SeekFlags.FLUSH
    assert run.pipeline.seek_simple(run.Gst.Format.TIME, flags, 0)
    run.pull("after")
    run.end(path)


SHORT = (
    "videotestsrc num-buffers=9 ! video/x-raw,format=I420,width=96,height=64 "
    "! edgecarrestore network=edgecar-xs threads=1 ! appsink name=after sync=false"
)


def fail():
    run = Run(SHORT)
    import edgecar.runtime.restorer as module
    from edgecar.errors import EngineError

    restore = module.Restorer.restore

    def fails(self, frame, *arguments):
        if self.stats.frames == 3:
            raise EngineError("no memory left;\ntake a smaller tile")
        return restore(self, frame, *arguments)

    module.Restorer.restore = fails
    run.play()
    run.pull("after")
    sys.stdout.write(f"frames: {sum(' y ' in key for key in run.saved)}\n")
    run.end()


def late():
    import numpy  # noqa: F401

    run = Run(SHORT)
    run.play()
    if run.pipeline.get_state(0)[1] == run.Gst.State.PLAYING:
        run.pull("after")
    run.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["launch", "push", "seek", "fail", "late"])
    parser.add_argument("arguments", nargs="*")
    given = parser.parse_args()
    globals()[given.what](*given.arguments)
