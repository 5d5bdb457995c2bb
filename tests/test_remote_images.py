"""Images of the web: links, unless the agent's owner has asked for them."""

from __future__ import annotations

import pytest
from hostile import HOSTILE, aimed
from html_whitelist import read_strictly
from test_markdown_safety import assert_inert

from createagents_nb.render.bundle import render_bundle
from createagents_nb.render.links import is_remote_image
from createagents_nb.render.markdown import VettedText
from createagents_nb.render.snapshot import ReasoningBlock, TextBlock, TurnSnapshot

TEXT = 'See ![a "plot"](https://x.example/p.png?a=1&b=2 "t") [![in](http://y.example/q.png)](https://z.example)'


def test_an_image_of_the_web_is_loaded_where_that_was_asked_for() -> None:
    html = VettedText.of(TEXT).html(remote_images=True)
    reader = read_strictly(html, remote_images=True)
    assert reader.sources == ["https://x.example/p.png?a=1&b=2", "http://y.example/q.png"]
    assert reader.hrefs == ["https://z.example"]
    assert (
        '<img src="https://x.example/p.png?a=1&amp;b=2" alt="a &quot;plot&quot;" class="createagents-image" '
        'loading="lazy" referrerpolicy="no-referrer" style="max-width:100%">'
    ) in html


@pytest.mark.parametrize(("remote_images", "images"), [(False, 0), (True, 4)])
def test_the_bundle_loads_them_as_the_turn_says_and_its_markdown_never(remote_images: bool, images: int) -> None:
    turn = TurnSnapshot(
        call_id="1",
        agent="a",
        provider="p",
        model="m",
        status="ok",
        blocks=(TextBlock(TEXT), ReasoningBlock(TEXT)),
        remote_images=remote_images,
    )
    bundle = render_bundle(turn)
    assert bundle["text/html"].count("<img ") == images
    read_strictly(bundle["text/html"], remote_images=remote_images)
    assert_inert(bundle["text/markdown"])


@pytest.mark.parametrize("payload", HOSTILE)
def test_where_remote_images_are_loaded_nothing_else_is(payload: str) -> None:
    html = VettedText.of(aimed(payload, "https://evil.example")).html(remote_images=True)
    assert all(map(is_remote_image, read_strictly(html, remote_images=True).sources))


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("https://x.example/p.png", True),
        ("HTTP://x.example", True),
        ("https:/lab/api", False),
        ("https:lab", False),
        ("http:///lab", False),
        ("http://\\x", False),
        ("mailto:a@x.example", False),
        ("#x", False),
        ("data:image/png;base64,x", False),
        ("//x.example/p.png", False),
        ("https://x.example/" + "y" * 2_000, False),
        ("", False),
    ],
)
def test_a_remote_image_names_its_host(url: str, remote: bool) -> None:
    assert is_remote_image(url) is remote
