from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hostile import HOSTILE, aimed, read_h5sc, turn_of
from html_whitelist import read_strictly
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyterlab_maths import without_maths

from createagents_nb.render import highlight
from createagents_nb.render.bundle import MAX_MARKDOWN_CHARS, render_bundle, render_markdown_html
from createagents_nb.render.highlight import LANGUAGES, color_code
from createagents_nb.render.links import is_safe_href
from createagents_nb.render.maths import is_safe_tex
from createagents_nb.render.snapshot import TextBlock, TurnSnapshot
from createagents_nb.text import clean_text

pytestmark = pytest.mark.once

DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

PAYLOADS = [aimed(payload) for payload in HOSTILE]


def corpus(name: str) -> list[dict[str, object]]:
    file = DATA / name
    if not file.exists():
        pytest.skip(f"shared/data is missing: put {name} into {DATA}")
    found: list[dict[str, object]] = json.loads(file.read_text("utf-8"))
    return found


def assert_harmless(turn: TurnSnapshot) -> None:
    bundle = render_bundle(turn)
    for formula in read_strictly(bundle["text/html"]).formulas:
        assert is_safe_tex(formula.strip("$")), formula
    assert_inert(bundle["text/markdown"])
    assert_inert(without_maths(bundle["text/markdown"]))
    # marked, JupyterLab's parser, does this to the text of a link before it parses it.
    assert_inert(re.sub(r"\\([\[\]])", r"\1", bundle["text/markdown"]))
    assert not set(map(ord, bundle["text/plain"])) & {*range(9), *range(11, 32), *range(0x7F, 0xA0), 0x202E}
    json.dumps(bundle, allow_nan=False, ensure_ascii=False).encode()


def assert_inert(markdown: str) -> None:
    """Read by a parser with raw HTML on and links unchecked, it is still nothing but text and web links."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    parser.validateLink = lambda url: True  # type: ignore[method-assign]
    pending = parser.parse(markdown)
    while pending:
        token = pending.pop()
        pending.extend(token.children or [])
        assert token.type not in ("html_block", "html_inline", "image"), markdown
        assert token.type != "link_open" or is_safe_href(str(token.attrs["href"])), markdown
        assert token.type != "fence" or token.info in ("", *LANGUAGES.values()), markdown


@pytest.mark.parametrize("payload", PAYLOADS)
def test_nothing_hostile_survives_in_any_channel(payload: str) -> None:
    assert_harmless(turn_of(payload))


def test_nothing_of_the_xss_corpus_survives_in_any_channel(shared_data: Path) -> None:
    for case in read_h5sc(shared_data):
        assert_harmless(turn_of(case.payload))


def test_two_neighbours_cannot_hide_half_a_payload_each() -> None:
    for first in PAYLOADS:
        assert_harmless(turn_of(f"{first}\n{PAYLOADS[0]}\n\n{first} {PAYLOADS[1]}"))


def test_every_commonmark_example_is_rendered_within_the_whitelist() -> None:
    for example in corpus("commonmark-spec.json"):
        source = str(example["markdown"])
        assert_harmless(turn_of("x", blocks=(TextBlock(source), TextBlock(f"> {source}"))))


def test_plain_commonmark_examples_come_out_as_the_specification_says() -> None:
    """Where neither HTML, links, images, languages nor maths are involved, the HTML is CommonMark's own."""
    checked = 0
    for example in corpus("commonmark-spec.json"):
        source, expected = str(example["markdown"]), str(example["html"])
        if any(mark in source for mark in "<[$&~\\|\t\u00a0") or "class=" in expected:
            continue
        html = render_markdown_html(source)
        html = re.sub(r' (?:style|dir)="[^"]*"', "", html).replace('<div class="highlight">', "")
        html = html.replace("</pre></div>", "</pre>")
        expected = expected.replace(" />", ">").replace("&quot;", '"')
        assert "".join(html.split()) == "".join(expected.split()), source
        checked += 1
    assert checked > 200


FRAGMENTS = st.sampled_from(
    [
        *PAYLOADS,
        *"`*_~[]()<>!$\\|#-+=:&{}\n\"'/ ",
        *(
            "```",
            "~~~",
            "$$",
            "\\(",
            "\\)",
            "\\[",
            "\\]",
            "\\\\(",
            "\\\\)",
            "\\begin{x}",
            "\\end{x}",
            "\\frac{a}{b}",
        ),
        *("\n\n", "\n- ", "\n> ", "\n    ", "|-|", "https://x", "javascript:", "<img src=x>", "![", "](", "@@0@@"),
        *("word", "\u0627\u0644\u0639", "\U0001f469\u200d\U0001f4bb"),
    ]
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(FRAGMENTS, max_size=25).map("".join) | st.text(max_size=200))
def test_any_text_is_harmless(text: str) -> None:
    assert_harmless(turn_of(text))


@pytest.mark.parametrize(
    ("tex", "safe"),
    [
        (r"\frac{a}{b} \le \sum_{i=1}^n x_i^2", True),
        (r"\begin{bmatrix} 1 & 2 \\[2pt] 3 & 4 \end{bmatrix}", True),
        (r"\text{if } x > 0", True),
        (r"50\%", True),
        (r"\operatorname*{arg\,max}_x", True),
        (r"\begin{evil} x \end{evil}", False),
        (r"\begin\relax{array}", False),
        (r"a \\[-9999em] b", False),
        (r"{a", False),
        (r"a}{b", False),
        ("a \\", False),
        (r"a % b", False),
        (r"\HREF{x}{y}", False),
        ("{" * 100 + "}" * 100, False),
        ("x" * 6000, False),
        ("", False),
    ],
)
def test_only_known_and_balanced_tex_is_typeset(tex: str, safe: bool) -> None:
    assert is_safe_tex(tex) is safe


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        ("$a_1$ and \\(b\\)", ["$a_1$", "$b$"]),
        ("$$x$$", ["$$x$$"]),
        ("\\[\nx \\\\[2pt]\n- y\n\\]", ["$$x \\\\[2pt]\n- y$$"]),
        ("text\n$$\na\n$$\nmore", ["$$a$$"]),
        ("\\begin{align}\na &= b\n\\end{align}", ["$$\\begin{align}\na &= b\n\\end{align}$$"]),
        ("from $5 to $10, US$3 and $HOME", []),
        ("`$a$` and ``\\(b\\)``", []),
        ("```\n$$\nx\n$$\n```", []),
        ("    $a$", []),
        ("\\$a\\$ and \\\\(b\\\\)", []),
        ("$a `b$ c`", []),
    ],
)
def test_maths_is_found_where_it_is_meant(text: str, formulas: list[str]) -> None:
    assert read_strictly(render_markdown_html(text)).formulas == formulas


def test_tex_that_is_not_safe_is_shown_as_code() -> None:
    html = render_markdown_html(r"$\href{javascript:alert(1)}{x}$")
    assert html == "<p><code>$\\href{javascript:alert(1)}{x}$</code></p>\n"


def test_an_image_is_a_link_and_never_loaded() -> None:
    html = render_markdown_html("![a *plot*](https://x.example/p.png) ![b](data:image/png;base64,x)")
    reader = read_strictly(html)
    assert reader.hrefs == ["https://x.example/p.png"]
    assert "a plot" in "".join(reader.text)


def test_links_lead_to_the_web_by_mail_or_within_the_page() -> None:
    text = (
        "[a](https://a.example) [b](mailto:b@example.org) [c](#c) [d](ftp://d) [e](/lab/tree) <http://f.example>"
    )
    assert read_strictly(render_markdown_html(text)).hrefs == [
        "https://a.example",
        "mailto:b@example.org",
        "#c",
        "http://f.example",
    ]


def test_terminal_escapes_and_direction_overrides_are_removed_and_real_scripts_stay() -> None:
    assert clean_text("\x1b[1;31mred\x1b[0m\x07 \x1b]0;title\x07x\r\ny") == "red x\ny"
    assert clean_text("user\u202etxt.exe\u200b") == "usertxt.exe"
    persian = "می‌خواهم \u200fx 👩‍💻"
    assert clean_text(persian) == persian


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000_000,
        ">" * 10_000 + "x",
        "> " * 10_000 + "x",
        "".join(" " * (2 * i) + "- x\n" for i in range(200)),
        "[" * 100_000,
        "![" * 500 + "x" + "](https://x)" * 500,
        "[a]: https://x/" + "y" * 1_900 + "\n\n" + "[a]" * 15_000,
        "\\[\n" * 20_000,
        "$$a\n" * 20_000,
        "| a " * 1_000 + "\n" + "|-" * 1_000 + "\n" + "|\n" * 1_000,
    ],
    ids=[
        "one line",
        "quotes",
        "spaced quotes",
        "lists",
        "brackets",
        "images",
        "references",
        "maths",
        "dollars",
        "table",
    ],
)
def test_absurd_text_is_shown_and_does_not_overflow(text: str) -> None:
    def bundle_of(text: str) -> dict[str, Any]:
        blocks = (TextBlock(text),)
        return render_bundle(
            TurnSnapshot(call_id="1", agent="a", provider="p", model="m", status="ok", blocks=blocks)
        )

    bundle = bundle_of(text)
    reader = read_strictly(bundle["text/html"])
    assert len("".join(reader.text)) > 0
    assert len(bundle["text/html"]) < 5_000_000 + 10 * len(text)
    most = text[: MAX_MARKDOWN_CHARS - 100]  # there is no Markdown of more
    assert len(bundle_of(most)["text/markdown"]) < 50_000 + 6 * len(most)


def test_nesting_beyond_the_limit_loses_no_text() -> None:
    html = render_markdown_html(">" * 500 + " the end")
    assert "the end" in "".join(read_strictly(html).text)


@pytest.mark.parametrize("language", sorted(set(LANGUAGES.values())))
def test_coloured_code_reads_as_it_was_written(language: str) -> None:
    code = "# <b>&amp; 'x' \"y\" {z}\n\n\tif (a < b) { return `c`; }\n$ @x %y \\n\r\n"
    reader = read_strictly(f"<pre>{color_code(code, language)}</pre>")
    assert "".join(reader.text) == code


def test_code_that_is_slow_to_colour_is_shown_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "<span" not in color_code("\n" * 5_000 + "x", "c")
    monkeypatch.setattr(highlight, "MAX_COLORING_S", -1.0)
    assert color_code("def f():\n    pass\n", "python") == "def f():\n    pass\n"


def test_the_renderer_needs_no_jupyter_and_parses_nothing_until_asked() -> None:
    program = (
        "import sys, createagents_nb.render.bundle\n"
        "heavy = {'IPython', 'ipywidgets', 'anywidget', 'markdown_it', 'pygments', 'pandas'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
