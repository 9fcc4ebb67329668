"""The page on the real service: what a person sees of cameras that come, go and come back."""

from functools import partial

import pytest

from edgecar.serve import networks
from edgecar.serve import source as sources
from tests.serve.conftest import fake_networks, served, until
from tests.serve.network_camera import NetworkCamera
from tests.serve.page.conftest import Opened, expect

pytestmark = pytest.mark.slow  # drives a browser

GREY = 60
INVERTED = 255 - GREY
TOKEN = "a-token-of-some-length"


def inverted(batch):
    return 1 - batch


@pytest.fixture
def camera():
    made = NetworkCamera(GREY)
    yield made
    made.switch_off()


@pytest.fixture
def service(make_service, camera, clip, monkeypatch):
    monkeypatch.setattr(networks, "FULL", 1e9)  # a busy machine takes no network away
    monkeypatch.setattr(sources, "FIRST_BACKOFF_SECONDS", 0.05)
    monkeypatch.setattr(sources, "LONGEST_BACKOFF_SECONDS", 0.2)
    quick = partial(sources.LiveSettings, first_backoff_seconds=0.05, longest_backoff_seconds=0.2)
    monkeypatch.setattr(sources, "LiveSettings", quick)
    return make_service(
        {"name": "gate", "source": camera.url},
        {"name": "yard", "source": str(clip)},
        networks=fake_networks(inverted),
    )


@pytest.fixture
def opened(browser, service):
    with served(service) as server:
        made = Opened(browser, server)
        yield made
        made.close()


def test_cameras_are_drawn_before_left_of_the_line_and_after_right_of_it(opened):
    expect(opened.page.locator(".camera")).to_have_count(2)
    for name in ("gate", "yard"):
        expect(opened.camera(name)).to_have_attribute("data-state", "running")
        expect(opened.camera(name).locator(".facts")).to_contain_text("edgecar-s · fake, fp32, cpu")
    opened.until_grey("gate", 0.25, GREY)
    opened.until_grey("gate", 0.75, INVERTED)
    opened.until(lambda: opened.grey("yard", 0.25) is not None)
    slider = opened.camera("gate").locator("[role=slider]")
    slider.press("Home")
    opened.until_grey("gate", 0.25, INVERTED)
    slider.press("End")
    opened.until_grey("gate", 0.75, GREY)
    assert opened.complaints == []


def test_a_camera_that_is_switched_off_turns_red_and_comes_back_by_itself(opened, camera):
    gate = opened.camera("gate")
    opened.until_grey("gate", 0.25, GREY)
    dot = gate.locator(".head .dot")
    colour = "element => getComputedStyle(element).backgroundColor"
    green = dot.evaluate(colour)
    camera.switch_off()
    expect(gate).to_have_attribute("data-state", "waiting")
    expect(gate.locator(".side > .error")).to_contain_text(f"127.0.0.1:{camera.port}")
    assert dot.evaluate(colour) != green
    expect(opened.camera("yard")).to_have_attribute("data-state", "running")
    camera.show(90)  # to see that what is drawn is new
    camera.switch_on()
    expect(gate).to_have_attribute("data-state", "running")
    expect(gate.locator(".side > .error")).to_be_hidden()
    assert dot.evaluate(colour) == green
    opened.until_grey("gate", 0.25, 90)
    assert opened.complaints == []


def test_a_token_is_asked_for_and_a_session_outlasts_a_reload(browser, make_service, camera):
    service = make_service(
        {"name": "gate", "source": camera.url},
        networks=fake_networks(inverted),
        server={"token": TOKEN},
    )
    until(lambda: service.camera("gate").status.sequence)
    with served(service) as server:
        opened = Opened(browser, server)
        dialog = opened.page.locator("#login-dialog")
        expect(dialog).to_be_visible()
        assert opened.page.locator(".camera").count() == 0
        dialog.get_by_label("Token").fill("wrong")
        dialog.get_by_role("button", name="Log in").click()
        expect(dialog.locator(".alert")).to_contain_text("that is not the token")
        dialog.get_by_label("Token").fill(TOKEN)
        dialog.get_by_role("button", name="Log in").click()
        expect(dialog).to_be_hidden()
        opened.until_grey("gate", 0.75, INVERTED)
        assert all("401" in line for line in opened.complaints)
        complained = len(opened.complaints)
        opened.page.reload()
        opened.until_grey("gate", 0.75, INVERTED)
        assert len(opened.complaints) == complained
        assert not [url for url in opened.requests if TOKEN in url]
        opened.close()
