"""Coded clips: real video, coded once, and found again under the right key only."""

from dataclasses import dataclass, replace
from io import BytesIO

import av
import numpy as np
import pytest
from av.video.frame import PictureType

from edgecar.evaluate.metrics import psnr
from edgecar.files import cache_folder
from edgecar.media.frame import Frame
from edgecar.media.scene import fixed_camera, moving_camera, with_clock
from edgecar.media.video_codec import CodedClip, video_coded
from edgecar.train import clips as clips_module
from edgecar.train.clips import ClipPairs
from edgecar.train.degrade import H264Range, HevcRange

SIZES = {"frames": 9, "every": 3, "size": (64, 96), "noise": 0.0, "clips": 4, "gops": (6,)}
H264 = H264Range((20, 24), presets=("veryfast",), limits_mbps=(0.0,), **SIZES)
HEVC = HevcRange((22, 24), presets=("ultrafast",), **SIZES)
SEED = 5


def names() -> set[str]:
    """Files under which clips are kept."""
    return {path.name for path in cache_folder("coded").glob("*")}


def clips_on_disk(these: set[str] | None = None) -> list[np.ndarray]:
    """``(2, frames, height, width)`` each: coded and clean."""
    clips = [np.load(cache_folder("coded") / name) for name in sorted(these or names())]
    return [np.stack([clip["coded"], clip["clean"]]) for clip in clips]


def drawn(source: ClipPairs, draws: int = 200) -> set[tuple[bytes, bytes]]:
    """Different pairs among so many."""
    rng = np.random.default_rng(0)
    pairs = [source.pair(rng) for _ in range(draws)]
    return {(pair.coded.tobytes(), pair.clean.tobytes()) for pair in pairs}


@dataclass
class Film:
    """What a camera was asked to film, and did."""

    kind: str
    arguments: tuple
    settings: dict
    frames: list[Frame]

    def luma(self, every: int) -> np.ndarray:
        return np.stack([frame.y for frame in self.frames[::every]])


@pytest.fixture
def films(monkeypatch) -> list[Film]:
    """Everything that is filmed from now on."""
    made: list[Film] = []

    def noted(kind, camera):
        def film(*arguments, **settings):
            made.append(Film(kind, arguments, settings, list(camera(*arguments, **settings))))
            return made[-1].frames

        monkeypatch.setattr(clips_module, f"{kind}_camera", film)

    # What cameras make of a scene has tests of its own.
    monkeypatch.setattr(clips_module._Maker, "_sent", lambda _self, frames, _rng: frames)
    noted("fixed", fixed_camera)
    noted("moving", moving_camera)
    return made


@pytest.fixture
def no_coder(monkeypatch):
    """From when it is called on, nothing can be coded."""

    def forbid() -> None:
        def refuse(*_arguments: object) -> None:
            raise AssertionError("a clip was coded again")

        monkeypatch.setattr(clips_module, "video_coded", refuse)

    return forbid


@pytest.mark.parametrize("degradation", [H264Range(b_frames=(3,)), HevcRange(b_frames=(3,))])
def test_p_and_b_frames_really_occur(photos, degradation) -> None:
    coding = degradation.coding(np.random.default_rng(0))
    assert coding.b_frames == 3
    coded = video_coded(moving_camera(photos[0], (64, 96), 12), coding)
    with av.open(BytesIO(coded.bitstream)) as container:
        kinds = [PictureType(frame.pict_type).name for frame in container.decode(video=0)]
    assert len(kinds) == 12
    assert kinds[0] == "I"
    assert set(kinds) == {"I", "P", "B"}


def test_what_clips_are_coded_with_is_what_was_drawn(photos, monkeypatch) -> None:
    codings = []

    def noted(frames, coding):
        codings.append(coding)
        return video_coded(frames, coding)

    monkeypatch.setattr(clips_module, "video_coded", noted)
    ClipPairs(photos, replace(H264, quantiser=(20, 40), limits_mbps=(0.0, 2.0)), seed=SEED)
    assert len(codings) == 4
    assert len({coding.quantiser for coding in codings}) > 1
    assert all(coding.gop == 6 and coding.preset == "veryfast" for coding in codings)


def test_pairs_are_frames_of_the_clips(photos) -> None:
    source = ClipPairs(photos, H264, seed=SEED)
    assert len(names()) == 4
    assert all(clip.shape == (2, 3, 64, 96) for clip in clips_on_disk())  # every third of 9 frames
    frames = {
        (clip[0, n].tobytes(), clip[1, n].tobytes()) for clip in clips_on_disk() for n in range(3)
    }
    assert drawn(source) == frames  # of 12 frames, 200 draws miss one in some 3e-7 of all runs
    pair = source.pair(np.random.default_rng(1))
    assert pair.coded.dtype == pair.clean.dtype == np.uint8
    again = source.pair(np.random.default_rng(1))
    np.testing.assert_array_equal(pair.coded, again.coded)


@pytest.mark.parametrize("degradation", [H264, HEVC], ids=["h264", "hevc"])
def test_coded_and_clean_frames_belong_together(photos, films, degradation) -> None:
    # Every frame is kept: one off in time must show.
    ClipPairs(photos, replace(degradation, b_frames=(3,), clips=6, every=1), seed=SEED)
    coded_of = {clean.tobytes(): coded for coded, clean in clips_on_disk()}
    moving = [film.luma(every=1) for film in films if film.kind == "moving"]
    assert len(moving) > 1
    for clean in moving:
        coded = coded_of[clean.tobytes()]
        scores = np.array([[psnr(sharp, frame) for sharp in clean] for frame in coded])
        assert (scores.diagonal() > 20).all()  # at these fine settings photographs have 35 or more
        assert scores.argmax(axis=1).tolist() == list(range(len(clean)))
        assert np.isfinite(scores.diagonal()).all()  # coding did change every frame


def test_some_cameras_use_the_full_range_and_some_burn_in_a_clock(photos, monkeypatch) -> None:
    clocks = []

    def noted(frames, *, white, black, seed):
        clocks.append((white, black))
        return with_clock(frames, white=white, black=black, seed=seed)

    monkeypatch.setattr(clips_module, "with_clock", noted)
    ClipPairs(photos, replace(H264, clips=16), seed=SEED)
    assert set(clocks) == {(235, 16), (255, 0)}
    assert len(clocks) in range(3, 14)
    lowest = [clip[1].min() for clip in clips_on_disk()]
    assert min(lowest) < 8
    assert max(lowest) >= 16


def test_both_kinds_of_camera_are_used(photos, films) -> None:
    ClipPairs(photos, replace(H264, clips=12), seed=SEED)
    assert [film.kind for film in films].count("moving") in range(2, 11)
    assert {film.kind for film in films} == {"fixed", "moving"}
    assert len({film.frames[0].y.tobytes() for film in films}) == 12


def test_fixed_camera_has_a_still_background(photos, films) -> None:
    ClipPairs(photos, replace(H264, clips=12), seed=SEED)
    kept = {clean.tobytes() for _, clean in clips_on_disk()}
    fixed = [film for film in films if film.kind == "fixed"]
    for film in fixed:
        clean = film.luma(every=3)
        assert clean.tobytes() in kept
        # At most 4 ovals, each of no more than half the frame's height both ways, cover
        # 4 · π/4 · 32² of 64 · 96 px, about half, at a time; they move a few pixels a frame.
        assert (clean == clean[0]).all(axis=0).mean() > 0.2
        background, movers, _ = film.arguments
        assert background.shape == (64, 96, 3)
        assert 1 <= len(movers) <= 4
        assert all(64 // 6 <= side < 64 // 2 for mover in movers for side in mover.shape[:2])
    assert all((film.luma(3) != film.frames[0].y).any() for film in fixed)  # but things move


def test_noise_of_the_sensor_is_no_more_than_asked_for(photos, films) -> None:
    ClipPairs(photos, replace(H264, noise=3.0, clips=12), seed=SEED)
    levels = [film.settings["noise"] for film in films]
    noisy = [level for level in levels if level]
    assert len(set(noisy)) == len(noisy) > 6
    assert len(noisy) < len(levels)  # some cameras have none
    assert 1 < max(noisy) <= 3
    assert {film.kind for film in films if film.settings["noise"]} == {"fixed", "moving"}
    for film, level in zip(films, levels, strict=True):
        if film.kind == "moving":
            continue
        spread = np.quantile(film.luma(every=1).std(axis=0), 0.1)  # of the stillest pixels
        assert spread < level + 0.5  # rounding to codes adds at most half a code
        assert spread > 0 or level < 1  # and hides noise far below one


def test_second_time_codes_nothing(photos, no_coder) -> None:
    told: list[tuple[int, int]] = []
    first = drawn(ClipPairs(photos, H264, seed=SEED))
    no_coder()
    again = ClipPairs(photos, H264, seed=SEED, report=lambda *now: told.append(now))
    assert drawn(again) == first
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_fewer_clips_are_the_first_ones(photos, no_coder) -> None:
    ClipPairs(photos, H264, seed=SEED)
    no_coder()
    few = drawn(ClipPairs(photos, replace(H264, clips=2), seed=SEED))
    assert len(few) == 2 * 3


def test_more_clips_keep_those_there_are(photos) -> None:
    ClipPairs(photos, replace(H264, clips=1), seed=SEED)
    before = names()
    ClipPairs(photos, replace(H264, clips=3), seed=SEED)
    assert len(names()) == 3
    assert before < names()


@pytest.mark.parametrize(
    "changes",
    [
        {"quantiser": (20, 25)},
        {"presets": ("faster",)},
        {"gops": (7,)},
        {"b_frames": (0,)},
        {"limits_mbps": (1.0,)},
        {"frames": 10},
        {"every": 2},
        {"size": (64, 94)},
        {"noise": 0.5},
        {"seed": SEED + 1},
        {"photo": 0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_whatever_changes_a_clip_changes_its_key(photos, changes, monkeypatch) -> None:
    monkeypatch.setattr(
        clips_module,
        "video_coded",
        lambda scene, _coding: CodedClip(scene, b"", 0),
    )
    ClipPairs(photos, replace(H264, clips=1), seed=SEED)
    assert len(names()) == 1
    seed, photo = changes.pop("seed", SEED), changes.pop("photo", None)
    others = list(photos)
    if photo is not None:
        others[photo] = others[photo].copy()
        others[photo][0, 0, 0] ^= 1
    ClipPairs(others, replace(H264, clips=1, **changes), seed=seed)
    assert len(names()) == 2


def test_the_coder_is_part_of_the_key(photos) -> None:
    ClipPairs(photos, replace(H264, clips=1), seed=SEED)
    ClipPairs(photos, replace(HEVC, clips=1), seed=SEED)
    assert len(names()) == 2


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError])
def test_interrupted_write_leaves_nothing(photos, monkeypatch, failure) -> None:
    real = np.save

    def half(path, array):
        real(path, array)
        with path.open("r+b") as file:
            file.truncate(1000)
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr(clips_module.np, "save", half)
        with pytest.raises(failure):
            ClipPairs(photos, replace(H264, clips=1), seed=SEED)
    assert cache_folder("coded").is_dir()
    assert names() == set()
    ClipPairs(photos, replace(H264, clips=1), seed=SEED)
    assert len(names()) == 1


def test_upright_clips(photos) -> None:
    tall = replace(H264, size=(128, 64))
    source = ClipPairs(photos, replace(tall, clips=6), seed=SEED)
    rng = np.random.default_rng(0)
    assert all(source.pair(rng).clean.shape == (128, 64) for _ in range(20))


def test_small_photographs_are_laid_side_by_side(photos, films) -> None:
    small = [photo[:20, :30] for photo in photos]
    ClipPairs(small, replace(H264, clips=2), seed=SEED)
    for film in films:
        first = film.frames[0].y
        # Nothing of the frame is left black: each of its quarters has a picture in it.
        quarters = [
            first[rows][:, columns]
            for rows in (slice(32), slice(32, None))
            for columns in (slice(48), slice(48, None))
        ]
        assert all(quarter.std() > 1 for quarter in quarters)


def test_pictures_are_crisper_than_the_photographs(photos, films) -> None:
    """Shrunk and sharpened: more of what differs is between neighbours."""
    ClipPairs(photos, replace(H264, clips=12), seed=SEED)

    def crispness(luma: np.ndarray) -> float:
        luma = luma.astype(float)
        return float(np.abs(np.diff(luma, axis=1)).mean() / luma.std())

    plain = np.mean([crispness(photo[..., 1]) for photo in photos])
    made = np.mean([crispness(film.arguments[0][..., 1]) for film in films])
    assert made > 1.2 * plain
