"""Arrays come back when, and only when, nobody holds them."""

import threading

import numpy as np

from edgecar.runtime.stream_cache import MOST_FREE, FramePool

SHAPE = (1, 40, 50)


def place(array: np.ndarray) -> int:
    return array.ctypes.data


def test_arrays_that_are_held_are_not_handed_out_again():
    pool = FramePool(SHAPE)
    held = [pool.array() for _ in range(20)]
    for number, array in enumerate(held):
        array[:] = number
    assert len({place(array) for array in held}) == 20
    assert [array[0, 39, 49] for array in held] == list(range(20))


def test_a_view_of_a_view_holds_its_array():
    pool = FramePool(SHAPE)
    view = pool.array()[0][10:20, ::2].T
    view[:] = 7
    later = [pool.array() for _ in range(3)]
    for array in later:
        array[:] = 9
    assert (view == 7).all()


def test_an_array_comes_back_when_its_last_view_goes():
    pool = FramePool(SHAPE)
    array = pool.array()
    was, view = place(array), array[0]
    del array
    assert place(pool.array()) != was  # the view still holds it
    del view
    assert was in {place(a) for a in [pool.array(), pool.array()]}


def test_no_more_are_kept_than_are_of_use():
    pool = FramePool(SHAPE)
    held = [pool.array() for _ in range(3 * MOST_FREE)]
    held.clear()
    assert len(pool._free) == MOST_FREE


def test_arrays_come_back_from_other_threads():
    pool = FramePool(SHAPE)
    seen = set()

    def use() -> None:
        for _ in range(200):
            array = pool.array()
            array[:] = 1
            seen.add(place(array))

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) < 50  # of 800
