"""The page of the service: what it loads, what a browser makes of it, hostile titles included."""

import html
import json
import re
import shutil
import subprocess
import threading
import time

import pytest
import uvicorn
from starlette.testclient import TestClient

from rporec_recbole.runs.run import run
from rporec_recbole.runs.titles import Item
from rporec_recbole.serve.app import Service
from rporec_recbole.serve.items import ItemSearch
from rporec_recbole.serve.limits import Limits
from rporec_recbole.serve.recommender import Recommender
from tests.integration.reasoned import with_texts
from tests.toy import SHORT, TEXT

HOSTILE = "<script>document.title='taken'</script><img src=x onerror=alert(1)> \u202eright " + "long" * 40


@pytest.fixture(scope="module")
def reasoned(toy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    settings = {**SHORT, **TEXT, "data_path": str(toy), "stages": ["1a", "1b", "1c"], "run_dir": str(folder / "run")}
    return with_texts(run("RPORec", "toy", overrides=settings).run_dir, folder / "reasoned")


def service_of(folder, token=None):
    recommender = Recommender(folder, Limits())
    recommender.items[3] = Item("i3", HOSTILE, "<b>bold</b>")
    recommender.search = ItemSearch(recommender.items)
    return Service(recommender, Limits(), token)


@pytest.fixture(scope="module")
def client(reasoned):
    with TestClient(service_of(reasoned).app) as client:
        yield client


@pytest.mark.parametrize("path", ["/", "/page.css", "/page.js", "/docs"])
def test_nothing_is_loaded_from_elsewhere(client, path):
    response = client.get(path)
    assert response.status_code == 200
    for place in re.findall(r"""(?:src|href|url)\s*[=(:]\s*["']?([^"')\s>]+)""", response.text):
        assert not place.startswith(("http", "//")), place
        if place.startswith("/"):
            assert client.get(place.split("?")[0]).status_code == 200, place
    if path == "/":
        assert "default-src 'none'" in response.headers["content-security-policy"]


def test_items_are_found_by_their_words(client):
    items = [one["item"] for one in client.get("/items", params={"query": "film 12"}).json()["items"]]
    assert items == ["i12"]
    assert [one["item"] for one in client.get("/items", params={"query": "i12"}).json()["items"]] == ["i12"]
    found = client.get("/items", params={"query": "FILM the", "limit": "3"}).json()["items"]
    assert len(found) == 3
    assert client.get("/items", params={"query": "  "}).json() == {"items": []}
    assert client.get("/items", params={"query": "nothing has this"}).json() == {"items": []}
    (hostile,) = client.get("/items", params={"query": "<script>"}).json()["items"]
    assert (hostile["title"], hostile["details"]) == (HOSTILE, "<b>bold</b>")


@pytest.mark.parametrize("given", [{"query": "a" * 201}, {"query": "a", "limit": "0"}, {"query": "a", "limit": "many"}])
def test_a_search_that_cannot_be(client, given):
    response = client.get("/items", params=given)
    assert response.status_code == 422
    assert "must be" in response.json()["error"]["message"] or "at most" in response.json()["error"]["message"]


def test_accents_and_case_do_not_matter():
    search = ItemSearch([Item("", "", ""), Item("1", "Le Fabuleux Destin d'Amélie", ""), Item("2", "STRASSE", "")])
    assert [one.item_id for one in search.find("amelie", 5)] == ["1"]
    assert [one.item_id for one in search.find("straße", 5)] == ["2"]


def test_a_token_is_asked_for_data_and_not_for_the_page(reasoned):
    with TestClient(service_of(reasoned, token="word").app) as client:
        shown = ["/", "/page.css", "/page.js", "/docs", "/openapi.json"]
        assert [client.get(path).status_code for path in shown] == [200] * 5
        assert client.get("/items", params={"query": "film"}).status_code == 401
        assert (
            client.get("/items", params={"query": "film"}, headers={"Authorization": "Bearer word"}).status_code == 200
        )


# --- a browser --------------------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = (1280, 390)
LOOK = """<!doctype html><meta charset="utf-8"><body><script>
const until = async (ask) => { for (let i = 0; i < 200; i += 1) { if (ask()) return; await new Promise(r => setTimeout(r, 50)); } };
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `border:0;width:${width}px;height:900px`;
  frame.src = "/?user=u3";
  document.body.append(frame);
  await new Promise(r => frame.onload = r);
  const page = frame.contentDocument, by = (id) => page.getElementById(id), seen = {};
  await until(() => by("next").children.length);
  seen.user = {steps: by("history").children.length, best: by("next").children.length, why: by("why").textContent,
               cot: by("cot").textContent, without: by("without").children.length, said: by("status").textContent};
  by("clear").click();
  await until(() => !by("next").children.length);
  by("query").value = "<script>";
  by("query").dispatchEvent(new frame.contentWindow.Event("input"));
  await until(() => by("found").querySelector("button"));
  seen.found = by("found").querySelector("bdi").textContent;
  by("found").querySelector("button").click();
  await until(() => by("next").children.length);
  const all = [...page.querySelectorAll("*")];
  seen.history = by("history").textContent;
  seen.queued = by("why").textContent;
  seen.title = page.title;
  seen.width = page.documentElement.scrollWidth;
  seen.outside = all.filter(one => one.getBoundingClientRect().right > frame.clientWidth + 1).map(one => one.outerHTML.slice(0, 80));
  seen.foreign = all.filter(one => ["IMG", "B"].includes(one.tagName)).length + page.querySelectorAll("script").length - 1;
  return seen;
}
(async () => { const found = []; for (const width of WIDTHS) found.push(await look(width)); document.title = JSON.stringify(found); })();
</script>"""


class Listening:
    """The service on a port of this machine, and beside it a page that looks at it."""

    def __init__(self, app):
        self._app = app
        self.server = uvicorn.Server(uvicorn.Config(self, port=0, log_level="warning"))
        self.thread = threading.Thread(target=self.server.run)

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http" or scope["path"] != "/look":
            await self._app(scope, receive, send)
            return
        headers = [(b"content-type", b"text/html; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": LOOK.replace("WIDTHS", json.dumps(WIDTHS)).encode()})

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.05)
        return self.server.servers[0].sockets[0].getsockname()[1]

    def __exit__(self, *error):
        self.server.should_exit = True
        self.thread.join(30)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_in_a_browser_at_two_widths(reasoned, tmp_path):
    with Listening(service_of(reasoned).app) as port:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=30000"]
        place = [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"http://127.0.0.1:{port}/look"]
        dom = subprocess.run([CHROMIUM, *flags, *place], capture_output=True, text=True, timeout=120, check=True).stdout
    for width, seen in zip(
        WIDTHS, json.loads(html.unescape(re.search("<title>(.*?)</title>", dom, re.S)[1])), strict=True
    ):
        assert seen["user"]["best"] == 10
        assert seen["user"]["steps"] > 0
        assert seen["user"]["why"].startswith(("The language model wrote this", "What was written cannot be read"))
        assert seen["user"]["cot"]
        assert seen["found"] == HOSTILE
        assert HOSTILE in seen["history"]
        assert seen["queued"].startswith("It is being written")
        assert (seen["title"], seen["foreign"]) == ("Recommendations", 0)
        assert seen["width"] == width
        assert seen["outside"] == []
