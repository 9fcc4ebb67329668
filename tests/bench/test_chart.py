import sys

import cv2
import numpy as np
import pytest

from edgecar.bench.chart import COLOURS, OTHER_COLOUR, chart
from edgecar.errors import DataError, EdgecarError


def colours_in(path) -> set[str]:
    bgr = cv2.imread(str(path)).reshape(-1, 3)
    return {f"#{red:02X}{green:02X}{blue:02X}" for blue, green, red in np.unique(bgr, axis=0)}


@pytest.mark.slow
def test_each_engine_has_its_colour(tmp_path, timed) -> None:
    assert len({*COLOURS.values(), OTHER_COLOUR}) == len(COLOURS) + 1
    path = tmp_path / "speed.png"
    chart([timed(), timed(engine="onnxruntime", fps=9.0)], path, machine="Some CPU")
    assert {COLOURS["openvino"], COLOURS["onnxruntime"]} <= colours_in(path)
    chart([timed(engine="fake")], path, machine="Some CPU")
    assert OTHER_COLOUR in colours_in(path)
    assert COLOURS["openvino"] not in colours_in(path)


def test_it_grows_with_its_bars_and_repeats_exactly(tmp_path, timed) -> None:
    rows = [timed(network=f"n{i}", fps=float(i + 1)) for i in range(12)]
    first, second, small = (tmp_path / name for name in ("1.png", "2.png", "3.png"))
    chart(rows, first, machine="m")
    chart(rows, second, machine="m")
    chart(rows[:2], small, machine="m")
    assert first.read_bytes() == second.read_bytes()  # or `make tables` would never come to rest
    assert cv2.imread(str(first)).shape[0] > cv2.imread(str(small)).shape[0] + 300


def test_speed_and_machine_are_in_the_picture(tmp_path, timed) -> None:
    pictures = []
    for changes, machine in (({}, "A"), ({"fps": 25.0}, "A"), ({}, "B")):
        path = tmp_path / "chart.png"
        chart([timed(**changes)], path, machine=machine)
        pictures.append(path.read_bytes())
    assert len(set(pictures)) == 3


def test_nothing_to_draw_or_to_draw_with(tmp_path, timed, counted, monkeypatch) -> None:
    with pytest.raises(DataError, match="no row has times"):
        chart([counted()], tmp_path / "none.png", machine="m")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EdgecarError, match=r"pip install 'edgecar\[plot\]'"):
        chart([timed()], tmp_path / "none.png", machine="m")
    assert list(tmp_path.iterdir()) == []
