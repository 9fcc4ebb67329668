"""The page of `edgecar serve` in headless Chromium, driven by playwright."""

import shutil

import pytest

from tests.serve.conftest import served
from tests.serve.stand_in import StandIn, camera

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
PHONE, DESK = {"width": 360, "height": 800}, {"width": 1280, "height": 900}
PATIENCE_MS = 20_000  # a shared machine may be slow; what is waited for comes in about a second
# Grey in the middle row of the picture at a share of its width; null while there is none.
GREY = """([name, share]) => {
  const canvas = document.querySelector(`.camera[data-name="${name}"] .picture`);
  if (!canvas) return null;
  const probe = new OffscreenCanvas(1, 1).getContext("2d");
  const x = Math.min(canvas.width - 1, Math.floor(canvas.width * share));
  probe.drawImage(canvas, x, Math.floor(canvas.height / 2), 1, 1, 0, 0, 1, 1);
  const pixel = probe.getImageData(0, 0, 1, 1).data;
  return pixel[3] === 0 ? null : pixel[1];
}"""


def expect(locator):
    """What playwright waits for."""
    from playwright import sync_api

    return sync_api.expect(locator)


class Opened:
    """The page of a server, what it complained of and asked for."""

    def __init__(self, browser, server, viewport=DESK, scheme="light"):
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
        return self.page.locator(f'.camera[data-name="{name}"]')

    def button(self, name):
        return self.page.get_by_role("button", name=name, exact=True)

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


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("needs Debian's chromium")
    sync_api.expect.set_options(timeout=PATIENCE_MS)
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()


@pytest.fixture
def server():
    made = StandIn(served, [camera("gate"), camera("yard")])
    yield made
    made.close()


@pytest.fixture
def open_page(browser):
    """A function that opens the page of a server; all are closed at the end."""
    made = []

    def opened(*arguments, **more):
        made.append(Opened(browser, *arguments, **more))
        return made[-1]

    yield opened
    for each in made:
        each.page.context.close()


@pytest.fixture
def opened(open_page, server):
    return open_page(server)
