"""Values that every layer speaks of; standard library only."""

from typing import Literal

Size = tuple[int, int]
"""``(height, width)`` in pixels."""

Context = Literal["local", "windowed"]
"""``local``: finite receptive field, tiling is exact. ``windowed``: a tile is its own picture."""

Precision = Literal["fp32", "bf16", "fp16", "int8"]
"""Arithmetic of an engine."""

Rect = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels; bottom and right are exclusive."""
