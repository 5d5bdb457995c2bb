"""A strict reader of what the renderer makes: any tag, attribute or value beyond these is an error."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from createagents_nb.render import styles

_VOID = {"br", "hr", "img"}
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
    r"createagents-((turn|request) mathjax_ignore tex2jax_ignore|answer|tool|reasoning|error|status|task"
    r"|maths mathjax_process tex2jax_process|image)|highlight|language-[a-z]{1,12}"
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
    "open": re.compile(""),
    "scope": re.compile("row|col"),
    "border": re.compile("1"),
    "cellpadding": re.compile("4"),
    "alt": re.compile(r"[^\x00-\x1f]+"),
    "src": re.compile(".+"),
    "loading": re.compile("lazy"),
    "referrerpolicy": re.compile("no-referrer"),
}
_ONLY_ON = {
    "href": {"a"},
    "target": {"a"},
    "rel": {"a"},
    "start": {"ol"},
    "open": {"details"},
    "scope": {"th"},
    "border": {"table"},
    "cellpadding": {"table"},
    "alt": {"img"},
    "src": {"img"},
    "loading": {"img"},
    "referrerpolicy": {"img"},
}
_TOOL_IMAGE = {
    ("class", "alt", "src", "style"): re.compile(
        r"data:image/(png|jpeg|gif|webp);base64,([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
    )
}
_REMOTE_IMAGE = {
    ("src", "alt", "class", "loading", "referrerpolicy", "style"): re.compile(
        r"(?i)https?://[\x21-\x7e\x80-\U0010ffff]+"
    )
}


class _Reader(HTMLParser):
    def __init__(self, remote_images: bool) -> None:
        super().__init__(convert_charrefs=True)
        self.images = _TOOL_IMAGE | (_REMOTE_IMAGE if remote_images else {})
        self.sources: list[str] = []
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
        if tag == "img":
            assert tuple(names) in self.images, f"<img {names}> in the output"
            assert dict(attrs)["class"] == "createagents-image"
            self.sources.append(dict(attrs)["src"] or "")
            assert self.images[tuple(names)].fullmatch(self.sources[-1]), (
                f"{self.sources[-1][:80]!r} in the output"
            )
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


def read_strictly(html: str, *, remote_images: bool = False) -> _Reader:
    """The text, links, images and formulas of ``html``; fails on what the renderer does not write itself.

    An image is one that a tool returned; with ``remote_images`` it may be one of the web.
    """
    reader = _Reader(remote_images)
    reader.feed(html)
    reader.close()
    assert not reader.open, f"never closed: {reader.open}"
    return reader
