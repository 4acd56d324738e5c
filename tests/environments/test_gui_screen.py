"""A page in a real browser: boxes are where the pixels are, states are the DOM's, nothing leaves the machine or stays behind."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from environments.gui.chromium import BrowserError, Chromium
from environments.gui.screen import Page, Screen, View
from tests.environments.chromium import needs_chromium

CSS = """
body { margin: 0; font: 15px sans-serif } .scroll { height: 120px; width: 300px; overflow: auto; border: 3px solid }
.scroll p { height: 50px; margin: 0 } .over { position: fixed; left: 0; top: 300px; width: 200px; height: 100px; background: #fff }
button { position: absolute; margin: 0 } :focus { outline: none }
"""
BODY = """
<div class="scroll" data-scroll="0.5"><p>One</p><p>Two</p><p>Three</p><p>Four</p><p>Five</p><p>Six</p></div>
<label>City <input id="city" value="Riga" data-focus></label> <label><input type="checkbox" checked> Remember</label>
<select aria-label="Country" disabled><option>Peru<option selected>Kenya</select>
<button style="left: 10.4px; top: 190.6px">Whole</button> <button style="left: 150px; top: 390px">Half covered</button>
<button style="left: 20px; top: 340px">Covered</button> <button style="left: 370px; top: 200px">Cut at the side</button>
<button style="left: 20px; top: 900px">Far below</button> <div class="over" data-above></div>
"""
VIEW = View(400, 500)


@pytest.fixture(scope="module")
def screen():
    made = Screen()
    yield made
    made.close()


def pixels(screen: Screen) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(screen.screenshot())).convert("RGB")).astype(int)


def by_name(screen: Screen, view: View = VIEW) -> dict:
    screen.show(Page(CSS, BODY), view)
    return {element.name: element for element in screen.elements()}


@needs_chromium
@pytest.mark.parametrize("scale", [1.0, 1.25, 2.0])
def test_boxes_are_where_the_browser_draws(screen, scale):
    view = View(400, 500, scale)
    elements = by_name(screen, view)
    before = pixels(screen)
    assert before.shape[:2] == (500 * scale, 400 * scale)
    for name, selector in [("Whole", "button"), ("City", "input"), ("Country", "select")]:
        screen.evaluate(
            f"document.querySelector({json.dumps(selector)}).style.cssText += ';background: #f0f; border-color: #f0f; opacity: 1'"
        )
        ys, xs = np.nonzero(np.abs(pixels(screen) - before).sum(-1) > 30)
        before = pixels(screen)
        drawn = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        # a border of one CSS pixel may lie between two of the screen's
        assert np.abs(np.subtract(drawn, elements[name].box)).max() <= 1, name


@needs_chromium
def test_roles_names_and_states_are_the_browsers(screen):
    elements = by_name(screen)
    city, remember, country = elements["City"], elements["Remember"], elements["Country"]
    assert (city.role, city.state["value"], city.state["focused"]) == ("textbox", "Riga", True)
    assert (remember.role, remember.state["checked"], remember.state["focused"]) == ("checkbox", True, False)
    assert remember.label is not None and remember.label[2] > remember.box[2]
    assert (country.role, country.state["value"], country.state["disabled"]) == ("combobox", "Kenya", True)
    assert country.state["options"] == ["Peru", "Kenya"]


@needs_chromium
def test_what_cannot_be_seen_is_told_apart(screen):
    elements = by_name(screen)
    whole = {name for name, element in elements.items() if element.whole}
    # 300 pixels of lines in a box of 120, scrolled by 90 of 180
    assert whole == {"City", "Remember", "Country", "Whole", "Three", "Four"}
    assert [elements[name].beyond for name in ("One", "Six", "Far below")] == ["up", "down", "down"]
    assert 0 < elements["Two"].inside < 1 or elements["Two"].beyond == "up"
    assert elements["Covered"].top == 0 and 0 < elements["Half covered"].top < 1
    assert elements["Cut at the side"].inside < 1 and elements["Cut at the side"].beyond is None


@needs_chromium
def test_a_page_leaves_nothing_to_the_next_one(screen):
    def shown() -> bytes:
        screen.show(Page("body { color: green }", "<h1>Title</h1><input aria-label='a'>"), VIEW)
        return screen.screenshot()

    first = shown()
    screen.show(Page(CSS, f"<div data-scroll='1' style='height: 3000px'>{BODY}</div>"), View(700, 300, 1.5))
    assert screen.evaluate("document.scrollingElement.scrollTop") > 1000
    assert shown() == first


@needs_chromium
def test_no_request_leaves_the_browser(tmp_path):
    """Neither to the network nor to a server on this machine; Chromium's own log of its network has no connection."""
    asked: list[str] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, log = server.server_address[1], tmp_path / "net.json"
    screen = Screen((f"--log-net-log={log}",))
    urls = [
        f"http://127.0.0.1:{port}/x.png",
        f"http://localhost:{port}/y.png",
        "https://example.org/",
        "file:///etc/passwd",
    ]
    body = "".join(
        f'<img src="{url}"><iframe src="{url}"></iframe><link rel=stylesheet href="{url}">' for url in urls
    )
    screen.show(Page(f'@import "{urls[0]}"; body {{ background: url({urls[1]}) }}', body), VIEW)
    for url in urls:
        screen.evaluate(
            f"fetch({url!r}).catch(() => 0); new WebSocket('ws://127.0.0.1:{port}/ws'); window.open({url!r}); 0"
        )
        screen.evaluate(f"location.href = {url!r}; 0")
        time.sleep(0.1)
    screen.screenshot()
    screen.close()
    server.shutdown()
    assert asked == []
    logged = json.loads(log.read_text())
    names = {number: name for name, number in logged["constants"]["logEventTypes"].items()}
    seen = {names[event["type"]] for event in logged["events"]}
    # one UDP socket is bound to a public address to learn whether there is IPv6; nothing is sent on it
    assert "URL_REQUEST_START_JOB" in seen
    assert not seen & {"TCP_CONNECT", "TCP_CONNECT_ATTEMPT", "UDP_BYTES_SENT", "SOCKET_BYTES_SENT"}, seen


@needs_chromium
def test_the_browser_ends_with_the_process_that_uses_it(tmp_path):
    program = "import os, sys, time; from environments.gui.chromium import Chromium; b = Chromium()\nprint(b.process.pid, b.profile, flush=True); time.sleep(60)"
    child = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path.cwd()
    )
    pid, profile = child.stdout.readline().split()
    family = [psutil.Process(int(pid)), *psutil.Process(int(pid)).children(recursive=True)]
    assert len(family) > 2 and Path(profile).is_dir()
    child.kill()
    child.wait()
    _, alive = psutil.wait_procs([p for p in family if p.is_running()], timeout=30)
    assert not [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] and not Path(profile).exists()


@needs_chromium
def test_a_browser_that_has_ended_is_an_error_that_says_so():
    browser = Chromium()
    for process in psutil.Process(browser.process.pid).children(recursive=True):
        process.kill()
    psutil.wait_procs([psutil.Process(browser.process.pid)], timeout=30)
    with pytest.raises(BrowserError, match="Chromium ended during Page.enable"):
        browser.call("Page.enable")
    with pytest.raises(BrowserError, match="it has ended"):
        browser.call("Page.enable")


def test_a_missing_browser_is_an_error_that_names_the_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BrowserError, match="apt-get install chromium"):
        Chromium()


@needs_chromium
def test_scripts_that_fail_are_errors_and_the_page_goes_on(screen):
    with pytest.raises(BrowserError, match="a script in the page failed: Error: no"):
        screen.evaluate("throw new Error('no')")
    assert screen.evaluate("1 + 1") == 2
