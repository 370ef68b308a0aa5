"""The playground: what is served, and what a headless Chromium makes of it."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import uvicorn
from fastapi.responses import HTMLResponse, Response

from serve_apps.page import POLICY
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


def rendered(url: str, profile: Path) -> str:
    """Returns the page as Chromium has it some seconds after it was opened."""
    assert CHROMIUM is not None
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
    command = [CHROMIUM, *flags, "--virtual-time-budget=30000", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


DRIVER = """
const pause = () => new Promise((done) => setTimeout(done, 50));
async function until(find) {
  for (;;) {
    const found = find();
    if (found) return found;
    await pause();
  }
}
const form = await until(() => document.querySelector(".teach"));
form.open = true;
const select = await until(() => form.querySelector(".spans select"));
select.value = "ORG";
select.dispatchEvent(new Event("change"));
[...form.querySelectorAll("button")].find((b) => b.textContent === "Teach").click();
await until(() => document.querySelector(".sentence details li")?.textContent.includes("· taught"));
document.title = document.querySelector(".sentence details li").textContent;
document.querySelector("#taught button").click();
await until(() => document.querySelector("#taught").textContent.startsWith("Forgotten"));
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_teaches_a_correction_and_takes_it_back(
    client: Client,  # noqa: F811
    url: str,
    tmp_path: Path,
) -> None:
    whole = client.get("/").text
    driven = whole.replace("</head>", '<script type="module" src="playground/drive.js"></script></head>')
    client.app.add_api_route(
        "/drive", lambda: HTMLResponse(driven, headers={"Content-Security-Policy": POLICY})
    )
    script = Response(DRIVER, media_type="text/javascript")
    client.app.add_api_route("/playground/drive.js", lambda: script)
    page = rendered(f"{url}/drive#text={quote('Helga Brandt fliegt nach Wien.')}", tmp_path)

    assert re.search(r"<title>Helga Brandt: ORG \(1\.00\) · taught", page)
    assert "Forgotten." in page
    assert re.search(r'id="error" role="alert" hidden=""', page)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_highlights_entities_of_any_script(url: str, tmp_path: Path) -> None:
    page = rendered(f"{url}/#text={quote(TEXT)}", tmp_path)

    assert page.count('<article class="sentence"') == 3
    marks = re.findall(r"<mark[^>]*>([^<]+)<small>(\w+)", page)
    assert ("Helga Brandt", "PER") in marks
    assert "&lt;b&gt;" in page  # what was sent is text, not markup
    assert page.count('<p dir="auto">') == 3
    assert "Release 1" in page
    assert '<option value="ru">' in page
    assert "curl -s http://127.0.0.1" in page
    assert re.search(r'id="error" role="alert" hidden=""', page)
