"""Small photographs, a cache of each test's own, and arithmetic that repeats."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from skimage import data

Bgr = np.ndarray


@pytest.fixture(scope="session")
def photos() -> list[Bgr]:
    """Parts of real photographs, 128×192 BGR: larger than the clips of these tests."""
    whole = (data.astronaut(), data.coffee(), data.chelsea())
    return [np.ascontiguousarray(photo[40:168, 120:312, ::-1]) for photo in whole]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("EDGECAR_CACHE", str(tmp_path / "cache"))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Sums over several threads end in other bits when their number changes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
