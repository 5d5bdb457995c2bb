"""What a model, a tool or a server says stays text: in a real page, live and saved, trusted or not, and exported.

The payloads are `hostile.py`'s and those of the HTML5 Security Cheatsheet, through every channel there is.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any
from uuid import uuid4

import nbformat
import psutil
import pytest
from family import Reply, ScriptedServer, delta, json_reply, sse
from harmless import PageWatch
from hostile import HOSTILE, NAMES, WRECKING, Case, aimed, read_h5sc, spoken, turn_of
from lab import CHROMIUM_FLAGS, JupyterServer, NotebookPage, find_chromium
from markdown_it import MarkdownIt
from nbconvert import HTMLExporter, MarkdownExporter
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect

from createagents_nb.render.bundle import MAX_MARKDOWN_CHARS, render_bundle
from createagents_nb.render.snapshot import TextBlock

pytestmark = [pytest.mark.browser, pytest.mark.kernel]

APPS = ["lab", "notebook"]
END = "So it ends."
LIVE, ENDED, AROUND = ".createagents-live", ".createagents-turn", ".jp-OutputArea-output"
PROBE = '<p class="probe" onclick="0">A notebook that is not trusted takes the attribute away.</p>'
ERROR_CHARS = 1_500

SETUP = f"""
%load_ext createagents_nb
import asyncio, json
from pathlib import Path
import pandas as pd
from IPython.display import HTML
from createagents_nb import CreateAgent, tool

spec = json.loads(Path("hostile.json").read_text())
payloads = spec["payloads"]

@tool
def echo(text: str) -> str:
    "Says it again."
    return text

@tool
def fail(text: str) -> str:
    "Raises it."
    raise ValueError(text)

@tool
def table(start: int) -> pd.DataFrame:
    "Names of columns and an index, and cells."
    some = payloads[start:start + 15]
    return pd.DataFrame([some] * 2, columns=some, index=pd.Index(some[:2], name=some[0]))

@tool
def picture() -> bytes:
    "A GIF to some, a page to others."
    return b"GIF89a\\x01\\x00\\x01\\x00/*<html><script>window.__xss=1</script>*/=1;"

tools = [echo, fail, table, picture]
agents = [
    CreateAgent("openai", name=one["name"], model=one["model"], base_url=one["url"], api_key="k", tools=tools)
    for one in spec["agents"]
]
HTML({PROBE!r})
""".strip()
BEGIN = "await asyncio.gather(*(agent.chat('Begin') for agent in agents))"


@dataclass(frozen=True)
class Script:
    """The turns of all agents on scripted servers: what they say comes at once, their end when it is released."""

    agents: list[dict[str, str]]
    released: threading.Event


@dataclass(frozen=True)
class Seen:
    """What was wrong, by the state in which the notebook was looked at."""

    live: list[str]
    ended: list[str]
    trusted: list[str]
    untrusted: list[str]
    saved: Any


@dataclass(frozen=True)
class Doomed:
    """A browser with a process of its own, to be killed: pages that run what they like may not let it close."""

    browser: Browser
    mark: str

    def kill(self) -> None:
        for process in psutil.process_iter(["cmdline"]):
            if self.mark in (process.info["cmdline"] or ()):
                with suppress(psutil.NoSuchProcess):
                    process.kill()


@pytest.fixture(scope="module")
def cases(shared_data: Path, beacons: ScriptedServer) -> list[Case]:
    # Half a surrogate pair is no JSON to the client: that reply would be refused as a whole.
    own = [aimed(payload, beacons.url).replace("\ud800", "\ufffd") for payload in HOSTILE]
    return [*read_h5sc(shared_data, beacons.url), *map(Case, own)]


@pytest.fixture(scope="module", params=APPS)
def seen(
    request: pytest.FixtureRequest,
    window: BrowserContext,
    jupyter: JupyterServer,
    beacons: ScriptedServer,
    cases: list[Case],
) -> Seen:
    """One notebook in which all channels are hostile at once: live, ended, loaded again, and as a stranger's."""
    app = request.param
    payloads = [case.payload for case in cases]
    with ScriptedServer() as server, ScriptedServer() as tool_server:
        script = enact(server, tool_server, payloads, beacons.url)
        spec = {"payloads": payloads, "agents": script.agents}
        (jupyter.root / "hostile.json").write_text(json.dumps(spec))
        name = f"hostile-{app}.ipynb"
        jupyter.write(name, [SETUP, BEGIN])
        with NotebookPage(window, jupyter, name, app=app) as tab:
            watch = PageWatch(tab.page, beacons, jupyter.url)
            tab.run(0)
            tab.wait_until_ended(0)
            tab.run(1)
            failing = sum(agent["fails"] == "at once" for agent in script.agents)
            expect(tab.live(1)).to_have_count(len(script.agents) - failing)
            for at in range(len(script.agents) - failing):
                expect(tab.live(1).nth(at)).to_contain_text(END)
            expect_channels(tab.live(1))
            live = watch.problems(LIVE, AROUND, cases)
            script.released.set()
            tab.wait_until_ended(1)
            expect(tab.turns(1)).to_have_count(len(script.agents))
            expect(tab.live(1)).to_have_count(0)
            ended = look_at_ended(tab, watch, cases, trusted=True)
            saved = tab.save()
            tab.reload()
            trusted = look_at_ended(tab, watch, cases, trusted=True)
        stranger = nbformat.from_dict({**saved, "metadata": {**saved.metadata, "signed_by": "nobody"}})
        nbformat.write(stranger, jupyter.root / f"stranger-{app}.ipynb")
        with NotebookPage(window, jupyter, f"stranger-{app}.ipynb", app=app, to_run=False) as tab:
            watch = PageWatch(tab.page, beacons, jupyter.url)
            untrusted = look_at_ended(tab, watch, cases, trusted=False)
    return Seen(live, ended, trusted, untrusted, saved)


def look_at_ended(tab: NotebookPage, watch: PageWatch, cases: list[Case], *, trusted: bool) -> list[str]:
    expect(tab.cell(0).locator("p.probe[onclick]")).to_have_count(int(trusted))
    expect(tab.cell(0).locator("p.probe")).to_have_count(1)
    expect(tab.turns(1).locator("mjx-container").first).to_be_attached()  # Lab typesets, so it has come by
    expect_channels(tab.turns(1))
    expect(tab.turns(1).locator(".createagents-error").first).to_be_attached()
    return watch.problems(ENDED, AROUND, cases)


def expect_channels(shown: Locator) -> None:
    """That there is something to look at: each channel has come by."""
    channels = ["answer pre", "answer li", "answer .createagents-maths", "reasoning p", "tool table", "tool img"]
    for channel in channels:
        expect(shown.locator(f".createagents-{channel}").first).to_be_attached()


def enact(server: ScriptedServer, tool_server: ScriptedServer, payloads: list[str], home: str) -> Script:
    """Every payload through every channel of a turn, in as few turns as that takes."""
    names = [aimed(name, home) for name in NAMES]
    released = threading.Event()
    agents: list[dict[str, str]] = []

    def add(reply: list[Any] | Reply, fails: str = "") -> None:
        at = len(agents)
        if not isinstance(reply, Reply):
            reply = Reply(reply)
        server.on(f"/{at}/v1/chat/completions", reply)
        url = f"{server.url}/{at}/v1"
        agents.append(
            {"name": names[at % len(names)], "model": names[(at + 3) % len(names)], "url": url, "fails": fails}
        )

    def chunks(*bodies: dict[str, Any]) -> list[bytes]:
        model = names[(len(agents) + 5) % len(names)]
        return sse(*({**body, "model": model} for body in bodies), done=False)

    say = spoken(payloads)
    half = len(say) // 2
    end = chunks(delta(finish="stop"))
    ended = f"\n\n`````\n\n{END}\n\n"
    add([*chunks(delta(say[:half]), delta(say[half:] + ended)), released, *end])
    think = spoken(payloads, in_code=False)
    add([*chunks(delta(reasoning_content=think), delta(END)), released, *end])
    add([*chunks(delta(f"<think>{think}"), delta(f"</think>{END}")), released, *end])
    add([*chunks(delta(absurd(home) + ended)), released, *end])
    for text in error_texts(payloads):
        error = {"message": text, "type": text[:60], "code": text[:60]}
        add(json_reply({"error": error}, "400 Bad Request"), "at once")
    text = error_texts(payloads)[-1]
    add([*chunks(delta(END)), released, *sse({"error": {"message": text, "type": "x"}})], "in the middle")

    calls = [(payload, payload) for payload in payloads]
    for start in range(0, len(payloads), 8):
        arguments = json.dumps({"text": "\n\n".join(payloads[start : start + 8])})
        calls += [("echo", arguments), ("fail", arguments)]
    calls += [("table", json.dumps({"start": start})) for start in range(0, len(payloads), 15)]
    calls.append(("picture", "{}"))
    deltas = []
    for at, (tool, arguments) in enumerate(calls):
        call = {"index": at, "id": f"{names[0]}{at}", "function": {"name": tool, "arguments": arguments}}
        deltas.append(delta(tool_calls=[call]))
    tool_server.enqueue(chunks(*deltas, delta(finish="tool_calls")))
    tool_server.enqueue([*chunks(delta(END)), released, *end])
    agents.append({"name": names[0], "model": names[1], "url": tool_server.openai_url, "fails": ""})
    return Script(agents, released)


def error_texts(payloads: list[str]) -> list[str]:
    """All payloads in texts of errors that are shown whole."""
    texts = [""]
    for payload in payloads:
        if len(texts[-1]) + len(payload) > ERROR_CHARS:
            texts.append("")
        texts[-1] += payload + "\n"
    return texts


def absurd(home: str) -> str:
    """What is too deep or too much to be Markdown."""
    return "\n\n".join(
        [">" * 10_000 + f"<img src={home}/deep>", "[" * 5_000, "![" * 500 + "x" + f"]({home}/images)" * 500]
    )


@pytest.mark.parametrize("state", ["live", "ended", "trusted", "untrusted"])
def test_nothing_hostile_becomes_more_than_text_in_a_notebook(seen: Seen, state: str) -> None:
    assert getattr(seen, state) == []


@pytest.fixture(scope="module")
def pages() -> Iterator[ScriptedServer]:
    """Where exported pages are served."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A tab of a browser that reaches this machine only."""
    context = chromium.new_context()
    context.route(re.compile(r"^https?://(?!127\.0\.0\.1[:/])"), lambda route: route.abort())
    context.on("dialog", lambda dialog: dialog.accept())
    yield context.new_page()
    context.close()


def show(page: Page, pages: ScriptedServer, html: str) -> None:
    pages.on("/page.html", Reply([html.encode()], headers={"content-type": "text/html; charset=utf-8"}))
    pages.on("/favicon.ico", Reply([], "404 Not Found"))
    page.goto(f"{pages.url}/page.html")


@pytest.mark.parametrize("seen", ["lab"], indirect=True)
@pytest.mark.parametrize("opened", ["served", "from a file"])
def test_nothing_hostile_becomes_more_than_text_in_exported_html(
    seen: Seen,
    opened: str,
    page: Page,
    pages: ScriptedServer,
    beacons: ScriptedServer,
    cases: list[Case],
    tmp_path: Path,
) -> None:
    html, _ = HTMLExporter().from_notebook_node(seen.saved)
    watch = PageWatch(page, beacons, pages.url, "file:///", "https://cdnjs.cloudflare.com/")
    if opened == "served":
        show(page, pages, html)
    else:
        (tmp_path / "page.html").write_text(html)
        page.goto((tmp_path / "page.html").as_uri())
    assert watch.problems(ENDED, "body", cases) == []


@pytest.mark.parametrize("seen", ["lab"], indirect=True)
def test_nothing_hostile_becomes_more_than_text_in_exported_markdown(
    seen: Seen, page: Page, pages: ScriptedServer, beacons: ScriptedServer, cases: list[Case]
) -> None:
    markdown, _ = MarkdownExporter().from_notebook_node(seen.saved)
    watch = PageWatch(page, beacons, pages.url)
    # All of it but the probe of the other tests.
    html = re.sub(r'<p class="probe".*?</p>', "", read_permissively(markdown))
    show(page, pages, f'<div class="exported">{html}</div>')
    assert [problem[:400] for problem in watch.problems(".exported", ".exported", cases)] == []


def test_nothing_hostile_becomes_more_than_text_where_it_stands_alone(
    page: Page, pages: ScriptedServer, beacons: ScriptedServer, cases: list[Case]
) -> None:
    """Payload by payload, so that none can be hidden by what another leaves open: our HTML, and our Markdown."""
    bundles = [render_bundle(turn_of(case.payload)) for case in cases]
    long, absurdity = "x" * 400_000 + f"<img src={beacons.url}/long>", absurd(beacons.url)
    most = MAX_MARKDOWN_CHARS - 100  # there is no Markdown of more
    texts = (long, absurdity, long[-most:], absurdity[:most], absurdity[-most:])
    bundles += [render_bundle(turn_of("x", blocks=(TextBlock(text),))) for text in texts]
    parts = [f"<section>{bundle['text/html']}</section>" for bundle in bundles]
    markdowns = [bundle["text/markdown"] for bundle in bundles if "text/markdown" in bundle]
    assert len(markdowns) >= len(cases) + 3
    parts += [f"<section>{read_permissively(markdown)}</section>" for markdown in markdowns]
    watch = PageWatch(page, beacons, pages.url)
    show(page, pages, f"<!DOCTYPE html>{''.join(parts)}")
    expect(page.locator("body > section")).to_have_count(len(parts))
    assert watch.problems("section *", "body", cases) == []


def read_permissively(markdown: str) -> str:
    """Markdown as the most careless of its readers takes it: with HTML, and links to anywhere."""
    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    # Where a link opens is the reader's own business.
    return str(parser.render(markdown)).replace("<a href=", '<a target="_blank" rel="noopener" href=')


@pytest.fixture
def doomed(chromium: Browser) -> Iterator[Doomed]:
    mark = f"--mark={uuid4()}"
    arguments = [*CHROMIUM_FLAGS, mark]
    running = Doomed(chromium.browser_type.launch(executable_path=find_chromium(), args=arguments), mark)
    yield running
    running.kill()


def test_the_same_payloads_are_seen_to_run_where_nothing_stops_them(
    doomed: Doomed, jupyter: JupyterServer, beacons: ScriptedServer, cases: list[Case]
) -> None:
    """What tells the tests above that a page is harmless would have told that it is not."""
    payloads = [case.payload for case in cases if not any(mark in case.payload for mark in WRECKING)]
    groups = ["\n\n".join(payloads[at::20]) for at in range(20)]
    (jupyter.root / "raw.json").write_text(json.dumps(groups))
    source = """
        import json
        from pathlib import Path
        from IPython.display import HTML, Markdown, display
        for text in json.loads(Path("raw.json").read_text()):
            display(HTML(text), Markdown(text))
    """
    jupyter.write("raw.ipynb", [dedent(source)])
    with NotebookPage(jupyter.context(doomed.browser), jupyter, "raw.ipynb") as tab:
        watch = PageWatch(tab.page, beacons, jupyter.url)
        tab.page.route("**", stay)
        tab.run(0)
        tab.wait_until_ended(0)
        tab.page.wait_for_function("window.__xss !== undefined")
        problems = "\n".join(watch.problems(".jp-OutputArea-output", AROUND, cases))
        doomed.kill()
    seen = [
        r"has run script",
        r"calls /(img|leak\?d=secret|import\.css|frame|poster)",
        r"asks for http://example\.org/",
        r"says",
        r"opens",
        r"has \d+ cells, and not 1",
        r"leads to javascript:",
        r"<(script|iframe|form|svg|style|link|input)> in the page",
        r"<\w+> has (onerror|id|srcdoc|data-commandlinker-command)",
        r"<a> (leads to javascript:|opens no page of its own)",
    ]
    assert [sign for sign in seen if not re.search(f"^{sign}", problems, re.MULTILINE)] == []


def stay(route: Route) -> None:
    """Forms and links would lead away from the page in which one wants to count."""
    request = route.request
    if request.is_navigation_request() and request.frame.parent_frame is None:
        route.fulfill(status=204)
    else:
        route.continue_()
