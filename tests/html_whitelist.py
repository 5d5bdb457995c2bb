"""A strict reader of what the renderer makes: any tag, attribute or value beyond these is an error."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from createagents_nb.notebook import styles

_VOID = {"br", "hr"}
_TAGS = {
    *(
        "div",
        "span",
        "p",
        "pre",
        "code",
        "details",
        "summary",
        "strong",
        "em",
        "s",
        "ul",
        "ol",
        "li",
        "blockquote",
    ),
    *("h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr", "th", "td", "a"),
    *_VOID,
}
_CLASSES = re.compile(
    r"createagents-(turn mathjax_ignore tex2jax_ignore|answer|tool|reasoning|error|status|task"
    r"|maths mathjax_process tex2jax_process)|highlight|language-[a-z]{1,12}"
)
_STYLES = re.compile(
    "|".join(
        [*(re.escape(getattr(styles, name)) for name in styles.__all__), "text-align:(left|right|center|start)"]
    )
    + r"|color:var\(--jp-mirror-editor-[a-z0-9-]+-color,#[0-9a-f]{6}\)(;font-style:italic)?"
)
_VALUES = {
    "class": _CLASSES,
    "style": _STYLES,
    "dir": re.compile("auto|ltr"),
    "href": re.compile(r"(?i)(https?:|mailto:|#)[\x21-\x7e\x80-\U0010ffff]*"),
    "target": re.compile("_blank"),
    "rel": re.compile("noopener noreferrer"),
    "start": re.compile(r"\d{1,9}"),
}
_ONLY_ON = {"href": {"a"}, "target": {"a"}, "rel": {"a"}, "start": {"ol"}}


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.text: list[str] = []
        self.formulas: list[str] = []
        self.hrefs: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS, f"<{tag}> in the output"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"an attribute twice in <{tag}>"
        for name, value in attrs:
            assert name in _VALUES, f"<{tag} {name}> in the output"
            assert tag in _ONLY_ON.get(name, {tag}), f"<{tag} {name}> in the output"
            assert _VALUES[name].fullmatch(value or ""), f"<{tag} {name}={value!r}> in the output"
        if tag == "a":
            assert names == ["href", "target", "rel"]
            self.hrefs.append(dict(attrs)["href"] or "")
        if tag not in _VOID:
            self.open.append(f"{tag}!" if "mathjax_process" in (dict(attrs).get("class") or "") else tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop().rstrip("!") == tag, f"</{tag}> closes another tag"

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self.open and self.open[-1].endswith("!"):
            self.formulas.append(data)

    def refuse(self, data: str) -> None:
        raise AssertionError(f"{data!r} in the output")

    handle_comment = handle_decl = handle_pi = unknown_decl = refuse


def read_strictly(html: str) -> _Reader:
    """The text, links and formulas of ``html``; fails on anything that the renderer does not write itself."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    return reader
