"""The pages: what is served, and what a headless Chromium makes of it."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import pytest
import uvicorn
from fastapi.responses import HTMLResponse, Response

from serve_apps.pages import POLICY
from tests.test_serve_apps_service import Client, House, client, house, workspace  # noqa: F401

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TEXT = "Helga Brandt fliegt nach Wien. <b>Daniel</b> Osei works in Leeds. יוסי Levi גר בחיפה."


def test_the_page_and_its_files_are_served_without_inline_code(client: Client) -> None:  # noqa: F811
    page = client.get("/")
    script = client.get("/playground/page.js").text

    assert page.headers["Content-Security-Policy"] == POLICY
    assert page.headers["X-Frame-Options"] == "DENY"
    assert not re.search(r"<script(?![^>]*src=)| on\w+=| style=", page.text)
    teach = client.get("/playground/teach.js").text
    assert "innerHTML" not in script + teach
    assert client.get("/playground/page.css").headers["Content-Type"].startswith("text/css")
    assert client.get("/playground/nothing").status_code == 404
    for name in re.findall(r'byId\("(\w+)"\)', script):
        assert f'id="{name}"' in page.text, name


def test_the_api_is_documented_without_inline_code_or_other_hosts(client: Client) -> None:  # noqa: F811
    page = client.get("/docs")

    assert page.headers["Content-Security-Policy"] == POLICY
    assert not re.search(r"<script(?![^>]*src=)| on\w+=| style=|//", page.text)
    for path in re.findall(r'(?:src|href)="(docs/[^"]+)"', page.text):
        assert client.get(f"/{path}").status_code == 200, path
    assert client.get("/redoc").status_code == 404


@pytest.fixture
def url(client: Client) -> Iterator[str]:  # noqa: F811
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(client.app, port=port, lifespan="off", log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


def rendered(url: str, profile: Path, *more: str) -> str:
    """Returns the page as Chromium has it some seconds after it was opened."""
    assert CHROMIUM is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", *more]
    command = [CHROMIUM, *flags, "--virtual-time-budget=30000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


PAUSE = """
async function until(find) {
  for (;;) {
    const found = find();
    if (found) return found;
    await new Promise((done) => setTimeout(done, 50));
  }
}
const told = (values) => { document.title = JSON.stringify(values); };
const named = (root, words) => [...root.querySelectorAll("button")].find((b) => b.textContent === words);
"""

TEACHES = """
const form = await until(() => document.querySelector(".teach"));
form.open = true;
const select = await until(() => form.querySelector(".spans select"));
select.value = "ORG";
select.dispatchEvent(new Event("change"));
named(form, "Teach").focus();
named(form, "Teach").click();
await until(() => document.querySelector(".sentence details li")?.textContent.includes("· taught"));
const focused = document.activeElement.textContent;
const shown = document.querySelector(".sentence details li").textContent;
document.querySelector("#taught button").focus();
document.querySelector("#taught button").click();
await until(() => document.querySelector("#taught").textContent.startsWith("Forgotten"));
told({ focused, shown, then: document.activeElement.id });
"""

READS = """
await until(() => document.querySelector(".sentence"));
const all = (selector) => [...document.querySelectorAll(selector)], style = getComputedStyle;
const background = () => style(document.body).backgroundColor;
const directions = all(".sentence p").map((line) => style(line).direction);
const isolated = all("mark, mark small").every((one) => style(one).unicodeBidi === "isolate");
const marks = all("mark").map((one) => [one.firstChild.textContent, style(one).direction]);
let selected; // there is no clipboard on plain HTTP, and nobody's click here to allow the older way
Object.defineProperty(navigator, "clipboard", { value: undefined });
document.execCommand = () => { selected = document.activeElement.value; return true; };
document.querySelector("#copy").click();
const copied = await until(() => document.querySelector("#copied").textContent);
const text = document.querySelector("#text");
text.value = "Helga Brandt lacht.";
text.dispatchEvent(new KeyboardEvent("keydown", { key: "Enter", ctrlKey: true, bubbles: true }));
await until(() => document.querySelectorAll(".sentence").length === 1);
const again = document.querySelector(".sentence p").textContent;
told({ directions, isolated, marks, copied, selected, again, background: background() });
"""

STEPS = """
const form = await until(() => document.querySelector(".teach"));
form.open = true;
while (named(form, "Remove")) named(form, "Remove").click();
const mention = form.querySelector("input"), next = named(form, "Next place");
const seen = [];
function look() { seen.push([form.querySelector("output").textContent, next.hidden]); }
mention.value = "US";
mention.dispatchEvent(new Event("input"));
look();
next.click();
look();
named(form, "Add").click();
mention.value = "US";
mention.dispatchEvent(new Event("input"));
look();
named(form, "Add").click();
const added = [...form.querySelectorAll("bdi")].map((one) => one.textContent);
told({ seen, added, focused: document.activeElement === mention });
"""


TRIES = """
const refused = [];
document.addEventListener("securitypolicyviolation", (event) => refused.push(event.violatedDirective));
await until(() => document.querySelectorAll(".opblock-summary").length > 5);
const all = [...document.querySelectorAll(".opblock-summary")];
const shown = (one, part) => one.querySelector(part).textContent.replaceAll("\\u200b", "");
const name = (one) => shown(one, ".opblock-summary-method") + shown(one, ".opblock-summary-path");
const paths = all.map(name);
all.find((one) => name(one) === "POST/v1/tag").querySelector("button").click();
(await until(() => document.querySelector(".try-out__btn"))).click();
(await until(() => document.querySelector(".execute"))).click();
const response = await until(() => document.querySelector(".live-responses-table .response"));
const answer = response.querySelector(".response-col_description").textContent;
told({ paths, status: response.querySelector(".response-col_status").textContent.trim(), answer, refused });
"""


class Page(Protocol):
    """Opens a page with a text, runs a script in it and returns what that told."""

    def __call__(self, script: str, text: str, *flags: str, path: str = "/") -> Any: ...


@pytest.fixture
def page(client: Client, url: str, tmp_path: Path) -> Page:  # noqa: F811
    pages: list[str] = []
    scripts: list[str] = []

    async def document() -> Response:
        return HTMLResponse(pages[-1], headers={"Content-Security-Policy": POLICY})

    async def driver() -> Response:
        return Response(scripts[-1], media_type="text/javascript")

    routes = client.app.router.routes
    client.app.router.routes = [route for route in routes if getattr(route, "path", "") not in _DRIVEN]
    for path, answer in zip(_DRIVEN, (document, driver), strict=True):
        client.app.add_api_route(path, answer)

    def told(script: str, text: str, *flags: str, path: str = "/") -> Any:
        whole = client.get(path).text
        driver_tag = '<script type="module" src="playground/drive.js"></script>'
        pages.append(whole.replace("</head>", f"{driver_tag}</head>"))
        scripts.append(PAUSE + script)
        html = rendered(f"{url}{_DRIVEN[0]}#text={quote(text)}", tmp_path, *flags)
        assert path != "/" or re.search(r'id="error" role="alert" hidden=""', html)
        title = re.search(r"<title>(.*?)</title>", html)
        assert title is not None
        return json.loads(unescape(title[1]))

    return told


_DRIVEN = ("/drive", "/playground/drive.js")


def in_chromium(test: Any) -> Any:
    """Marks a test that needs Chromium."""
    found = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
    return pytest.mark.slow(pytest.mark.timeout(600)(found(test)))


@in_chromium
def test_chromium_teaches_a_correction_and_takes_it_back(page: Page) -> None:
    told = page(TEACHES, "Helga Brandt fliegt nach Wien.")

    assert told["shown"].startswith("Helga Brandt: ORG (1.00) · taught")
    assert (told["focused"], told["then"]) == ("correct", "taught")  # the keyboard goes on where it was


@in_chromium
def test_chromium_reads_both_directions_copies_and_tags_by_keyboard(page: Page) -> None:
    light = page(READS, TEXT)
    dark = page(READS, TEXT, "--blink-settings=preferredColorScheme=0")

    assert light["directions"] == ["ltr", "ltr", "rtl"]
    assert light["isolated"] and ["Helga Brandt", "ltr"] in light["marks"]
    assert light["copied"] == "Copied." and light["selected"].startswith("curl -s http")
    assert light["again"].startswith("Helga Brandt")
    assert (light["background"], dark["background"]) == ("rgb(255, 255, 255)", "rgb(18, 18, 18)")


@in_chromium
def test_chromium_teaches_the_place_that_is_meant(page: Page) -> None:
    told = page(STEPS, "The USA and the US like us, US and all.")

    assert [hidden for _, hidden in told["seen"]] == [False, False, True]
    assert [words.rsplit(" (")[1] for words, _ in told["seen"][:2]] == ["1 of 2)", "2 of 2)"]
    assert told["seen"][0][0].startswith("The USA and the US like")
    assert (told["added"], told["focused"]) == (["US", "US"], True)


@in_chromium
def test_chromium_highlights_entities_of_any_script(url: str, tmp_path: Path) -> None:
    page = rendered(f"{url}/#text={quote(TEXT)}", tmp_path)

    assert page.count('<article class="sentence"') == 3
    marks = re.findall(r"<mark[^>]*>([^<]+)<small[^>]*>(\w+)", page)
    assert ("Helga Brandt", "PER") in marks
    assert "&lt;b&gt;" in page  # what was sent is text, not markup
    assert page.count('<p dir="auto">') == 3
    assert "Release 1" in page
    assert '<option value="ru">' in page
    assert "curl -s http://127.0.0.1" in page
    assert re.search(r'id="error" role="alert" hidden=""', page)


@in_chromium
def test_chromium_shows_the_api_and_tries_it_out(page: Page) -> None:
    told = page(TRIES, "", path="/docs")

    assert {"POST/v1/tag", "POST/v1/tag/stream", "GET/v1/languages", "GET/healthz"} <= set(told["paths"])
    assert told["status"] == "200"
    assert "Helga Brandt" in told["answer"] or "entities" in told["answer"]
    assert told["refused"] == []
