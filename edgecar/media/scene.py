"""Synthetic clips of fixed and moving cameras, made from photographs."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from edgecar.errors import EdgecarError
from edgecar.media.color import Bgr, frame_with_bgr
from edgecar.media.facts import StreamFacts
from edgecar.media.frame import Colour, Frame, chroma_size
from edgecar.media.writer import open_writer
from edgecar.spec import Size

CLOCK_FONTS = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_PLAIN, cv2.FONT_HERSHEY_DUPLEX)
CLOCK_LETTERS = "ABCDEFGHIKLMNOPRSTUVWXYZabcdefghiklmnoprstuvwxyz0123456789-/. "
RATE_FPS = Fraction(25)
BT709 = Colour(full_range=False, matrix=1, primaries=1, transfer=1)
FEATHER_PX = 5  # soft edge of a cut-out, as optics give it


def photo_scene(size: Size, frames: int) -> Iterator[Frame]:
    """Film scikit-image's photographs with a fixed camera, with three cut-outs moving about."""
    try:
        from skimage import data
    except ImportError as error:
        raise EdgecarError(
            "scikit-image is needed for its photographs; pip install 'edgecar[train]'"
        ) from error
    loaders = (data.astronaut, data.coffee, data.chelsea, data.rocket, data.hubble_deep_field)
    photos = [load() for load in loaders]  # type: ignore[no-untyped-call]
    pictures: list[Bgr] = [np.ascontiguousarray(photo[..., ::-1], np.uint8) for photo in photos]
    astronaut, coffee, cat, *_ = pictures
    cut_outs = [astronaut[0:240, 130:330], cat[40:260, 100:340], coffee[60:340, 180:480]]
    yield from fixed_camera(mosaic(pictures, size), cut_outs, frames)


def write_scene(path: Path, size: Size, frames: int, crf: int) -> None:
    """Encode `photo_scene` as H.264."""
    facts = StreamFacts(size, RATE_FPS, 1 / RATE_FPS, BT709)
    with open_writer(path, like=facts, crf=crf) as writer:
        for frame in photo_scene(size, frames):
            writer.write(frame)


def mosaic(photos: Sequence[Bgr], size: Size) -> Bgr:
    """Lay photographs side by side at their own resolution until ``size`` is filled.

    Enlarged photographs would have no fine detail for a codec to damage.
    """
    height, width = size
    canvas = np.zeros((height, width, 3), np.uint8)
    top = number = 0
    while top < height:
        left = row_height = 0
        while left < width:
            photo = photos[number % len(photos)]
            number += 1
            piece = photo[: height - top, : width - left]
            canvas[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
            left += photo.shape[1]
            row_height = max(row_height, photo.shape[0])
        top += min(row_height, min(photo.shape[0] for photo in photos))
    return canvas


def fixed_camera(
    background: Bgr,
    movers: Sequence[Bgr],
    frames: int,
    *,
    noise: float = 1.5,
    seed: int = 0,
) -> Iterator[Frame]:
    """Film a still scene that cut-outs cross, with a noisy sensor, in limited-range BT.709.

    Each cut-out is smaller than the background, moves along a line of its own and turns back at the
    edges. The noise's standard deviation is in codes of luma.
    """
    rng = np.random.default_rng(seed)
    size = background.shape[0], background.shape[1]
    starts = [rng.uniform(0, np.subtract(size, mover.shape[:2])) for mover in movers]
    speeds = [rng.uniform(-6, 6, 2) for _ in movers]
    for number in range(frames):
        picture = background.copy()
        for mover, start, speed in zip(movers, starts, speeds, strict=True):
            room = np.maximum(1, np.subtract(size, mover.shape[:2]))
            travelled = (start + speed * number) % (2 * room)
            place = np.where(travelled < room, travelled, 2 * room - travelled).astype(int)
            _paste(picture, mover, *place.tolist())
        yield _seen(picture, number, noise, rng)


def moving_camera(
    photo: Bgr, size: Size, frames: int, *, noise: float = 0.0, seed: int = 0
) -> Iterator[Frame]:
    """Film a photograph with a camera that pans, zooms and turns, in limited-range BT.709.

    The photograph is larger than the frames' size, for room to move.
    """
    rng = np.random.default_rng(seed)
    height, width = size
    scale = min(photo.shape[0] / height, photo.shape[1] / width)
    zoom = scale * rng.uniform(0.6, 1.0)  # photograph pixels per frame pixel
    centre = np.array(photo.shape[1::-1]) / 2
    speed = rng.normal(0, 2.0, 2)  # px a frame: most cameras move slowly, a few fast
    swell, turn = rng.normal(0, 0.003), rng.normal(0, 0.002)  # per frame; radians
    for number in range(frames):
        time = number - frames / 2
        angle, ratio = turn * time, zoom * (1 + swell) ** time
        matrix = ratio * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = centre + speed * time - matrix @ (width / 2, height / 2)
        picture = cv2.warpAffine(
            photo,
            np.column_stack([matrix, offset]),
            (width, height),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
        yield _seen(np.asarray(picture, np.uint8), number, noise, rng)


def _seen(picture: Bgr, number: int, noise: float, rng: np.random.Generator) -> Frame:
    """Make a frame of a picture, with its time and a sensor's noise."""
    size = picture.shape[0], picture.shape[1]
    luma, chroma = np.zeros(size, np.uint8), np.zeros(chroma_size(size), np.uint8)
    blank = Frame(luma, chroma, chroma, number, 1 / RATE_FPS, BT709)
    scene = frame_with_bgr(blank, picture)
    if not noise:
        return scene
    grain = rng.normal(0, noise, size).astype(np.float32)
    return scene.with_luma(np.clip(np.rint(scene.y + grain), 0, 255).astype(np.uint8))


def _paste(picture: Bgr, mover: Bgr, top: int, left: int) -> None:
    """Lay an oval cut-out with a soft edge over a picture, in place."""
    height, width = mover.shape[:2]
    mask = np.zeros((height, width), np.float32)
    centre, axes = (width // 2, height // 2), (width // 2 - FEATHER_PX, height // 2 - FEATHER_PX)
    cv2.ellipse(mask, centre, axes, 0, 0, 360, 1.0, -1)
    mask = np.asarray(cv2.GaussianBlur(mask, (0, 0), FEATHER_PX / 2), np.float32)[..., None]
    under = picture[top : top + height, left : left + width]
    under[:] = np.rint(mask * mover + (1 - mask) * under)


def in_full_range(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Stretch luma of 16..235 to 0..255, as many cameras send it."""
    table = np.clip(np.rint((np.arange(256) - 16) * (255 / 219)), 0, 255).astype(np.uint8)
    for frame in frames:
        yield replace(frame, y=table[frame.y], colour=replace(frame.colour, full_range=True))


def with_clock(frames: Iterable[Frame], *, white: int, black: int, seed: int) -> Iterator[Frame]:
    """Burn a name and a running clock into the luma, as cameras do.

    ``black`` is the code of a bar behind the letters, or of their soft rim without a bar.
    """
    rng = np.random.default_rng(seed)
    font, thick = int(rng.choice(CLOCK_FONTS)), int(rng.integers(1, 3))
    scale, bar = rng.uniform(0.3, 0.9), bool(rng.integers(2))
    text = "".join(rng.choice(list(CLOCK_LETTERS), int(rng.integers(0, 12))))
    start, corner = int(rng.integers(86_400)), rng.uniform(0, 1, 2)
    for number, frame in enumerate(frames):
        seconds = start + number // round(RATE_FPS)
        clock = f"{text} {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        (width, height), below = cv2.getTextSize(clock, font, scale, thick)
        room = np.maximum(0, np.subtract(frame.size, (height + below, width)))
        top, left = np.rint(corner**2 * room).astype(int).tolist()  # rather up on the left
        y, origin = frame.y.copy(), (left, top + height)
        if bar:
            y[top : top + height + below + 2, left : left + width] = black
        else:
            cv2.putText(y, clock, origin, font, scale, black, thick + 2, cv2.LINE_AA)
        cv2.putText(y, clock, origin, font, scale, white, thick, cv2.LINE_AA)
        yield replace(frame, y=y)
