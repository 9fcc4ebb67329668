"""Frames of a study on a page: a slider between before and after, blocks from near, errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from edgecar.bench.gains import QUANTISERS
from edgecar.evaluate.metrics import PSNR_CAP_DB, psnr
from edgecar.evaluate.sample_frames import Boxes, SampleFrame
from edgecar.media.color import Bgr, bgr_from_frame
from edgecar.report.drawing import drawn, in_words
from edgecar.report.markup import Element, element
from edgecar.report.pictures import (
    LADDER,
    LOSSLESS,
    LOSSLESS_PX,
    Spot,
    cropped,
    error_map_uri,
    error_maps,
    legend_colours,
    most_changed,
    png,
    scaled,
    webp,
)

MOST_SHOWN = 12
BUDGET_LETTERS = 7_000_000
"""Of all pictures, as they are written: what a page of 8 MB has room for."""
SIDES = ("source", "coded", "restored")
SMALL_PX = 480
"""Frames up to this width are shown twice as large."""
ZOOM = 4  # in the style sheet
Kind = Literal["best", "worst"]


@dataclass(frozen=True)
class Shown:
    """A frame in words.

    Attributes:
        title: Network and what it does to the frame.
        place: Clip, quantiser and number of the frame.
        figures: What was measured on it.
    """

    title: str
    place: str
    figures: str


def described(exhibit: SampleFrame, kind: Kind, study: str) -> Shown:
    """A frame in words.

    Args:
        exhibit: The frame.
        kind: Whether it is among the best or the worst.
        study: Codec or ``jpeg``.
    """
    subject, gain = exhibit.subject, exhibit.gain
    quantiser = f"{QUANTISERS.get(study, 'quality')} {subject.quantiser}"
    coding = f"{quantiser}, {subject.variant}" if subject.variant else quantiser
    number = "" if study == "jpeg" else f", frame {exhibit.index}"
    place = f"{subject.clip}, {coding}{number}"
    if exhibit.boxes:
        count = abs(round(gain))
        changed = "fewer" if gain > 0 else "more"
        title = f"{subject.network}: {count} mistake{'s' * (count != 1)} {changed}"
        marks = exhibit.boxes.coded, exhibit.boxes.restored
        coded, restored = map(in_words, marks)
        objects = len(exhibit.boxes.source.scores)
        return Shown(title, place, f"{objects} objects; coded: {coded}; restored: {restored}")
    verb = ("gains" if gain >= 0 else "loses") + (
        " most" if (kind == "best") == (gain >= 0) else " least"
    )
    before, after = (
        min(PSNR_CAP_DB, psnr(exhibit.source.y, frame.y))
        for frame in (exhibit.coded, exhibit.restored)
    )
    figures = f"{gain:+.2f} dB of luma PSNR, {before:.2f} to {after:.2f} dB"
    return Shown(f"{subject.network} {verb}", place, figures)


def frames_section(
    best: Sequence[SampleFrame], worst: Sequence[SampleFrame], study: str
) -> list[Element]:
    """An article for every frame, as many as a page has room for.

    Args:
        best: Frames with most gain.
        worst: Frames with least.
        study: Codec or ``jpeg``.
    """
    kinds: list[tuple[SampleFrame, Kind]] = [
        *((exhibit, "best") for exhibit in best),
        *((exhibit, "worst") for exhibit in worst),
    ]
    shown = kinds if len(kinds) <= MOST_SHOWN else _halves(best, worst)
    share = BUDGET_LETTERS // max(1, len(shown))
    articles = [_article(exhibit, kind, study, share) for exhibit, kind in shown]
    left_out = len(kinds) - len(shown)
    if left_out:
        articles.append(
            element("p", f"{left_out} more frames are left out, to keep the page small.")
        )
    return articles


def _halves(
    best: Sequence[SampleFrame], worst: Sequence[SampleFrame]
) -> list[tuple[SampleFrame, Kind]]:
    half = MOST_SHOWN // 2
    return [*((one, "best") for one in best[:half]), *((one, "worst") for one in worst[:half])]


def _article(exhibit: SampleFrame, kind: Kind, study: str, share: int) -> Element:
    """One frame, in no more letters than its share."""
    words = described(exhibit, kind, study)
    near = [] if exhibit.boxes else _near(exhibit)
    left = share - sum(map(_letters, near))
    slider = _slider(exhibit, words, left)
    head = element("h3", words.title, " ", element("small", words.place))
    return element("article", head, element("p", words.figures, class_="figures"), slider, *near)


def _letters(part: Element) -> int:
    return sum(len(picture.get("src", "")) for picture in part.iter("img"))


def _slider(exhibit: SampleFrame, words: Shown, letters: int) -> Element:
    """Coded and restored, or the source, on either side of a line that is moved."""
    uris, width, how = _fitting(exhibit, letters)
    restored_width = exhibit.source.size[1]
    shown_width = 2 * width if width <= SMALL_PX else width
    alts = {side: f"{side} frame: {words.place}" for side in SIDES}
    pictures = [
        element("img", src=uri, alt=alts[side], class_=f"side {side}", data_side=side)
        for side, uri in zip(SIDES, uris, strict=True)
    ]
    handle = element(
        "input",
        type="range",
        min="0",
        max="100",
        step="1",
        value="50",
        aria_label=f"Line between left and right picture, {words.place}",
    )
    stage = element(
        "div",
        *pictures,
        element("span", class_="divider", aria_hidden="true"),
        element("span", "coded", class_="tag left", aria_hidden="true"),
        element("span", "restored", class_="tag right", aria_hidden="true"),
        handle,
        class_="stage",
    )
    own = (
        "at its size"
        if width == restored_width
        else f"scaled from {restored_width} px to {width} px"
    )
    drawn_too = "" if exhibit.boxes else "; luma is restored, colour is that of the coded frame"
    caption = element("figcaption", _choice(), f" Whole frame {own}, {how}{drawn_too}.")
    size = "wide" if shown_width > SMALL_PX * 1.5 else "narrow"
    return element(
        "figure", stage, caption, class_=f"compare {size}", data_left="coded", data_right="restored"
    )


def _choice() -> Element:
    """Which two of the three are compared."""
    pairs = (("coded", "restored"), ("source", "restored"), ("source", "coded"))
    options = (
        element("option", f"{left} | {right}", value=f"{left} {right}") for left, right in pairs
    )
    return element("label", "Compare ", element("select", *options))


def _fitting(exhibit: SampleFrame, letters: int) -> tuple[list[str], int, str]:
    """Data URIs of the three sides, their width, and how they are coded."""
    height, width = exhibit.source.size
    lossless = [(width, LOSSLESS)] if height * width <= LOSSLESS_PX else []
    *finer, coarsest = [*lossless, *LADDER]
    for most_px, quality in finer:
        uris = _coded(_sides(exhibit, most_px), quality, letters)
        if uris:
            break
    else:
        most_px, quality = coarsest
        uris = [webp(picture, quality) for picture in _sides(exhibit, most_px)]
    how = "without loss" if quality == LOSSLESS else f"WebP quality {quality}"
    return uris, min(width, most_px), how


def _coded(pictures: Sequence[Bgr], quality: int, letters: int) -> list[str]:
    """Data URIs; none, as soon as they are too long."""
    uris: list[str] = []
    for picture in pictures:
        uris.append(webp(picture, quality))
        if sum(map(len, uris)) > letters:
            return []
    return uris


def _sides(exhibit: SampleFrame, width_px: int) -> tuple[Bgr, Bgr, Bgr]:
    boxes: Boxes | None = exhibit.boxes
    if boxes:
        return drawn(exhibit, boxes, width_px)
    frames = exhibit.source, exhibit.coded, exhibit.restored
    source, coded, restored = (scaled(bgr_from_frame(frame), width_px) for frame in frames)
    return source, coded, restored


def _near(exhibit: SampleFrame) -> list[Element]:
    """The blocks that changed most, four times as large, and the errors of the whole frame."""
    source, coded, restored = exhibit.source, exhibit.coded, exhibit.restored
    better, worse = most_changed(source.y, coded.y, restored.y)
    parts: list[Element] = []
    for spot, word in ((better, "better"), (worse, "worse")):
        if spot is None:
            parts.append(element("p", f"No block came out {word}.", class_="figures"))
        else:
            parts.append(_crops(exhibit, spot, word))
    maps = error_maps(source.y, coded.y, restored.y)
    pair = [
        _captioned(error_map_uri(picture), f"error of the {name} frame", name, "map")
        for name, picture in (("coded", maps.coded), ("restored", maps.restored))
    ]
    scale = element(
        "p",
        "0 ",
        element("img", src=png(legend_colours()), alt="dark to bright", class_="scale"),
        f" {maps.scale_codes} codes or more",
        class_="figures",
    )
    caption = element("figcaption", "Absolute error of luma, the same colours for both")
    parts.append(element("figure", caption, element("div", *pair, class_="row maps"), scale))
    return parts


def _crops(exhibit: SampleFrame, spot: Spot, word: str) -> Element:
    """The three pictures of a spot; PSNR is that of its block."""
    top, left, _, _ = spot.crop
    row: list[Element] = []
    for side, frame in zip(SIDES, (exhibit.source, exhibit.coded, exhibit.restored), strict=True):
        decibels = psnr(cropped(exhibit.source.y, spot.block), cropped(frame.y, spot.block))
        words = side if side == "source" else f"{side}: {min(PSNR_CAP_DB, decibels):.2f} dB"
        picture = png(cropped(bgr_from_frame(frame), spot.crop))
        shown = element("img", src=picture, alt=f"{side} pixels", class_="crop")
        near = element("div", shown, _outline(spot), class_="near")
        row.append(element("div", near, element("small", words)))
    caption = (
        f"The block that changed most for the {word}: {ZOOM} times as large, at x {left}, y {top}, "
        "without loss; PSNR of the luma of the block"
    )
    return element("figure", element("figcaption", caption), element("div", *row, class_="row"))


def _outline(spot: Spot) -> Element:
    """A frame around the block, over its crop."""
    top, left, bottom, right = spot.crop
    block_top, block_left, block_bottom, block_right = spot.block
    box = element(
        "rect",
        x=str(block_left - left),
        y=str(block_top - top),
        width=str(block_right - block_left),
        height=str(block_bottom - block_top),
    )
    return element("svg", box, viewBox=f"0 0 {right - left} {bottom - top}", aria_hidden="true")


def _captioned(uri: str, alt: str, words: str, class_: str) -> Element:
    return element("div", element("img", src=uri, alt=alt, class_=class_), element("small", words))
