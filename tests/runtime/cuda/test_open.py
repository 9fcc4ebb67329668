"""Plans are found by what they were built from, and run like any engine."""

import json
import shutil
import sys
from dataclasses import replace

import av
import numpy as np
import onnx
import pytest

from edgecar.artifact import read_artifact
from edgecar.engines.fake import FakeEngine
from edgecar.engines.plan import plan_path, sidecar_of
from edgecar.engines.select import open_engine
from edgecar.engines.targets import target_named
from edgecar.engines.tiles import OnnxRuntimeTiles
from edgecar.engines.trt_build import settings_for, write_plan
from edgecar.engines.trt_library import load_library
from edgecar.errors import AnswerError, EngineError, WindowError
from edgecar.media.frame import Frame, chroma_size
from edgecar.metadata import write_metadata
from edgecar.runtime.cuda import open as opening
from edgecar.runtime.cuda.open import find_plan, open_on_gpu
from edgecar.runtime.restorer import Restorer
from edgecar.runtime.stream_cache import Reuse
from tests.cli.conftest import edgecar  # noqa: F401  # a fixture
from tests.runtime.cuda.host_device import HostDevice, ReferenceTiles

pytest.importorskip("tensorrt_rtx")


def built(folder, artifact):
    """A folder with a graph and its plan."""
    model = onnx.load_model_from_string(artifact.onnx)
    write_metadata(model, artifact.metadata)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    artifact, target = read_artifact(folder / "net.onnx"), target_named("rtx")
    settings = settings_for(artifact, target, tile=(64, 64), batch=2, level=0)
    path = plan_path(folder / "net.onnx", target)
    write_plan(artifact, path, load_library("tensorrt-rtx"), target, settings, None)
    return folder


@pytest.fixture(scope="module")
def folder(exported, tmp_path_factory):
    """Without a known answer: functions stand for the plan."""
    network = exported("edgecar-xs")
    plain = replace(network, metadata=replace(network.metadata, known_answer=None))
    return built(tmp_path_factory.mktemp("plans"), plain)


@pytest.fixture
def artifact(folder, tmp_path, monkeypatch):
    """The graph and its plan, in a folder that is not the current one."""
    shutil.copytree(folder, tmp_path / "models")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return read_artifact(tmp_path / "models" / "net.onnx")


def refusal(artifact, library="tensorrt-rtx", precision=None) -> str:
    with pytest.raises(EngineError) as refused:
        open_on_gpu(artifact, library, precision)
    return str(refused.value)


def test_plan_is_found_beside_its_graph_or_here(artifact, tmp_path) -> None:
    beside = artifact.path.with_name("net.rtx.plan")
    assert find_plan(artifact, "tensorrt-rtx") == beside
    for file in (beside, sidecar_of(beside)):
        file.rename(tmp_path / "here" / file.name)
    assert find_plan(artifact, "tensorrt-rtx") == tmp_path / "here" / "net.rtx.plan"


def test_what_is_no_plan_of_the_graph_is_refused(artifact, monkeypatch) -> None:
    assert "no tensorrt plan of" in refusal(artifact, "tensorrt")
    assert "got --precision int8, but the plan computes" in refusal(artifact, precision="int8")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "pycuda.driver", None)
        without.setitem(sys.modules, "pycuda", None)
        assert "needs pycuda, which is not installed; pip install pycuda" in refusal(artifact)
    beside = artifact.path.with_name("net.rtx.plan")
    other = beside.with_name("more.plan")
    shutil.copy(beside, other)
    shutil.copy(sidecar_of(beside), sidecar_of(other))
    assert "2 tensorrt-rtx plans" in refusal(artifact)
    for spoilt in (beside, other):
        sidecar_of(spoilt).write_text("{}")
    assert "no tensorrt-rtx plan" in refusal(artifact)


def test_plan_of_another_graph_is_none(artifact, exported) -> None:
    artifact.path.write_bytes(exported("edgecar-s").onnx)
    said = refusal(read_artifact(artifact.path))
    assert "edgecar build " in said
    assert "--library tensorrt-rtx" in said


@pytest.fixture
def device(request, monkeypatch) -> HostDevice:
    """The CPU for the GPU, and a network that halves for every plan."""
    device = HostDevice(shared=getattr(request, "param", False))
    plan_is(device, FakeEngine(lambda batch: batch * np.float32(0.5)), monkeypatch)
    return device


def plan_is(device, engine, monkeypatch) -> None:
    """Put an engine, and the CPU for the GPU, in the place of every plan."""
    tiles = lambda _path: ReferenceTiles(device, engine, (2, 64, 64))  # noqa: E731
    monkeypatch.setattr(opening, "CudaDevice", lambda: device)
    monkeypatch.setattr(opening, "TensorrtTiles", tiles)


def halved(frame):
    return np.rint(frame * np.float32(1 / 255) * np.float32(0.5) * 255).astype(np.uint8)


def clip(frames: int = 4):
    random = np.random.default_rng(5)
    frame = random.integers(0, 256, (90, 130), np.uint8)
    made = [frame]
    for _ in range(frames - 1):
        frame = frame.copy()
        frame[:8, :8] ^= 3
        made.append(frame)
    return made


def test_a_plan_that_computes_something_else_is_refused(exported, tmp_path, monkeypatch) -> None:
    network, device = exported("edgecar-xs"), HostDevice()
    artifact = read_artifact(built(tmp_path, network) / "net.onnx")
    assert artifact.metadata.known_answer == network.metadata.known_answer
    with open_engine(artifact, "onnxruntime", threads=1) as truth:
        plan_is(device, FakeEngine(truth.run, align_px=2, takes_quantiser=True), monkeypatch)
        with open_on_gpu(artifact, "tensorrt-rtx", None) as engine:
            assert engine.check.passed
        darker = lambda *given: truth.run(*given) * np.float32(0.999)  # noqa: E731
        plan_is(device, FakeEngine(darker, align_px=2, takes_quantiser=True), monkeypatch)
        with pytest.raises(AnswerError, match="on its known answer; this machine computes it"):
            open_on_gpu(artifact, "tensorrt-rtx", None)


def test_engines_do_not_open_plans_themselves(artifact) -> None:
    with pytest.raises(EngineError, match="open it through a Restorer"):
        open_engine(artifact, "tensorrt")


@pytest.mark.parametrize("device", [False, True], indirect=True)
@pytest.mark.parametrize(
    ("reuse", "tiles"),
    [(True, 9), (False, 24), (Reuse(verify_every=2), 9), (Reuse(tolerance=1), 9)],
    ids=str,
)
def test_restorer_runs_a_plan_by_the_engines_name(reuse, tiles, artifact, device) -> None:
    """One tile of six sees the change; with a tolerance they are cut on the CPU."""
    with Restorer(artifact, "tensorrt-rtx", reuse=reuse) as restorer:
        for frame in clip():
            assert (restorer.luma(frame) == halved(frame)).all()
        assert restorer.stats.frames == 4
        assert restorer.stats.windows_run == tiles
        assert restorer.stats.pixels_read == tiles * 64 * 64
        if reuse is True:
            assert device.done.count("scatter_fp32") == 3 + 3  # two tiles at a time
        if reuse and reuse != Reuse(tolerance=1) and reuse is not True:
            assert restorer.stats.frames_compared == 2
            assert restorer.stats.psnr_to_exact == np.inf


def test_reuse_that_goes_wrong_is_seen(artifact, device, monkeypatch) -> None:
    with Restorer(artifact, "tensorrt-rtx", reuse=Reuse(verify_every=2)) as restorer:
        first, second, *_ = clip()
        restorer.luma(first)
        launch = device.launch
        deaf = lambda kernel, *rest: kernel == "changed" or launch(kernel, *rest)  # noqa: E731
        monkeypatch.setattr(device, "launch", deaf)
        with pytest.raises(EngineError, match=r"reuse gave \d+ other bytes"):
            restorer.luma(second)


@pytest.mark.usefixtures("device")
def test_cameras_go_up_together_and_a_failure_leaves_no_frame_on_its_way(artifact) -> None:
    """Else every later frame would be answered with the one before it."""

    def together(*frames):
        grey = [np.zeros(chroma_size(frame.shape), np.uint8) for frame in frames]
        given = [Frame(y, u, u) for y, u in zip(frames, grey, strict=True)]
        return [restored.y for restored in restorer.restore_all(given, ["gate", "yard"])]

    with Restorer(artifact, "tensorrt-rtx") as restorer:
        first, second, third, fourth = clip()
        for plane, frame in zip(together(first, third), (first, third), strict=True):
            assert (plane == halved(frame)).all()
        with pytest.raises(WindowError):
            together(second, second[:40])
        for frame in (third, fourth):
            assert (restorer.luma(frame, "gate") == halved(frame)).all()


def test_run_restores_a_clip_on_the_gpu(artifact, device, edgecar, tmp_path) -> None:  # noqa: F811
    """From the command line: every frame, and reuse where nothing moves."""
    random = np.random.default_rng(6)
    grey = random.integers(0, 256, (96, 128), np.uint8)
    with av.open(tmp_path / "still.mkv", "w") as container:
        stream = container.add_stream("ffv1", 25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for _ in range(3):
            picture = av.VideoFrame.from_ndarray(np.vstack([grey, grey[:48]]), "yuv420p")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    output = tmp_path / "clean.mkv"
    done = edgecar(
        *("run", tmp_path / "still.mkv", "-o", output, "--codec", "ffv1"),
        *("--network", artifact.path, "--engine", "tensorrt-rtx", "--json"),
    )
    assert done.code == 0, done.err
    assert json.loads(done.out)["frames"] == 3
    assert device.done.count("scatter_fp32") == 3  # six tiles of the first frame, two at a time
    assert device.done.count("changed") == 2
    with av.open(output) as container:
        planes = [frame.to_ndarray()[:96] for frame in container.decode(video=0)]
    assert all((plane == halved(grey)).all() for plane in planes)


@pytest.mark.usefixtures("device")
def test_auto_takes_a_gpu_that_works_first(artifact, monkeypatch) -> None:
    monkeypatch.setattr(opening, "find_gpu", lambda: None)
    with Restorer(artifact, "auto") as restorer:
        assert (restorer.luma(clip()[0]) == halved(clip()[0])).all()
    artifact.path.with_name("net.rtx.plan").unlink()
    with Restorer(artifact, "auto", threads=1) as restorer:
        assert restorer.engine.info.device == "cpu"


class CpuTiles(OnnxRuntimeTiles):
    """ONNX Runtime with its IO binding in CPU memory, which stands for the GPU's."""

    def __init__(self, artifact, shape, _handle, tf32) -> None:
        assert not tf32
        super().__init__(artifact, shape, None)

    def enqueue(self, *given) -> None:
        start = super().enqueue
        self.device.call(lambda: start(*given), given[-1])


@pytest.mark.parametrize("size", [(90, 130), (60, 50), (300, 310)])
def test_onnxruntime_runs_on_the_gpu_by_its_name(size, exported, monkeypatch) -> None:
    """Frames smaller than its tiles too; the bytes are those of the whole frame."""
    artifact, device = exported("edgecar-xs"), HostDevice()
    monkeypatch.setattr(opening, "CudaDevice", lambda: device)
    monkeypatch.setattr(opening, "OnnxRuntimeTiles", CpuTiles)
    frame = np.random.default_rng(7).integers(0, 256, size, np.uint8)
    with open_engine(artifact, "onnxruntime", threads=1) as engine:
        whole = Restorer(artifact, engine).whole(frame)
    with Restorer(artifact, "onnxruntime:cuda") as restorer:
        assert restorer.engine.check.passed
        assert (restorer.luma(frame) == whole).all()
        assert device.done.count("gather_fp32") >= 1
