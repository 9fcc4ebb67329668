"""QP of HEVC's key frames, from their slice headers; FFmpeg's decoder does not pass it on."""

from collections.abc import Iterator
from contextlib import suppress

LENGTHS_AT, PARAMETERS_AT = 21, 23  # bytes of the decoder configuration record (ISO/IEC 14496-15)
IDR_W_RADL, IDR_N_LP, SPS, PPS = 19, 20, 33, 34  # types of NAL units
LAST_SLICE_TYPE = 31
HEADER_BYTES = 64  # of a slice; what is read of it ends long before
INITIAL_QP = 26


class KeyFrameQp:
    """QP of the latest key frame of one stream, by Rec. ITU-T H.265, 7.3.

    It is the slice's: single blocks may differ. Key frames that other pictures may precede in
    display order (CRA) are passed over, as their headers need the state of a decoder.

    Args:
        parameters: Parameter sets that the container has beside the pictures (``extradata``).
    """

    def __init__(self, parameters: bytes | None = None) -> None:
        self.qp: float | None = None
        """-48 to 51, on the scale of 8 bits; None as long as no key frame told it."""
        self._length_bytes = 0  # before each NAL unit; 0: start codes lie between them
        self._sps: dict[int, tuple[bool, bool, bool]] = {}
        self._pps: dict[int, tuple[int, bool, int, int]] = {}
        if parameters and len(parameters) > PARAMETERS_AT and parameters[0] == 1:
            self._length_bytes = (parameters[LENGTHS_AT] & 3) + 1
            self._take(_configured(parameters))
        elif parameters:
            self._take(_between_start_codes(parameters))

    def read(self, code: bytes) -> None:
        """Take what a packet says, as the container holds it; damage is passed over."""
        split = _with_lengths(code, self._length_bytes) if self._length_bytes else None
        self._take(split or _between_start_codes(code))

    def _take(self, units: Iterator[bytes]) -> None:
        for unit in units:
            if len(unit) < 3 or unit[0] & 1 or unit[1] >> 3:  # of another layer
                continue
            kind = unit[0] >> 1
            # A unit that breaks off, or names parameters that were not sent, says nothing.
            with suppress(IndexError, KeyError):
                if kind == SPS:
                    self._take_sps(_Bits(unit[2:]))
                elif kind == PPS:
                    self._take_pps(_Bits(unit[2:]))
                elif kind in (IDR_W_RADL, IDR_N_LP):
                    self._take_slice(_Bits(unit[2:HEADER_BYTES]))
            if kind <= LAST_SLICE_TYPE:
                return  # the other slices of the picture, and no parameters

    def _take_sps(self, bits: "_Bits") -> None:
        bits.skip(4)
        sub_layers = bits.take(3)  # less one
        bits.skip(1)
        _skip_profile(bits, sub_layers)
        number, chroma_format = bits.unsigned(), bits.unsigned()
        separate_planes = chroma_format == 3 and bool(bits.take(1))
        bits.skip_unsigned(2)  # size
        if bits.take(1):
            bits.skip_unsigned(4)  # conformance window
        bits.skip_unsigned(3)  # bit depths, order count
        stated_layers = sub_layers + 1 if bits.take(1) else 1
        bits.skip_unsigned(3 * stated_layers)
        bits.skip_unsigned(6)  # sizes and depths of blocks
        if bits.take(1) and bits.take(1):
            _skip_scaling_lists(bits)
        bits.skip(1)  # asymmetric partitions
        adaptive_offset = bool(bits.take(1))
        has_chroma = chroma_format != 0 and not separate_planes
        self._sps[number] = separate_planes, adaptive_offset, has_chroma

    def _take_pps(self, bits: "_Bits") -> None:
        number, sps = bits.unsigned(), bits.unsigned()
        bits.skip(1)
        states_output, extra_bits = bool(bits.take(1)), bits.take(3)
        bits.skip(2)
        bits.skip_unsigned(2)
        self._pps[number] = sps, states_output, extra_bits, INITIAL_QP + bits.signed()

    def _take_slice(self, bits: "_Bits") -> None:
        """Take the QP of a key frame's first slice; others are passed over."""
        if not bits.take(1):
            return
        bits.skip(1)
        sps, states_output, extra_bits, initial_qp = self._pps[bits.unsigned()]
        separate_planes, adaptive_offset, has_chroma = self._sps[sps]
        bits.skip(extra_bits)
        bits.skip_unsigned(1)  # type of slice: all are I in a key frame
        bits.skip(states_output + 2 * separate_planes + adaptive_offset * (1 + has_chroma))
        self.qp = float(initial_qp + bits.signed())


class _Bits:
    """Reader of the bits of a NAL unit after its header, by Rec. ITU-T H.265, 9.2."""

    def __init__(self, unit: bytes) -> None:
        code = unit.replace(b"\0\0\3", b"\0\0")  # emulation prevention
        self._bits = "".join(f"{byte:08b}" for byte in code)
        self._at = 0

    def take(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits; IndexError behind the end."""
        bits = self._bits[self._at : self._at + count]
        self.skip(count)
        return int(bits, 2) if bits else 0

    def skip(self, count: int) -> None:
        self._at += count
        if self._at > len(self._bits):
            raise IndexError("behind the end of a NAL unit")

    def unsigned(self) -> int:
        """Read an Exp-Golomb code, ue(v)."""
        first = self._bits.find("1", self._at)
        if first < 0:
            raise IndexError("behind the end of a NAL unit")
        zeros = first - self._at
        self.skip(zeros)
        return self.take(zeros + 1) - 1

    def signed(self) -> int:
        """Read a signed Exp-Golomb code, se(v)."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)

    def skip_unsigned(self, count: int) -> None:
        for _ in range(count):
            self.unsigned()


def _skip_profile(bits: _Bits, sub_layers: int) -> None:
    """Skip profile_tier_level; ``sub_layers`` are those besides the highest."""
    profile, level = 88, 8
    bits.skip(profile + level)
    present = [(bits.take(1), bits.take(1)) for _ in range(sub_layers)]
    bits.skip(2 * (8 - sub_layers) if sub_layers else 0)
    bits.skip(sum(profile * states_profile + level * states for states_profile, states in present))


def _skip_scaling_lists(bits: _Bits) -> None:
    for size in range(4):
        for _ in range(2 if size == 3 else 6):
            if not bits.take(1):
                bits.skip_unsigned(1)
                continue
            bits.skip_unsigned(min(64, 16 << 2 * size) + (size > 1))


def _configured(record: bytes) -> Iterator[bytes]:
    """NAL units in a decoder configuration record."""
    at, arrays = PARAMETERS_AT, record[PARAMETERS_AT - 1]
    while arrays and at < len(record):
        count = int.from_bytes(record[at + 1 : at + 3], "big")
        at, arrays = at + 3, arrays - 1
        while count and at < len(record):
            end = at + 2 + int.from_bytes(record[at : at + 2], "big")
            yield record[at + 2 : end]
            at, count = end, count - 1


def _with_lengths(code: bytes, length_bytes: int) -> Iterator[bytes] | None:
    """NAL units behind their lengths; None if start codes lie between them after all."""
    if code[:4] == b"\0\0\0\1" or code[:3] == b"\0\0\1":
        return None
    return _measured(code, length_bytes)


def _measured(code: bytes, length_bytes: int) -> Iterator[bytes]:
    at = 0
    while at + length_bytes < len(code):
        start = at + length_bytes
        at = start + int.from_bytes(code[at:start], "big")
        yield code[start:at]


def _between_start_codes(code: bytes) -> Iterator[bytes]:
    """NAL units of a byte stream (Rec. ITU-T H.265, annex B)."""
    start = code.find(b"\0\0\1")
    while start >= 0:
        end = code.find(b"\0\0\1", start + 3)
        yield code[start + 3 : end if end >= 0 else len(code)]
        start = end
