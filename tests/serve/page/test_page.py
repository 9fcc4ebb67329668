"""What the page of `edgecar serve` shows and what a person does with it, in a real browser."""

import re
from urllib.parse import urlsplit

import pytest

from edgecar.serve.status import CameraStatus, HistoryTable, ServiceStatus
from tests.serve.conftest import served
from tests.serve.page.conftest import PHONE, Opened, expect
from tests.serve.stand_in import BEFORE, camera, grey_pair, history_of

pytestmark = pytest.mark.slow  # drives a browser

HOSTILE = "<b>&\"' yard"


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
    assert alone == "M99.00 12.00h1"  # one value is seen too, in the middle


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


def test_overload_and_outputs_that_fail_are_said(opened):
    record = opened.server.cameras["gate"]
    record |= {"shed": True, "running": "edgecar-xs"}
    record["outputs"][0] |= {"state": "waiting", "error": "disk full", "dropped": 7}
    shed = opened.camera("gate").locator(".shed")
    expect(shed).to_have_text("overload: running edgecar-xs instead of edgecar-s")
    row = opened.camera("gate").locator(".facts li")
    expect(row.locator(".error")).to_have_text("disk full")
    expect(row).to_contain_text("100 frames, 7 dropped")
    expect(row.locator(".state")).to_have_attribute("data-state", "waiting")
    record["running"] = "pass"
    expect(shed).to_have_text("overload: passing pictures as they are instead of running edgecar-s")


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
    expect(dialog.get_by_label("Network")).to_have_value("edgecar-s")
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
    opened.page.get_by_role("button", name="Add camera").click()
    expect(dialog.get_by_label("Name")).to_have_value("")
    expect(dialog.get_by_label("Network")).to_have_value("edgecar-s")
    sent = {"name": "roof", "source": "rtsp://10.0.0.9/main", "network": "edgecar-xs"}
    assert opened.server.asked[-1] == ("POST", "/api/cameras", sent)


def test_no_camera_is_added_before_the_networks_are_known(opened):
    page, held = opened.page, []
    page.route("**/api/status", lambda route: held.append(route))
    page.reload()
    add = page.get_by_role("button", name="Add camera")
    opened.until(lambda: held)
    expect(add).to_be_disabled()
    held.pop().continue_()
    page.unroute("**/api/status")
    add.click()
    options = page.locator("#add-dialog option")
    expect(options).to_have_text(["edgecar-xs", "edgecar-s", "edgecar-m", "pass: as it is"])


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


def test_the_stand_in_answers_as_the_service_does(server):
    for record in server.cameras.values():
        assert CameraStatus.model_validate(record).model_dump() == record
        assert HistoryTable.model_validate(history_of(record)).model_dump() == history_of(record)
    assert ServiceStatus.model_validate(server.status).model_dump() == server.status


def test_the_real_service_asks_for_its_token_and_its_cameras_are_drawn(browser, make_service, clip):
    token = "a-token-of-some-length"
    service = make_service({"name": "gate", "source": str(clip)}, server={"token": token})
    with served(service) as real:
        opened = Opened(browser, real)
        dialog = opened.page.locator("#login-dialog")
        expect(dialog).to_be_visible()
        assert opened.page.locator(".camera").count() == 0
        for text in ("wrong", token):
            dialog.get_by_label("Token").fill(text)
            dialog.get_by_role("button", name="Log in").click()
            if text == "wrong":
                expect(dialog.locator(".alert")).to_contain_text("that is not the token")
        expect(dialog).to_be_hidden()
        gate = opened.camera("gate")
        expect(gate.locator(".facts")).to_contain_text("edgecar-s · fake, fp32, cpu")
        opened.until(lambda: opened.grey("gate", 0.75) is not None)
        assert all("401" in line for line in opened.complaints)
        complained = len(opened.complaints)
        opened.page.reload()
        opened.until(lambda: opened.grey("gate", 0.75) is not None)
        gate.get_by_label("Network of gate").select_option("pass")
        expect(gate.locator(".facts")).to_contain_text("pass: the picture as it is")
        assert len(opened.complaints) == complained
        assert not [url for url in opened.requests if token in url]
        opened.close()
