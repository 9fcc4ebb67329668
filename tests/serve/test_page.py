"""The page of `edgecar serve` in headless Chromium, driven by playwright."""

import re
import shutil
import time
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest

from tests.serve.stand_in import AFTER, BEFORE, StandIn, camera, grey_pair

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Debian's chromium")
PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}
PATIENCE_MS = 20_000  # a shared machine may be slow; what is waited for comes in about a second
HOSTILE = "<b>&\"' yard"
# Grey in the middle row of the picture at a share of its width; null while there is none.
GREY = """([name, share]) => {
  const cameras = [...document.querySelectorAll(".camera")];
  const canvas = cameras.find((one) => one.dataset.name === name)?.querySelector(".picture");
  if (!canvas) return null;
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  const x = Math.min(canvas.width - 1, Math.floor(canvas.width * share));
  probe.drawImage(canvas, x, Math.floor(canvas.height / 2), 1, 1, 0, 0, 1, 1);
  const pixel = probe.getImageData(0, 0, 1, 1).data;
  return pixel[3] === 0 ? null : pixel[1];
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


class Opened:
    """The page of a server, what it complained of and asked for."""

    def __init__(self, browser, server: StandIn, viewport=DESK, scheme="light"):
        self.server = server
        self.complaints, self.requests = [], []
        context = browser.new_context(viewport=viewport, color_scheme=scheme)
        context.set_default_timeout(PATIENCE_MS)
        self.page = context.new_page()
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(server.url)

    def camera(self, name):
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        return self.page.locator(f'.camera[data-name="{quoted}"]')

    def until(self, holds):
        """Wait for what Python asks; the page's policy forbids playwright's own eval."""
        for _ in range(PATIENCE_MS // 50):
            if holds():
                return
            self.page.wait_for_timeout(50)
        pytest.fail(f"never came; complaints: {self.complaints}")

    def grey(self, name, share):
        return self.page.evaluate(GREY, [name, share])

    def until_grey(self, name, share, value):
        # Two codes of JPEG's rounding; before and after are 175 apart.
        self.until(lambda: (self.grey(name, share) or 0) == pytest.approx(value, abs=2))

    def asked_beside(self, name):
        """The cameras of which pictures are asked for while ten are asked for of this one."""
        self.server.watched()
        names = []
        self.until(lambda: names.extend(self.server.watched()) or names.count(name) >= 10)
        return set(names)

    def close(self):
        self.page.context.close()


@pytest.fixture
def server():
    made = StandIn([camera("gate"), camera("yard")])
    yield made
    made.close()


@pytest.fixture
def opened(browser, server):
    made = Opened(browser, server)
    yield made
    made.close()


def expect(locator):
    return sync_api.expect(locator)


@pytest.fixture(autouse=True, scope="module")
def patience():
    sync_api.expect.set_options(timeout=PATIENCE_MS)


def test_cameras_and_their_figures_appear(opened):
    gate = opened.camera("gate")
    expect(opened.page.locator(".camera")).to_have_count(2)
    expect(gate).to_have_attribute("data-state", "running")
    expect(gate.locator(".head .state")).to_have_text("running")
    for of, text in (
        ("process_fps", "24.8 of 25.0"),
        ("age_ms", "20 / 41"),
        ("computed_share", "21"),
        ("qp", "31.2"),
    ):
        expect(gate.locator(f'.plot[data-of="{of}"] .value')).to_have_text(text)
    expect(gate.locator(".facts")).to_contain_text("edgecar-s · openvino, int8, CPU")
    expect(gate.locator(".facts")).to_contain_text("2 dropped · 4 passed (overload 4)")
    expect(gate.locator(".facts li")).to_contain_text("record")
    expect(gate.locator(".shed")).to_be_hidden()
    sums = opened.page.locator("#sums")
    for text in ("2 of 2 running", "49.6", "62 %", "80 %", "313 MiB", "1 h 6 min"):
        expect(sums).to_contain_text(text)
    expect(opened.page.locator("#version")).to_have_text("0.1.0")


def test_nothing_is_complained_of_and_no_other_host_asked(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    expect(opened.camera("gate").locator(".plot .range").first).to_have_text("23.0 – 25.0")
    assert opened.complaints == []
    hosts = {urlsplit(url).netloc for url in opened.requests}
    assert hosts == {f"127.0.0.1:{opened.server.port}"}


def test_plots_have_gaps_where_nothing_was_measured(opened):
    share = opened.camera("gate").locator('.plot[data-of="computed_share"]')
    expect(share.locator(".range")).to_have_text("10 – 30")
    assert share.locator("path").get_attribute("d").count("M") == 2
    label = share.locator("svg").get_attribute("aria-label")
    assert label == "computed %: 10 – 30 in the last 2 min"
    alone = opened.camera("gate").locator('.plot[data-of="qp"] path').get_attribute("d")
    assert re.fullmatch(r"M99\.00 [\d.]+h1", alone)  # one value is seen too


def test_the_picture_is_before_left_and_after_right(opened):
    for name in ("gate", "yard"):
        opened.until_grey(name, 0.25, BEFORE)
        opened.until_grey(name, 0.75, AFTER)


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


def test_the_line_follows_a_finger(browser, server):
    opened = Opened(browser, server, PHONE)
    opened.until_grey("gate", 0.4, BEFORE)
    box = opened.camera("gate").locator(".picture").bounding_box()
    at, y = (lambda share: box["x"] + box["width"] * share), box["y"] + box["height"] / 2
    session = opened.page.context.new_cdp_session(opened.page)
    moves = [("touchMove", [share]) for share in (0.4, 0.3, 0.2)]
    for kind, points in [("touchStart", [0.5]), *moves, ("touchEnd", [])]:
        touches = [{"x": at(share), "y": y} for share in points]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
    opened.until_grey("gate", 0.4, AFTER)
    opened.close()


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


def test_a_broken_camera_turns_red_and_comes_back(opened):
    gate = opened.camera("gate")
    opened.until_grey("gate", 0.25, BEFORE)
    colour = "element => getComputedStyle(element).backgroundColor"
    green = gate.locator(".head .dot").evaluate(colour)
    record = opened.server.cameras["gate"]
    record |= {"state": "waiting", "error": "camera gone: trying again in 2 s", "age_ms": None}
    expect(gate).to_have_attribute("data-state", "waiting")
    expect(gate.locator(".head .state")).to_have_text("waiting")
    expect(gate.locator(".side > .error")).to_have_text("camera gone: trying again in 2 s")
    red, part, _ = map(int, re.findall(r"\d+", gate.locator(".head .dot").evaluate(colour)))
    assert red > 2 * part
    record |= {"state": "running", "error": None}
    expect(gate).to_have_attribute("data-state", "running")
    expect(gate.locator(".side > .error")).to_be_hidden()
    assert gate.locator(".head .dot").evaluate(colour) == green


def test_overload_is_said(opened):
    opened.server.cameras["gate"] |= {"shed": True, "running": "edgecar-xs"}
    shed = opened.camera("gate").locator(".shed")
    expect(shed).to_have_text("overload: running edgecar-xs instead of edgecar-s")
    opened.server.cameras["gate"]["running"] = "pass"
    expect(shed).to_have_text("overload: passing pictures as they are instead of running edgecar-s")


def test_outputs_say_what_is_wrong(opened):
    outputs = opened.server.cameras["gate"]["outputs"]
    outputs[0] |= {"state": "waiting", "error": "disk full", "dropped": 7}
    row = opened.camera("gate").locator(".facts li")
    expect(row.locator(".error")).to_have_text("disk full")
    expect(row).to_contain_text("100 frames, 7 dropped")
    expect(row.locator(".state")).to_have_attribute("data-state", "waiting")


def test_stop_start_and_network_ask_for_what_they_say(opened):
    gate = opened.camera("gate")
    gate.get_by_role("button", name="Stop gate").click()
    expect(gate).to_have_attribute("data-state", "stopped")
    gate.get_by_role("button", name="Start gate").click()
    expect(gate).to_have_attribute("data-state", "running")
    network = gate.get_by_label("Network of gate")
    options = network.locator("option").evaluate_all("all => all.map(one => one.value)")
    assert options == ["edgecar-xs", "edgecar-s", "edgecar-m", "pass"]
    network.select_option("pass")
    opened.until(lambda: len(opened.server.asked) == 3)
    assert opened.server.asked == [
        ("POST", "/api/cameras/gate/stop", None),
        ("POST", "/api/cameras/gate/start", None),
        ("PATCH", "/api/cameras/gate", {"network": "pass"}),
    ]
    expect(network).to_have_value("pass")


def test_a_refusal_is_shown_where_the_person_acted(opened):
    refusal = "network edgecar-m has no weights for h264: take edgecar-s"
    opened.server.answers["PATCH", "/api/cameras/gate"] = (422, refusal)
    gate = opened.camera("gate")
    gate.get_by_label("Network of gate").select_option("edgecar-m")
    expect(gate.locator(".controls .alert")).to_have_text(refusal)
    expect(gate.get_by_label("Network of gate")).to_have_value("edgecar-s")  # what is so
    expect(opened.camera("yard").locator(".controls .alert")).to_be_hidden()
    gate.get_by_label("Network of gate").select_option("edgecar-m")
    expect(gate.locator(".controls .alert")).to_be_hidden()
    expect(gate.get_by_label("Network of gate")).to_have_value("edgecar-m")


def test_a_camera_is_added_and_nothing_typed_is_lost(opened):
    page = opened.page
    page.get_by_role("button", name="Add camera").click()
    dialog = page.locator("#add-dialog")
    dialog.get_by_label("Name").fill("gate")
    dialog.get_by_label("Source").fill("rtsp://10.0.0.9/main")
    dialog.get_by_label("Network").select_option("edgecar-xs")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Add camera").click()
    dialog.get_by_label("Source").press("Enter")
    expect(dialog.locator(".alert")).to_contain_text("a camera gate is there already")
    expect(dialog.get_by_label("Source")).to_have_value("rtsp://10.0.0.9/main")
    dialog.get_by_label("Name").fill("roof")
    dialog.get_by_role("button", name="Add camera").click()
    expect(opened.camera("roof")).to_be_visible()
    expect(dialog).to_be_hidden()
    sent = {"name": "roof", "source": "rtsp://10.0.0.9/main", "network": "edgecar-xs"}
    assert opened.server.asked[-1] == ("POST", "/api/cameras", sent)


def test_a_camera_is_removed_after_a_question(opened):
    gate = opened.camera("gate")
    gate.get_by_role("button", name="Remove gate").click()
    gate.get_by_role("button", name="Keep").click()
    gate.get_by_role("button", name="Remove gate").click()
    assert opened.server.asked == []
    gate.get_by_role("button", name="Remove", exact=True).click()
    expect(gate).to_have_count(0)
    assert opened.server.asked == [("DELETE", "/api/cameras/gate", None)]
    opened.camera("yard").get_by_role("button", name="Remove yard").click()
    opened.camera("yard").get_by_role("button", name="Remove", exact=True).click()
    expect(opened.page.locator("#empty")).to_be_visible()


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


def test_a_double_click_shows_the_pixels_of_a_large_picture(browser, server):
    def ramp(_name, width, height):
        row = np.linspace(BEFORE, AFTER, width).round().astype(np.uint8)
        return cv2.merge([np.tile(row, (height, 2))] * 3)

    server.cameras["gate"] |= {"width": 1280, "height": 720}
    server.paint = ramp
    opened = Opened(browser, server)
    at = lambda share: BEFORE + (AFTER - BEFORE) * share  # noqa: E731
    opened.camera("gate").locator(".zoom").click()
    opened.until_grey("gate", 0.75, at(0.75))
    box = opened.camera("gate").locator(".picture").bounding_box()
    opened.page.mouse.dblclick(box["x"] + box["width"] / 4, box["y"] + box["height"] / 2)
    for share in (0.01, 0.99):
        opened.until_grey("gate", share, at(0.25 + (share - 0.5) / 4))
    opened.until(lambda: server.pictures[-1][1]["width"] == "1280")
    opened.camera("gate").locator("[role=slider]").press("Enter")
    opened.until_grey("gate", 0.75, at(0.75))
    opened.close()


def test_the_keys_enlarge_too(opened):
    opened.camera("yard").get_by_role("button", name="Enlarge yard").press("Enter")
    expect(opened.camera("gate")).to_be_hidden()
    opened.page.get_by_role("button", name="Back to all cameras").press("Enter")
    expect(opened.camera("gate")).to_be_visible()
    expect(opened.camera("yard").get_by_role("button", name="Enlarge yard")).to_be_focused()


def test_pictures_are_fair_and_only_of_what_is_seen(browser, server):
    for index in range(10):
        server.cameras[f"more {index}"] = camera(f"more {index}")
    server.cameras["yard"]["state"] = "stopped"
    opened = Opened(browser, server)
    seen = {"gate", "more 0", "more 1", "more 2", "more 3"}
    opened.until_grey("gate", 0.25, BEFORE)
    assert opened.asked_beside("gate") == seen  # neither what has stopped nor what is far below
    opened.camera("more 9").scroll_into_view_if_needed()
    opened.until_grey("more 9", 0.25, BEFORE)
    assert "gate" not in opened.asked_beside("more 9")
    opened.close()


def test_pictures_in_flight_are_few_and_slow_ones_leave_room(browser, server):
    silent = [f"silent {index}" for index in range(6)]
    server.cameras = {name: camera(name) for name in [*silent, "gate"]}
    server.silent.update(silent)
    opened = Opened(browser, server, {"width": 1920, "height": 1400})
    opened.until(lambda: sum(name in silent for name, _ in server.pictures) >= 12)
    asked = [name for name, _ in server.pictures]
    # Taking turns alone, each would have been asked for as often as the other.
    assert asked.count("gate") > 2 * max(map(asked.count, silent))
    assert server.most_in_flight == 4
    opened.close()


def test_more_cameras_than_turns_are_all_seen(browser, server):
    def slowly(*size):
        time.sleep(0.2)  # twice the pause between two pictures of a camera
        return grey_pair(*size)

    names = [f"camera {index}" for index in range(8)]
    server.cameras = {name: camera(name) for name in names}
    server.paint = slowly
    opened = Opened(browser, server, {"width": 1920, "height": 1400})
    opened.until(lambda: len(server.pictures) >= 40)
    asked = [name for name, _ in server.pictures]
    assert max(map(asked.count, names)) <= min(map(asked.count, names)) + 2
    opened.close()


def test_nothing_is_fetched_while_nobody_looks(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    hide = """hidden => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    opened.page.evaluate(hide, True)
    opened.until(lambda: opened.server.in_flight == 0)
    opened.server.watched()
    for _ in range(50):  # longer than a picture takes
        opened.page.evaluate("fetch('/api/status').then(response => response.text())")
    assert opened.server.watched() == set()
    opened.page.evaluate(hide, False)
    opened.until(lambda: opened.server.watched() == {"gate", "yard"})
    assert opened.complaints == []


def test_the_width_asked_for_is_that_of_the_canvas(browser, server):
    server.cameras["gate"] |= {"width": 3840, "height": 2160}
    opened = Opened(browser, server)
    opened.until_grey("gate", 0.25, BEFORE)
    seen = opened.camera("gate").locator(".picture").bounding_box()["width"]
    asked = {int(query["width"]) for name, query in server.pictures if name == "gate"}
    assert max(asked) <= 960
    assert any(seen <= width < seen + 64 for width in asked)
    opened.close()


def test_a_server_that_is_away_is_said_and_found_again(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    opened.server.close()
    banner = opened.page.locator("#banner")
    expect(banner).to_have_text("server not reachable, trying again")
    opened.camera("gate").get_by_role("button", name="Stop gate").click()
    expect(opened.camera("gate").locator(".controls .alert")).to_contain_text("not reachable")
    opened.server.began += 1000  # it counts from the start again
    opened.server.paint = lambda *size: 255 - grey_pair(*size)
    opened.server.open(opened.server.port)
    expect(banner).to_be_hidden()
    opened.until_grey("gate", 0.25, 255 - BEFORE)


def test_a_token_is_asked_for_and_kept(browser, server):
    server.token = "s3cret"
    opened = Opened(browser, server)
    dialog = opened.page.locator("#login-dialog")
    expect(dialog).to_be_visible()
    opened.page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    dialog.get_by_label("Token").fill("wrong")
    dialog.get_by_role("button", name="Log in").click()
    expect(dialog.locator(".alert")).to_contain_text("wrong token")
    expect(dialog.get_by_label("Token")).to_have_value("wrong")
    dialog.get_by_label("Token").fill("s3cret")
    dialog.get_by_role("button", name="Log in").click()
    expect(dialog).to_be_hidden()
    opened.until_grey("gate", 0.25, BEFORE)
    opened.page.reload()
    opened.until_grey("gate", 0.25, BEFORE)
    server.token = "changed"
    expect(dialog).to_be_visible()
    opened.close()


def test_what_comes_from_outside_stays_text(browser, server):
    server.cameras.clear()
    error = "<img src=x onerror=alert(1)>"
    record = camera(HOSTILE, error=error, source="<script>alert(2)</script>")
    record["outputs"][0] |= {"target": "<i>&</i>", "error": "<u>"}
    server.cameras[HOSTILE] = record
    opened = Opened(browser, server)
    hostile = opened.camera(HOSTILE)
    expect(hostile.locator("h2")).to_have_text(HOSTILE)
    expect(hostile.locator(".side > .error")).to_have_text(error)
    opened.until_grey(HOSTILE, 0.25, BEFORE)
    hostile.get_by_role("button", name=f"Stop {HOSTILE}").click()
    expect(hostile).to_have_attribute("data-state", "stopped")
    assert server.asked == [("POST", f"/api/cameras/{HOSTILE}/stop", None)]
    hostile.get_by_role("button", name=f"Enlarge {HOSTILE}").click()
    expect(hostile).to_have_class(re.compile("large"))
    assert hostile.locator("i, u, img, script, h2 *").count() == 0
    assert opened.complaints == []
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(browser, server, scheme):
    long = {"error": "y" * 300, "source": "rtsp://" + "z" * 200, "shed": True}
    server.cameras = {"x" * 90: camera("x" * 90, **long)} | server.cameras
    opened = Opened(browser, server, PHONE, scheme)
    page = opened.page
    opened.until_grey("x" * 90, 0.25, BEFORE)
    small = page.locator("button:visible, select:visible, .divider").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect())"
        ".filter(box => box.width && (box.width < 40 || box.height < 40)).length"
    )
    assert small == 0  # a finger is about 40 px wide
    for act in (lambda: None, lambda: page.locator(".zoom").first.click()):
        act()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.evaluate("scrollTo(500, 0)")
        assert page.evaluate("scrollX") == 0
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    brightness = [sum(map(int, re.findall(r"\d+", colour))) for colour in (ink, paper)]
    assert (brightness[0] > brightness[1]) == (scheme == "dark")
    assert opened.complaints == []
    opened.close()
