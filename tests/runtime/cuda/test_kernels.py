"""What the kernels do to memory, byte for byte what the NumPy runtime does."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgecar.engines.base import CODE, codes_from_unit
from edgecar.media.color import bgr_from_frame
from edgecar.media.frame import Colour, Frame
from edgecar.runtime.tiles import Tile, aligned_size, plan_grid
from tests.runtime.cuda.host_kernels import run

GUARD = 0xA5  # what lies around a plane, and must still lie there
DTYPES = {"fp32": np.float32, "fp16": np.float16}


@st.composite
def scenes(draw):
    """A frame, a tile and a halo that suit each other."""
    align = draw(st.sampled_from([1, 2, 4]))
    halo = draw(st.integers(0, 3)) * align
    frame = draw(st.tuples(st.integers(1, 70), st.integers(1, 90)))
    tile = tuple(
        draw(st.integers(-(-min(2 * halo + 1, side) // align), -(-side // align))) * align
        for side in frame
    )
    padded = aligned_size(frame, align)
    tile = tuple(
        whole if piece < 2 * halo + align else piece
        for piece, whole in zip(tile, padded, strict=True)
    )
    channels = draw(st.sampled_from([1, 3]))
    pitch = -(-frame[1] // 16) * 16 + draw(st.sampled_from([0, 16]))
    seed = draw(st.integers(0, 2**16))
    return Scene(frame, tile, halo, align, channels, pitch, seed)


class Scene:
    """A frame in memory as a device has it, and its plan."""

    def __init__(self, frame, tile, halo, align, channels, pitch, seed) -> None:
        self.size, self.tile, self.align, self.channels = frame, tile, align, channels
        self.pitch = pitch
        self.random = np.random.default_rng(seed)
        self.plan = plan_grid(frame, tile, halo_px=halo, align_px=align)
        self.table = np.array([[*tile.read[:2], *tile.keep] for tile in self.plan], np.int32)
        self.memory, self.codes = self.plane()

    def plane(self):
        """Aligned memory ``(channels, height, pitch)``, and the view of its pixels."""
        height, width = self.size
        count = self.channels * height * self.pitch
        raw = np.full(count + 64, GUARD, np.uint8)
        start = -raw.ctypes.data % 16
        memory = raw[start : start + count].reshape(self.channels, height, self.pitch)
        codes = memory[:, :, :width]
        codes[:] = self.random.integers(0, 256, codes.shape)
        return memory, codes

    @property
    def padded(self):
        """The frame as the NumPy runtime hands it to the network."""
        rows, columns = (
            whole - side
            for whole, side in zip(aligned_size(self.size, self.align), self.size, strict=True)
        )
        return np.pad(self.codes, ((0, 0), (0, rows), (0, columns)), mode="edge")

    def read(self, tile: Tile):
        top, left, bottom, right = tile.read
        return self.padded[:, top:bottom, left:right]


def chosen_of(scene: Scene):
    """Some of the tiles, in order."""
    keep = scene.random.random(len(scene.plan)) < 0.6
    return np.flatnonzero(keep).astype(np.int32)


@settings(max_examples=150)
@given(scenes())
def test_changed_finds_the_windows_that_read_a_change(scene) -> None:
    before, old = scene.plane()
    old[:] = scene.codes
    for _ in range(scene.random.integers(0, 4)):
        channel, row, column = (scene.random.integers(0, side) for side in old.shape)
        old[channel, row, column] ^= np.uint8(1 << scene.random.integers(0, 8))
    # What lies behind the end of rows differs, and is nobody's pixel.
    before[:, :, scene.size[1] :] ^= 0xFF
    count = len(scene.plan)
    earlier, stamp = 7, 8
    flags = np.full(count, earlier, np.int32)
    run("changed", before, scene.memory, *scene.size, scene.pitch, scene.channels,
        scene.table, count, *scene.tile, stamp, flags)  # fmt: skip
    differs = old != scene.codes
    expected = [
        bool(differs[:, w.read[0] : w.read[2], w.read[1] : w.read[3]].any()) for w in scene.plan
    ]
    assert flags.tolist() == [stamp if flag else earlier for flag in expected]
    chosen, found = np.full(count, -1, np.int32), np.full(1, -1, np.int32)
    run("listed", flags, count, stamp, chosen, found)
    wanted = np.flatnonzero(expected)
    assert found[0] == len(wanted)
    assert chosen[: found[0]].tolist() == wanted.tolist()


@settings(max_examples=150)
@given(scenes(), st.sampled_from(sorted(DTYPES)), st.booleans(), st.integers(1, 4))
def test_gather_gives_what_the_network_reads(scene, kind, all_windows, batch) -> None:
    chosen = np.arange(len(scene.plan), dtype=np.int32) if all_windows else chosen_of(scene)
    found = np.array([len(chosen)], np.int32)
    shape = (batch, scene.channels, *scene.tile)
    for first in range(0, len(chosen) + batch, batch):  # one more than there is something for
        tiles, told = np.full(shape, 99, DTYPES[kind]), np.full(batch + 1, 7, np.float32)
        run(f"gather_{kind}", scene.memory, *scene.size, scene.pitch, scene.channels, scene.table,
            None if all_windows else chosen, found, first, batch, *scene.tile,
            tiles, 0.3, told)  # fmt: skip
        assert told.tolist() == [np.float32(0.3)] * batch + [7]
        expected = np.zeros(shape, DTYPES[kind])
        for slot, number in enumerate(chosen[first : first + batch]):
            expected[slot] = np.multiply(scene.read(scene.plan[number]), CODE)
        assert tiles.tobytes() == expected.tobytes()


@settings(max_examples=150)
@given(scenes(), st.sampled_from(["fp32", "fp16"]), st.booleans(), st.integers(1, 4))
def test_scatter_keeps_what_the_runtime_keeps(scene, kind, all_windows, batch) -> None:
    chosen = np.arange(len(scene.plan), dtype=np.int32) if all_windows else chosen_of(scene)
    found = np.array([len(chosen)], np.int32)
    memory, kept = scene.plane()
    frame = kept.copy()
    behind = memory[:, :, scene.size[1] :].copy()
    for first in range(0, max(1, len(chosen)), batch):
        shape = (batch, scene.channels, *scene.tile)
        tiles = scene.random.uniform(-0.2, 1.2, shape).astype(DTYPES[kind])
        tiles.flat[:: scene.random.integers(3, 9)] = scene.random.choice(
            [np.inf, -np.inf, 0.5 / 255, 1.5 / 255, -0.0, 2.5 / 255]
        )
        run(f"scatter_{kind}", tiles, scene.channels, scene.table,
            None if all_windows else chosen, found, first, batch, *scene.tile,
            memory, scene.size[0], scene.pitch)  # fmt: skip
        some = [scene.plan[number] for number in chosen[first : first + batch]]
        for slot, tile in enumerate(some):
            tile.write(codes_from_unit(tiles[slot].astype(np.float32)), frame)
    assert (kept == frame).all()
    assert (memory[:, :, scene.size[1] :] == behind).all()


def test_every_half_is_read_as_numpy_does_and_what_is_no_number_becomes_nothing() -> None:
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    tiles = halves.reshape(1, 1, -1, 2048)
    scene = Scene(tiles.shape[2:], tiles.shape[2:], 0, 1, 1, 2048, 0)
    memory, kept = scene.plane()
    run("scatter_fp16", tiles, 1, scene.table, None, np.ones(1, np.int32), 0, 1,
        *scene.tile, memory, scene.size[0], 2048)  # fmt: skip
    numbers = np.nan_to_num(tiles[0].astype(np.float32))
    assert (kept == codes_from_unit(numbers)).all()


# Black, luma, red of Cr, green of Cb and Cr, blue of Cb.
MATRICES = {
    Colour(full_range=False, matrix=1): (16, 76309, 117489, -13975, -34925, 138438),
    Colour(): (16, 76309, 104597, -25675, -53279, 132201),
    Colour(full_range=True, matrix=6): (0, 65536, 91881, -22554, -46802, 116130),
}


def picture(height: int, width: int, seed: int = 0):
    """Luma, and Cb and Cr side by side, with pitches wider than their rows."""
    random = np.random.default_rng(seed)
    luma = random.integers(0, 256, (height, width + 3), np.uint8)
    chroma = random.integers(0, 256, (-(-height // 2), -(-width // 2) * 2 + 6), np.uint8)
    return luma, chroma


def bgr_reference(luma, chroma, height: int, width: int, matrix):
    """In whole numbers, as the kernel's comments say."""
    black, gain, red_cr, green_cb, green_cr, blue_cb = matrix
    y = (luma[:height, :width].astype(np.int64) - black) * gain
    rows, columns = np.arange(height) // 2, np.arange(width) // 2 * 2
    cb = chroma[np.ix_(rows, columns)].astype(np.int64) - 128
    cr = chroma[np.ix_(rows, columns + 1)].astype(np.int64) - 128
    sums = [y + blue_cb * cb, y + green_cb * cb + green_cr * cr, y + red_cr * cr]
    return np.stack([np.clip((s + 32768) >> 16, 0, 255) for s in sums], -1).astype(np.uint8)


def letterboxed(kind, luma, chroma, size, matrix, box, side):
    """A picture at ``(top, left)`` of a tensor, resized to ``(height, width)``."""
    tensor = np.full((3, *side), 9, DTYPES[kind])
    planes = luma, luma.shape[1], chroma, chroma.shape[1]
    run(f"letterbox_{kind}", *planes, *size, *matrix, *box, *side, 114, tensor)
    return tensor


@pytest.mark.parametrize("colour", MATRICES)
def test_colours_are_those_of_the_converter(colour) -> None:
    """On even chroma, where its interpolation plays no part; its tables are coarser by a code."""
    luma = np.random.default_rng(3).integers(16, 236, (64, 64), np.uint8)
    u, v = (np.full((32, 32), value, np.uint8) for value in (110, 150))
    chroma, whole = np.stack([u, v], -1).reshape(32, 64), (64, 64)
    tensor = letterboxed("fp32", luma, chroma, whole, MATRICES[colour], (0, 0, *whole), whole)
    frame = Frame(y=luma, u=u, v=v, pts=0, time_base=None, colour=colour)
    rgb = bgr_from_frame(frame)[:, :, ::-1].transpose(2, 0, 1)
    assert np.abs(tensor * 255 - rgb).max() <= 2.01  # two codes


def letterbox_reference(bgr, side):
    """A picture in the middle of a tensor of floats, red first, and where it lies there.

    Bilinear with centres on centres, weights of eleven bits. OpenCV rounds its weights another way:
    a code.
    """
    ratio = min(whole / part for whole, part in zip(side, bgr.shape[:2], strict=True))
    size = [max(1, round(length * ratio)) for length in bgr.shape[:2]]
    places = []
    for length, wanted in zip(bgr.shape[:2], size, strict=True):
        at = ((2 * np.arange(wanted, dtype=np.int64) + 1) * length - wanted) * 2048 // (2 * wanted)
        first = at >> 11
        places.append((first.clip(0, length - 1), (first + 1).clip(0, length - 1), at & 2047))
    (top, bottom, down), (left, right, across) = places
    codes, across, down = bgr.astype(np.int64), across[None, :, None], down[:, None, None]
    upper = codes[np.ix_(top, left)] * (2048 - across) + codes[np.ix_(top, right)] * across
    lower = codes[np.ix_(bottom, left)] * (2048 - across) + codes[np.ix_(bottom, right)] * across
    resized = (upper * (2048 - down) + lower * down + (1 << 21)) >> 22
    theirs = cv2.resize(bgr, size[::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(resized - theirs).max() <= 1
    starts = [(whole - length) // 2 for whole, length in zip(side, size, strict=True)]
    inside = tuple(slice(s, s + length) for s, length in zip(starts, size, strict=True))
    filled = np.full((*side, 3), 114, np.uint8)
    filled[inside] = resized
    return np.multiply(filled[:, :, ::-1].transpose(2, 0, 1), CODE), inside


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.none() | st.integers(8, 48),
    st.sampled_from(["fp32", "fp16"]),
    st.sampled_from(list(MATRICES.values())),
)
def test_letterbox_is_a_resized_picture_on_grey(size, side, kind, matrix) -> None:
    """And the picture as it is where the side is its own."""
    side = (side, side) if side else size
    luma, chroma = picture(*size, seed=size[0])
    bgr = bgr_reference(luma, chroma, *size, matrix)
    expected, (rows, columns) = letterbox_reference(bgr, side)
    box = (rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start)
    tensor = letterboxed(kind, luma, chroma, size, matrix, box, side)
    assert tensor.tobytes() == expected.astype(DTYPES[kind]).tobytes()
    if side == size:
        assert expected.tobytes() == np.multiply(bgr[:, :, ::-1].transpose(2, 0, 1), CODE).tobytes()
