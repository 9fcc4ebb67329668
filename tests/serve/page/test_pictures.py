"""The live pictures of the page: the line between before and after, and whose turn it is."""

import time

import cv2
import numpy as np
import pytest

from tests.serve.page.conftest import PHONE, expect
from tests.serve.stand_in import AFTER, BEFORE, camera, grey_pair

pytestmark = pytest.mark.slow  # drives a browser


def test_the_line_follows_the_mouse(opened):
    opened.until_grey("gate", 0.4, BEFORE)
    box = opened.camera("gate").locator(".picture").bounding_box()
    middle = box["y"] + box["height"] / 3  # beside the knob: the whole picture can be dragged
    opened.page.mouse.move(box["x"] + box["width"] * 0.9, middle)
    opened.page.mouse.down()
    opened.page.mouse.move(box["x"] + box["width"] * 0.2, middle, steps=5)
    opened.page.mouse.up()
    opened.until_grey("gate", 0.4, AFTER)
    assert opened.grey("gate", 0.1) == pytest.approx(BEFORE, abs=2)
    slider = opened.camera("gate").locator("[role=slider]")
    assert float(slider.get_attribute("aria-valuenow")) == pytest.approx(20, abs=1)
    assert opened.grey("yard", 0.4) == pytest.approx(BEFORE, abs=2)  # every line moves alone
    expect(opened.page.locator(".camera.large")).to_have_count(0)  # it was no click


def test_the_line_follows_a_finger(open_page, server):
    opened = open_page(server, PHONE)
    opened.until_grey("gate", 0.4, BEFORE)
    box = opened.camera("gate").locator(".picture").bounding_box()
    at, y = (lambda share: box["x"] + box["width"] * share), box["y"] + box["height"] / 2
    session = opened.page.context.new_cdp_session(opened.page)
    moves = [("touchMove", [share]) for share in (0.4, 0.3, 0.2)]
    for kind, points in [("touchStart", [0.5]), *moves, ("touchEnd", [])]:
        touches = [{"x": at(share), "y": y} for share in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    opened.until_grey("gate", 0.4, AFTER)


def test_the_line_follows_the_keys(opened):
    opened.until_grey("gate", 0.55, AFTER)
    slider = opened.camera("gate").locator("[role=slider]")
    slider.focus()
    for _ in range(10):
        opened.page.keyboard.press("ArrowRight")
    opened.until_grey("gate", 0.55, BEFORE)
    assert opened.grey("gate", 0.65) == pytest.approx(AFTER, abs=2)
    expect(slider).to_have_attribute("aria-valuetext", "60 % before, the rest after")
    opened.page.keyboard.press("Home")
    opened.until_grey("gate", 0.0, AFTER)
    opened.page.keyboard.press("End")
    opened.until_grey("gate", 0.999, BEFORE)


def test_a_click_enlarges_and_escape_returns(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    small = opened.camera("gate").locator(".picture").bounding_box()
    opened.page.mouse.move(small["x"] + 60, small["y"] + 60)
    opened.page.mouse.down()
    opened.page.mouse.move(small["x"] + 62, small["y"] + 61)  # a hand is not that still
    opened.page.mouse.up()
    expect(opened.camera("yard")).to_be_hidden()
    large = opened.camera("gate").locator(".picture").bounding_box()
    assert large["width"] > small["width"]
    opened.page.reload()  # the address says which one is large
    expect(opened.page.locator(".camera.large")).to_have_attribute("data-name", "gate")
    opened.until_grey("gate", 0.25, BEFORE)
    assert opened.asked_beside("gate") == {"gate"}  # nobody sees the other one
    opened.page.keyboard.press("Escape")
    expect(opened.camera("yard")).to_be_visible()
    assert opened.asked_beside("yard") == {"gate", "yard"}


def test_a_double_click_shows_the_pixels_of_a_large_picture(open_page, server):
    def ramp(_name, width, height):
        row = np.linspace(BEFORE, AFTER, width).round().astype(np.uint8)
        return cv2.merge([np.tile(row, (height, 2))] * 3)

    server.cameras["gate"] |= {"width": 1280, "height": 720}
    server.paint = ramp
    opened = open_page(server)
    at = lambda share: BEFORE + (AFTER - BEFORE) * share  # noqa: E731
    opened.camera("gate").locator(".zoom").click()
    opened.until_grey("gate", 0.75, at(0.75))
    box = opened.camera("gate").locator(".picture").bounding_box()
    opened.page.mouse.dblclick(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    for share in (0.01, 0.99):
        opened.until_grey("gate", share, at(0.25 + (share - 0.5) / 4))
    opened.until(lambda: server.pictures[-1][1].endswith("width=1280"))
    opened.camera("gate").locator("[role=slider]").press("Enter")
    opened.until_grey("gate", 0.75, at(0.75))


def test_the_keys_enlarge_too(opened):
    opened.camera("yard").get_by_role("button", name="Enlarge yard").press("Enter")
    expect(opened.camera("gate")).to_be_hidden()
    opened.page.get_by_role("button", name="Back to all cameras").press("Enter")
    expect(opened.camera("gate")).to_be_visible()
    expect(opened.camera("yard").get_by_role("button", name="Enlarge yard")).to_be_focused()


def test_pictures_are_fair_and_only_of_what_is_seen(open_page, server):
    for index in range(10):
        server.cameras[f"more-{index}"] = camera(f"more-{index}")
    server.cameras["yard"]["state"] = "stopped"
    opened = open_page(server)
    seen = {"gate", "more-0", "more-1", "more-2", "more-3"}
    opened.until_grey("gate", 0.25, BEFORE)
    assert opened.asked_beside("gate") == seen  # neither what has stopped nor what is far below
    opened.camera("more-9").scroll_into_view_if_needed()
    opened.until_grey("more-9", 0.25, BEFORE)
    assert "gate" not in opened.asked_beside("more-9")


def test_pictures_in_flight_are_few_and_slow_ones_leave_room(open_page, server):
    silent = [f"silent-{index}" for index in range(6)]
    server.cameras = {name: camera(name) for name in [*silent, "gate"]}
    server.silent.update(silent)
    opened = open_page(server, {"width": 1920, "height": 1400})
    opened.until(lambda: sum(name in silent for name, _ in server.pictures) >= 12)
    asked = [name for name, _ in server.pictures]
    # Taking turns alone, each would have been asked for as often as the other.
    assert asked.count("gate") > 2 * max(map(asked.count, silent))
    assert server.most_in_flight == 4


def test_more_cameras_than_turns_are_all_seen(open_page, server):
    def slowly(*size):
        time.sleep(0.2)  # twice the pause between two pictures of a camera
        return grey_pair(*size)

    names = [f"camera-{index}" for index in range(8)]
    server.cameras = {name: camera(name) for name in names}
    server.paint = slowly
    opened = open_page(server, {"width": 1920, "height": 1400})
    opened.until(lambda: len(server.pictures) >= 40)
    asked = [name for name, _ in server.pictures]
    assert max(map(asked.count, names)) <= min(map(asked.count, names)) + 2


def test_nothing_is_fetched_while_nobody_looks(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    asked = opened.page.evaluate("""async () => {
      const asked = [];
      const real = window.fetch;
      window.fetch = (path, options) => {
        asked.push(path);
        return real(path, options);
      };
      Object.defineProperty(document, "hidden", { value: true, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
      for (let turn = 0; turn < 50; turn++) await (await real("/api/status")).text();
      delete document.hidden;
      return [...asked];
    }""")
    assert [path for path in asked if "frame.jpg" in path] == []  # 50 answers are longer than one
    opened.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert opened.asked_beside("gate") == {"gate", "yard"}
    assert opened.complaints == []


def test_the_width_asked_for_is_that_of_the_canvas(open_page, server):
    server.cameras["gate"] |= {"width": 3840, "height": 2160}
    opened = open_page(server)
    opened.until_grey("gate", 0.25, BEFORE)
    seen = opened.camera("gate").locator(".picture").bounding_box()["width"]
    asked = {int(query.rpartition("=")[2]) for name, query in server.pictures if name == "gate"}
    assert max(asked) <= 960
    assert any(seen <= width < seen + 64 for width in asked)
