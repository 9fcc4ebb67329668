"""What every engine does alike."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from edgecar.artifact import Artifact
from edgecar.engines.base import CODE, Engine, codes_from_unit
from edgecar.engines.fake import FakeEngine
from edgecar.engines.select import open_engine
from edgecar.errors import EngineError

# Name and precision as a user gives them.
ENGINES = {
    "openvino fp32": ("openvino", "fp32"),
    "openvino": ("openvino", None),
    "onnxruntime": ("onnxruntime", None),
    "torch": ("torch", None),
    "fake": ("fake", None),
}
ANY_SHAPE = ("openvino fp32", "openvino", "onnxruntime")
LOCAL = ("edgecar-s", "fastarcnn", "arcnn", "dncnn", "carcnn")


def opened(kind: str, artifact: Artifact, threads: int = 1) -> Engine:
    name, precision = ENGINES[kind]
    if name == "fake":
        metadata = artifact.metadata
        return FakeEngine(lambda batch: batch * 0.75, metadata.channels, None, metadata.align_px)
    return open_engine(artifact, name, precision, threads)


def windows(count: int, height: int = 24, width: int = 40, channels: int = 1, seed: int = 0):
    return np.random.default_rng(seed).random((count, channels, height, width), np.float32)


@pytest.fixture(scope="module")
def artifact(exported) -> Artifact:
    return exported("edgecar-s")


@pytest.fixture(scope="module", params=ENGINES)
def kind(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def engine(kind, artifact):
    """One for all tests but those that close it."""
    with opened(kind, artifact) as engine:
        yield engine


def test_it_says_what_runs(engine, kind) -> None:
    info = engine.info
    assert info.name == ENGINES[kind][0]
    assert info.precision == (ENGINES[kind][1] or info.precision)
    assert info.precision in ("fp32", "bf16")
    assert info.shape is None
    assert info.device == "cpu"
    library = {"openvino": "OpenVINO 20", "onnxruntime": "ONNX Runtime 1.", "torch": "torch 2."}
    assert info.provider.startswith(library.get(info.name, ""))
    assert engine.channels == 1
    assert engine.align_px == 2


def test_shape_and_type_are_kept(engine) -> None:
    for shape in ((1, 1, 2, 2), (3, 1, 24, 40), (1, 1, 64, 2)):
        restored = engine.run(np.full(shape, 0.5, np.float32))
        assert restored.shape == shape
        assert restored.dtype == np.float32
    # Not hidden: what is not a number comes out as such.
    assert np.isnan(engine.run(np.full((1, 1, 8, 8), np.nan, np.float32))).all()


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (np.zeros((1, 1, 8, 8)), "float64 (1, 1, 8, 8), need float32 (N, 1, H, W)"),
        (np.zeros((1, 1, 8, 8), np.uint8), "uint8"),
        (np.zeros((1, 1, 8, 8), np.float16), "float16"),
        (np.zeros((8, 8), np.float32), "(8, 8), need float32 (N, 1, H, W)"),
        (np.zeros((1, 8, 8), np.float32), "(1, 8, 8), need"),
        (np.zeros((1, 1, 1, 8, 8), np.float32), "(1, 1, 1, 8, 8), need"),
        (np.zeros((1, 3, 8, 8), np.float32), "(1, 3, 8, 8), need float32 (N, 1, H, W)"),
        (np.zeros((1, 1, 7, 8), np.float32), "7x8 px, need sides that are multiples of 2 px"),
        (np.zeros((1, 1, 8, 9), np.float32), "8x9 px, need sides that are multiples of 2 px"),
        (np.zeros((0, 1, 8, 8), np.float32), "not empty"),
        (np.zeros((1, 1, 0, 8), np.float32), "not empty"),
    ],
)
def test_batch_that_does_not_fit_is_refused(batch, said, artifact) -> None:
    """By the base class, before any library sees it."""
    engine = opened("fake", artifact)
    with pytest.raises(EngineError) as refused:
        engine.run(batch)
    assert said in str(refused.value)
    # And the engine still works.
    assert engine.run(windows(1)).shape == (1, 1, 24, 40)


def test_closed_engine_refuses(kind, artifact) -> None:
    engine = opened(kind, artifact)
    engine.close()
    with pytest.raises(EngineError, match="engine is closed; open it again"):
        engine.run(windows(1))
    engine.close()  # twice is once


def test_neither_slot_nor_neighbours_matter(engine) -> None:
    batch = windows(5)
    alone = [engine.run(batch[i : i + 1])[0].copy() for i in range(5)]
    assert len({window.tobytes() for window in alone}) == 5
    together = engine.run(batch).copy()
    backwards = engine.run(batch[::-1]).copy()[::-1]
    strangers = batch.copy()
    strangers[[0, 1, 3, 4]] = 1000 * windows(4, seed=9)
    assert np.array_equal(together, alone)
    assert np.array_equal(backwards, alone)
    assert np.array_equal(engine.run(strangers)[2], alone[2])


def test_batch_of_any_layout_is_taken_and_left_alone(engine) -> None:
    frame = windows(1, 64, 80)
    before = frame.copy()
    part = frame[:, :, 8:32, 4:44]
    assert not part.flags.c_contiguous
    expected = engine.run(part.copy())
    assert np.array_equal(engine.run(part), expected)
    backwards = np.ascontiguousarray(part[:, :, ::-1, ::-1])
    assert np.array_equal(engine.run(backwards[:, :, ::-1, ::-1]), expected)
    assert np.array_equal(frame, before)


def test_same_bits_each_time_whatever_else_is_open(kind, artifact, exported) -> None:
    batch = windows(2)
    results = []
    with opened(kind, exported("edgecar-xs")) as other:
        from_other = other.run(batch)
        kept = from_other.copy()
        for _ in range(2):
            with opened(kind, artifact) as engine:
                results += [engine.run(batch).tobytes() for _ in range(2)]
        assert np.array_equal(from_other, kept)
    assert len(set(results)) == 1


@pytest.mark.parametrize("kind", ANY_SHAPE)
@pytest.mark.parametrize("name", ["edgecar-s", "msfan"])
def test_same_bits_with_one_thread_and_two(kind, name, exported) -> None:
    batch = windows(2, 64, 96)
    with opened(kind, exported(name)) as one, opened(kind, exported(name), threads=2) as two:
        assert np.array_equal(one.run(batch), two.run(batch))


# Where a window of a frame may begin and end: rows and columns.
SURROUNDINGS = [
    (slice(0, 112), slice(0, 128)),
    (slice(0, 96), slice(6, 120)),
    (slice(2, 112), slice(16, 128)),
    (slice(10, 104), slice(0, 118)),
]


@pytest.mark.parametrize("kind", ANY_SHAPE)
@pytest.mark.parametrize("name", LOCAL)
def test_what_is_around_a_window_does_not_matter(kind, name, exported) -> None:
    """Farther away than the halo, that is; the shape of what is around it included."""
    artifact, frame = exported(name), windows(1, 112, 128)
    halo, align = artifact.metadata.halo_px, artifact.metadata.align_px
    keep = slice(50, 56), slice(60, 68)  # farther than any halo here from every side

    def kept(engine, rows: slice, columns: slice):
        restored = engine.run(np.ascontiguousarray(frame[:, :, rows, columns]))
        inside = [slice(k.start - s.start, k.stop - s.start) for k, s in
                  zip(keep, (rows, columns), strict=True)]  # fmt: skip
        return restored[(slice(None), slice(None), *inside)].copy()

    def around(px: int):
        return [slice(k.start - px, k.stop + px) for k in keep]

    with opened(kind, artifact) as engine:
        expected = kept(engine, slice(0, 112), slice(0, 128))
        for rows, columns in [*SURROUNDINGS, around(halo), around(halo + 2)]:
            assert np.array_equal(kept(engine, rows, columns), expected)
        # The control: nearer than the halo it does matter. (Through 34 layers the outermost pixels
        # weigh less than float32 resolves, so the control stays well inside.)
        near = halo // 2 // align * align
        assert not np.array_equal(kept(engine, *around(near)), expected)


@pytest.mark.parametrize("kind", ["openvino fp32", "onnxruntime"])
@pytest.mark.parametrize(
    "name",
    [
        *(*LOCAL, "edgecar-xs", "msfan"),
        # The same operators, more of them: OpenVINO takes up to half a minute to compile these.
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("edgecar-m", "glfusion")),
    ],
)
def test_float32_engines_agree_with_torch(kind, name, exported) -> None:
    batch = windows(2, 48, 64)
    with opened("torch", exported(name)) as reference, opened(kind, exported(name)) as engine:
        expected = reference.run(batch)
        # Sums of up to 5000 products of numbers around 1, rounded to 6e-8 each, in another order.
        # Measured: 4e-6 at most, but 3e-5 through dncnn's 20 layers without a skip. A wrong
        # operator is off by 1e-2 and more.
        np.testing.assert_allclose(engine.run(batch), expected, rtol=0, atol=1e-4)
        assert expected.std() > 0.1


@pytest.mark.parametrize("name", ["edgecar-s", "fastarcnn"])
def test_default_precision_is_near_torch(name, exported) -> None:
    """bfloat16 where the CPU has it: 8 bits of mantissa."""
    batch = windows(2, 48, 64)
    with opened("torch", exported(name)) as reference, opened("openvino", exported(name)) as engine:
        error = engine.run(batch) - reference.run(batch)
        # Each of six layers rounds values around 0.5 by up to 2^-9 of themselves, 0.001, and the
        # next ones add up hundreds of such errors of either sign. Measured: 0.005 and 0.007.
        assert np.sqrt(np.mean(error**2)) < 0.02
        if engine.info.precision == "bf16":
            assert np.abs(error).max() > 1e-5


@pytest.mark.parametrize("kind", [kind for kind in ENGINES if kind != "fake"])
def test_facts_that_do_not_fit_the_graph_are_one_line(kind, artifact) -> None:
    wrong = replace(artifact, metadata=replace(artifact.metadata, channels=3, known_answer=None))
    with opened(kind, wrong) as engine, pytest.raises(EngineError) as refused:
        engine.run(windows(1, channels=3))
    assert "\n" not in str(refused.value)


def test_codes_are_restored_like_floats_each_once(engine) -> None:
    """Again after a failure of who takes them, too."""
    frame = np.random.default_rng(5).integers(0, 256, (1, 130, 150), np.uint8)
    views = [frame[:, :64, :96], frame[:, 10:130, 2:50], frame[:, 6:70, 20:116]] * 4
    taken: dict[int, np.ndarray] = {}

    def fail(_number: int, _codes: np.ndarray) -> None:
        raise KeyboardInterrupt

    def take(number: int, codes: np.ndarray) -> None:
        assert number not in taken
        taken[number] = codes.copy()

    with pytest.raises(KeyboardInterrupt):
        engine.run_codes(views, fail)
    engine.run_codes(views, take)
    assert sorted(taken) == list(range(len(views)))
    for number, view in enumerate(views):
        unit = engine.run((view * CODE)[None])[0]
        np.testing.assert_array_equal(taken[number], codes_from_unit(unit))


@pytest.mark.parametrize("kind", ["openvino fp32", "onnxruntime", "torch"])
def test_halves_are_rounded_to_even(kind, artifact) -> None:
    """With a network that gives one value everywhere: exactly between two codes."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, "h", "w"])
        for name in ("input", "output")
    ]
    node = helper.make_node("Conv", ["input", "none", "value"], ["output"])
    metadata = replace(artifact.metadata, known_answer=None, takes_quantiser=False)
    black, taken = np.zeros((1, 8, 8), np.uint8), []
    for below in (2, 5):
        value = np.float32((below + 0.5) / 255)
        assert value * np.float32(255) == below + 0.5
        constants = [
            helper.make_tensor("none", TensorProto.FLOAT, [1, 1, 1, 1], [0.0]),
            helper.make_tensor("value", TensorProto.FLOAT, [1], [value]),
        ]
        graph = helper.make_graph([node], "one", ends[:1], ends[1:], constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        with opened(kind, Artifact(metadata, model.SerializeToString())) as engine:
            engine.run_codes([black], lambda _number, codes: taken.append(codes.copy()))
        assert (taken[-1] == below + below % 2).all()


@pytest.mark.parametrize(
    ("window", "said"),
    [
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\), need uint8 \(1, H, W\)"),
        (np.zeros((1, 8, 8), np.float32), "float32"),
        (np.zeros((3, 8, 8), np.uint8), r"need uint8 \(1, H, W\)"),
        (np.zeros((1, 7, 8), np.uint8), "need sides that are multiples of 2 px"),
        (np.zeros((1, 0, 8), np.uint8), "not empty"),
    ],
)
def test_codes_that_do_not_fit_are_refused(window, said, artifact) -> None:
    engine = opened("fake", artifact)
    fine = np.zeros((1, 8, 8), np.uint8)
    taken: list[int] = []
    with pytest.raises(EngineError, match=said):
        engine.run_codes([fine, window], lambda number, _codes: taken.append(number))
    assert taken == []


def test_engine_of_one_shape_takes_no_other() -> None:
    engine = FakeEngine(lambda batch: batch, channels=3, shape=(2, 8, 16), align_px=8)
    assert engine.info.shape == (2, 8, 16)
    assert engine.run(np.zeros((2, 3, 8, 16), np.float32)).shape == (2, 3, 8, 16)
    for batch, said in (
        ((1, 3, 8, 16), "got a batch of 1 tiles 8x16 px, this engine was built for 2 of 8x16"),
        ((2, 3, 16, 16), "tiles 16x16 px"),
        ((2, 3, 8, 8), "tiles 8x8 px"),
        ((2, 1, 8, 16), r"need float32 \(N, 3, H, W\)"),
        ((2, 3, 4, 16), "multiples of 8 px"),
    ):
        with pytest.raises(EngineError, match=said):
            engine.run(np.zeros(batch, np.float32))
