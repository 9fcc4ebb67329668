"""What the page of `edgecar serve` shows and what a person does with it, in a real browser."""

import re
import time
from urllib.parse import urlsplit

import pytest

from tests.serve.conftest import served
from tests.serve.page.conftest import PHONE, expect
from tests.serve.stand_in import BEFORE, TOKEN, camera, grey_pair

pytestmark = pytest.mark.slow  # drives a browser

HOSTILE = "<img src=x onerror=alert(1)><b>&\"'"


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
    opened.button("Stop gate").click()
    expect(gate).to_have_attribute("data-state", "stopped")
    opened.button("Start gate").click()
    expect(gate).to_have_attribute("data-state", "running")
    network = gate.get_by_label("Network of gate")
    options = network.locator("option").evaluate_all("all => all.map(one => one.value)")
    assert options == ["edgecar-xs", "edgecar-s", "edgecar-m", "pass"]
    network.select_option("pass")
    opened.until(lambda: len(opened.server.asked) == 3)
    changes = [{"enabled": False}, {"enabled": True}, {"network": "pass"}]
    assert opened.server.asked == [("change", "gate", change) for change in changes]
    expect(network).to_have_value("pass")


def test_a_refusal_is_shown_where_the_person_acted(opened):
    refusal = "network edgecar-m has no weights for h264: take edgecar-s"
    opened.server.refusals.append(refusal)
    gate = opened.camera("gate")
    network, alert = gate.get_by_label("Network of gate"), gate.locator(".controls .alert")
    network.select_option("edgecar-m")
    expect(alert).to_have_text(refusal)
    expect(network).to_have_value("edgecar-s")  # what is so
    expect(opened.camera("yard").locator(".controls .alert")).to_be_hidden()
    network.select_option("edgecar-m")
    expect(alert).to_be_hidden()
    expect(network).to_have_value("edgecar-m")


def test_a_camera_is_added_and_nothing_typed_is_lost(opened):
    add = opened.page.locator("#add")
    add.click()
    dialog = opened.page.locator("#add-dialog")
    name, source, network = map(dialog.get_by_label, ("Name", "Source", "Network"))
    name.fill("gate")
    source.fill("rtsp://10.0.0.9/main")
    expect(network).to_have_value("edgecar-s")
    network.select_option("edgecar-xs")
    opened.page.keyboard.press("Escape")
    add.click()
    source.press("Enter")
    expect(dialog.locator(".alert")).to_contain_text("a camera gate is there already")
    expect(source).to_have_value("rtsp://10.0.0.9/main")
    name.fill("roof")
    dialog.get_by_role("button", name="Add camera").click()
    expect(opened.camera("roof")).to_be_visible()
    expect(dialog).to_be_hidden()
    add.click()
    expect(name).to_have_value("")
    expect(network).to_have_value("edgecar-s")
    sent = {"name": "roof", "source": "rtsp://10.0.0.9/main", "network": "edgecar-xs"}
    assert opened.server.asked == [("add", sent)]


def test_no_camera_is_added_before_the_networks_are_known(opened):
    page, held = opened.page, []
    page.route("**/api/status", lambda route: held.append(route))
    page.reload()
    opened.until(lambda: held)
    expect(page.locator("#add")).to_be_disabled()
    held.pop().continue_()
    page.unroute("**/api/status")
    page.locator("#add").click()
    options = page.locator("#add-dialog option")
    expect(options).to_have_text(["edgecar-xs", "edgecar-s", "edgecar-m", "pass: as it is"])


def test_a_camera_is_removed_after_a_question(opened):
    for answer in ("Keep", "Remove"):
        opened.button("Remove gate").click()
        assert opened.server.asked == []
        opened.camera("gate").get_by_role("button", name=answer, exact=True).click()
    expect(opened.camera("gate")).to_have_count(0)
    assert opened.server.asked == [("remove", "gate")]
    opened.button("Remove yard").click()
    opened.button("Remove").click()
    expect(opened.page.locator("#empty")).to_be_visible()


def test_a_server_that_is_away_is_said_and_found_again(opened):
    opened.until_grey("gate", 0.25, BEFORE)
    opened.server.close()
    banner = opened.page.locator("#banner")
    expect(banner).to_have_text("server not reachable, trying again")
    opened.button("Stop gate").click()
    expect(opened.camera("gate").locator(".controls .alert")).to_contain_text("not reachable")
    opened.server.began = time.monotonic()  # it counts from the start again
    opened.server.paint = lambda *size: 255 - grey_pair(*size)
    opened.server.open(opened.server.port)
    expect(banner).to_be_hidden()
    opened.until_grey("gate", 0.25, 255 - BEFORE)


def test_a_token_is_asked_for_and_kept(open_page, server):
    server.ask_for_token(TOKEN)
    opened = open_page(server)
    dialog = opened.page.locator("#login-dialog")
    expect(dialog).to_be_visible()
    opened.page.keyboard.press("Escape")
    expect(dialog).to_be_visible()
    for token in ("wrong", TOKEN):
        dialog.get_by_label("Token").fill(token)
        opened.button("Log in").click()
        if token == "wrong":
            expect(dialog.locator(".alert")).to_contain_text("that is not the token")
            expect(dialog.get_by_label("Token")).to_have_value("wrong")
    expect(dialog).to_be_hidden()
    opened.until_grey("gate", 0.25, BEFORE)
    opened.page.reload()
    opened.until_grey("gate", 0.25, BEFORE)
    assert all("401" in line for line in opened.complaints)
    assert not [url for url in opened.requests if TOKEN in url]
    server.ask_for_token(TOKEN[::-1])
    expect(dialog).to_be_visible()


def test_what_comes_from_outside_stays_text(open_page, server):
    server.cameras["gate"] |= {"error": HOSTILE, "source": HOSTILE, "codec": HOSTILE}
    server.cameras["gate"]["outputs"][0] |= {"target": HOSTILE, "error": HOSTILE}
    server.refusals.append(HOSTILE)
    opened = open_page(server)
    gate = opened.camera("gate")
    expect(gate.locator(".side > .error")).to_have_text(HOSTILE)
    opened.until_grey("gate", 0.25, BEFORE)
    opened.button("Stop gate").click()
    expect(gate.locator(".controls .alert")).to_have_text(HOSTILE)
    assert gate.locator("img, script, li b *, dd b b").count() == 0
    assert [line for line in opened.complaints if "422" not in line] == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_does_not_scroll_sideways(open_page, server, scheme):
    name = "x" * 64
    long = {"error": "y" * 300, "source": "rtsp://" + "z" * 200, "shed": True}
    server.cameras = {name: camera(name, **long)} | server.cameras
    opened = open_page(server, PHONE, scheme)
    page = opened.page
    opened.until_grey(name, 0.25, BEFORE)
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


def test_the_real_service_is_drawn_and_changed(open_page, make_service, clip):
    service = make_service({"name": "gate", "source": str(clip)})
    with served(service) as real:
        opened = open_page(real)
        gate = opened.camera("gate")
        expect(gate.locator(".facts")).to_contain_text("edgecar-s · fake, fp32, cpu")
        opened.until(lambda: opened.grey("gate", 0.75) is not None)
        gate.get_by_label("Network of gate").select_option("pass")
        expect(gate.locator(".facts")).to_contain_text("pass: the picture as it is")
        assert opened.complaints == []
