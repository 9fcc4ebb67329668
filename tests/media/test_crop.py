"""A crop that only the container states is named: what is hidden by it shows in the output."""

import struct

import pytest

from edgecar.media.reader import open_reader

WORDS = "crop that the container states is not applied: hidden edges show"


def with_clap(path):
    """Put a clean aperture of 56 x 40 into the description of the coding."""
    code = bytearray(path.read_bytes())
    clap = struct.pack(">I4s8I", 40, b"clap", 56, 1, 40, 1, 0, 1, 0, 1)
    entry = code.index(b"avc1", code.index(b"stsd")) - 4
    end = entry + int.from_bytes(code[entry : entry + 4], "big")
    code[end:end] = clap
    places = [code.index(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")]
    for at in [*places, code.index(b"stsd") - 4, entry]:
        code[at : at + 4] = (int.from_bytes(code[at : at + 4], "big") + len(clap)).to_bytes(
            4, "big"
        )
    path.write_bytes(code)


def with_pixel_crop(path):
    """Turn the unit of the display size, which says nothing here, into a crop of the top."""
    code = bytearray(path.read_bytes())
    at = code.index(b"\x54\xb2\x81")
    code[at : at + 4] = b"\x54\xbb\x81\x08"
    path.write_bytes(code)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_crop_is_named(make_clip, suffix):
    path = make_clip(f"a{suffix}", audio="aac")
    with open_reader(path) as reader:
        assert WORDS not in reader.warnings
        whole = len(list(reader))
    (with_pixel_crop if suffix == ".mkv" else with_clap)(path)
    with open_reader(path) as reader:
        assert reader.warnings[WORDS] == 1
        assert len(list(reader)) == whole
