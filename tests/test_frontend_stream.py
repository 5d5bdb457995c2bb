"""The page's Markdown in Chromium, beside Python's: what has streamed in any pieces is what is saved."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import browser, find_chromium
from playwright.sync_api import Page
from test_markdown_safety import HOSTILE

from createagents_nb import notebook
from createagents_nb.render.bundle import render_markdown_html
from createagents_nb.text import clean_text

pytestmark = pytest.mark.browser

STATIC = Path(notebook.__file__).parent / "static"
DATA = Path(__file__).resolve().parents[1].parent / "shared" / "data"

HARNESS = """async source => {
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    const { MarkdownStream } = (await import(url)).frontend;
    // One line a node: colours in code and typeset formulas aside, which are another program's on either side.
    function lines(node, depth = "") {
        if (node instanceof Text) return [depth + JSON.stringify(node.data)];
        if (node.matches(".createagents-maths")) return [depth + "FORMULA " + node.outerHTML.split(">")[0]];
        const attributes = [...node.attributes].map(({ name, value }) => `${name}=${value}`).sort();
        const head = depth + [node.localName, ...attributes].join(" ");
        if (node.matches("code")) return [head, depth + " " + JSON.stringify(node.textContent)];
        return [head, ...[...node.childNodes].flatMap(child => lines(child, depth + " "))];
    }
    function ofHtml(html) {
        const holder = document.createElement("div");
        holder.innerHTML = "\\n" + html;  // made by our renderer, which the other tests hold to its list of tags
        return lines(holder);
    }
    function stream(pieces, each = () => {}) {
        const holder = document.createElement("div");
        const markdown = new MarkdownStream(holder);
        for (const piece of pieces) {
            markdown.append(piece);
            markdown.render();
            each(holder);
        }
        markdown.finish();
        return holder;
    }
    window.difference = ([pieces, html]) => {
        const streamed = lines(stream(pieces)).join("\\n"), saved = ofHtml(html).join("\\n");
        return streamed === saved ? null : [streamed, saved];
    };
    window.shown = pieces => {
        const seen = [];
        const holder = stream(pieces, now => seen.push(now.innerHTML));
        return [...seen, holder.innerHTML];
    };
}"""


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    path = find_chromium()
    assert path is not None, "no Chromium: run `python scripts/ensure_chromium.py`, or set CHROMIUM=/path/to/it"
    with browser(path) as running:
        page = running.new_page()
        page.set_content("<!doctype html>")  # formulas are not set in quirks mode
        page.evaluate(HARNESS, (STATIC / "frontend.js").read_text("utf-8"))
        yield page


def cut(text: str, seed: object) -> list[str]:
    """``text`` in random pieces: some of a few characters, some long."""
    rng = random.Random(f"{seed}")
    longest = rng.choice([1, 3, 8, 40, 400]) if len(text) < 2_000 else rng.choice([40, 400, 2_000])
    pieces = []
    while text:
        size = rng.randint(1, longest)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def assert_streams_as_saved(page: Page, texts: list[str], cuts: int = 2) -> None:
    for number, text in enumerate(texts):
        cleaned = clean_text(text)
        for seed in range(cuts):
            pieces = cut(cleaned, (number, seed))
            found: Any = page.evaluate("difference", [pieces, render_markdown_html(text)])
            assert found is None, f"{text!r} in {pieces!r}:\n{found[0]}\n--- saved ---\n{found[1]}"


def test_every_commonmark_example_streams_as_it_is_saved(page: Page) -> None:
    file = DATA / "commonmark-spec.json"
    if not file.exists():
        pytest.skip(f"shared/data is missing: put commonmark-spec.json into {DATA}")
    examples = [example["markdown"] for example in json.loads(file.read_text("utf-8"))]
    assert_streams_as_saved(page, examples, cuts=3)


def test_hostile_text_streams_as_it_is_saved(page: Page) -> None:
    assert_streams_as_saved(page, [*HOSTILE, "\n\n".join(HOSTILE)])


ANSWERS = [
    """# Summary

The model compares **two** plans[^1]; see [the docs] and ~~the old ones~~ `plan.compare()`.

1. Read the data:
   ```python
   df = pd.read_csv("a.csv")  # *not* emphasis, $not$ maths
   ```
2. Fit it
   - with `k = 3`
   - with _k_ = 5

     A second paragraph.
3. Done

| plan | cost | note |
|:-----|-----:|:----:|
| A | $5 | `x|y` |
| B | $10 | **best** |

> Quoted
> > twice

- [x] read
- [ ] fit

[the docs]: https://x.example/docs "Docs"
""",
    r"""Euler: $e^{i\pi} + 1 = 0$, and \(a^2\). It costs $5 or $6, and \[ not closed.

$$
\begin{pmatrix} 1 & 0 \\ 0 & 1 \end{pmatrix}
$$

\[
\sum_{i=1}^n i = \frac{n(n+1)}{2}
\]

\begin{align}
a &= b \\
c &= d
\end{align}

In code: `$x$`, and

```tex
$$ x $$
```

$\href{javascript:x}{y}$ is no formula.
""",
    "## العنوان\n\nهذا **نص** مع `code` و[رابط](https://x.example).\n\n- أول\n- ثان\n"
    "\n日本語の文章。*強調*です。\n\n👩‍💻 ok\n",
    "Steps:\n1. one\n2. two\n\n   more\n\n10. ten\n* other\n+ third\n\nText\n===\n\nText\n---\n***\n",
    "Look: ![plot](https://x.example/p.png) <https://y.example> https://bare.example "
    "<b>no</b> &copy; &#35; &nope;\n",
    "".join(f"- item {number} with **bold** and `code` and [a][ref]\n" for number in range(150))
    + "\n[ref]: https://x.example\n",
    "".join(f"{number}. item {number} of a list\n" for number in range(200))
    + "\n    and a last paragraph\n\nThe end",
    "".join(f"- loose {number}\n\n  with more\n\n" for number in range(150)) + "tight\n",
    "| a | b |\n|---|--:|\n" + "".join(f"| row {number} | `{number}` |\n" for number in range(300)) + "\nAfter",
    "```js\n" + "".join(f"const x{number} = {number};\n" for number in range(400)) + "```\nAfter\n",
    "A paragraph " + "that goes on " * 2_000 + "**to the end",
    "x\n" * 20_001,
    ">" * 100 + " deep",
    "[a]: https://x.example/" + "y" * 1_900 + "\n\n" + "[a]" * 3_000,
]


def test_answers_as_models_write_them_stream_as_they_are_saved(page: Page) -> None:
    assert_streams_as_saved(page, ANSWERS, cuts=3)


def test_the_comparison_sees_a_difference(page: Page) -> None:
    assert page.evaluate("difference", [["a *b*"], "<p>a <em>b</em></p>\n"]) is None
    assert page.evaluate("difference", [["a *b*"], "<p>a <em>c</em></p>\n"]) is not None
    assert page.evaluate("difference", [["[a](https://x)"], "<p><a href='https://x'>a</a></p>\n"]) is not None


# What has only begun


def shown(page: Page, *pieces: str) -> list[str]:
    """The HTML after each piece, and at the end."""
    found: list[str] = page.evaluate("shown", list(pieces))
    return [" ".join(html.split()).replace(" </p>", "</p>") for html in found]


@pytest.mark.parametrize(
    ("so_far", "html"),
    [
        ("Some **bo", "<p>Some <strong>bo</strong></p>"),
        ("Some **bold", "<p>Some <strong>bold</strong></p>"),
        ("Some **bold ", "<p>Some <strong>bold</strong></p>"),
        ("Some **", "<p>Some</p>"),
        ("Some *it", "<p>Some <em>it</em></p>"),
        ("Some ***both", "<p>Some <em><strong>both</strong></em></p>"),
        ("**bold *it", "<p><strong>bold <em>it</em></strong></p>"),
        ("a ~~gone", "<p>a <s>gone</s></p>"),
        ("2 * 3 and a_b", "<p>2 * 3 and a_b</p>"),
        ("Call `f(x", "<p>Call <code>f(x</code></p>"),
        ("Call `", "<p>Call</p>"),
        ("Call ``a`", "<p>Call <code>a</code></p>"),
        ("See [the do", "<p>See the do</p>"),
        ("See [the docs]", "<p>See the docs</p>"),
        ("See [the docs](https://exa", "<p>See the docs</p>"),
        ("See ![a plot](https://exa", "<p>See a plot</p>"),
        ("See **[the do", "<p>See <strong>the do</strong></p>"),
        ("See <https://exa", "<p>See https://exa</p>"),
        ("It costs $5", "<p>It costs $5</p>"),
        ("A line\n-", "<p>A line</p>"),
        ("A line\n=", "<p>A line</p>"),
        ("#", ""),
        ("##", ""),
        ("- a\n-", "<ul> <li>a</li> </ul>"),
        ("- a\n- ", "<ul> <li>a</li> </ul>"),
        ("- a\n- **", "<ul> <li>a</li> </ul>"),
        ("- a\n- [", "<ul> <li>a</li> </ul>"),
        ("1", ""),
        ("a\n\n``", "<p>a</p>"),
        ("a\n\n```", "<p>a</p>"),
        ("a\n\n**", "<p>a</p>"),
        ("a\\", "<p>a</p>"),
    ],
)
def test_half_a_construct_shows_no_raw_syntax(page: Page, so_far: str, html: str) -> None:
    assert shown(page, so_far)[0].strip() == html


def test_half_a_fence_is_code_from_its_first_line_on(page: Page) -> None:
    begun, more, end = shown(page, "```py\nx", " = 1\n")
    assert '<code class="language-python"' in begun
    assert ">x</code>" in begun
    assert "x = " in more
    assert "1" in end


def test_half_a_table_is_a_table(page: Page) -> None:
    head, closed, rule, row = (
        shown(page, text)[0] for text in ("| a | b", "| a | b |\n", "| a | b |\n|---", "| a | b |\n|---|---|\n| 1")
    )
    for html in (head, closed, rule):
        assert '<th style="text-align:start">a</th> <th style="text-align:start">b</th>' in html
        assert "|" not in html
        assert "-" not in re.sub('style="[^"]*"', "", html)
    assert '<td style="text-align:start">1</td>' in row


@pytest.mark.parametrize(
    ("so_far", "formula"),
    [("so $x^", "$x^$"), ("so \\(a", "\\(a\\)"), ("so $$x", "$$x$$"), ("so \\[a", "\\[a\\]")],
)
def test_half_a_formula_is_closed(page: Page, so_far: str, formula: str) -> None:
    html = shown(page, so_far)[0]
    assert "createagents-maths" in html or f"<code>{formula}</code>" in html


def test_what_was_only_held_back_is_there_in_the_end(page: Page) -> None:
    for text, html in {
        "The answer:\n42": "<p>The answer: 42</p>",
        "a **": "<p>a **</p>",
        "a [b": "<p>a [b</p>",
        "a\n-": "<h2>a</h2>",
        "| a | b |": "<p>| a | b |</p>",
        "a\\": "<p>a\\</p>",
    }.items():
        assert shown(page, text)[-1].strip() == html
