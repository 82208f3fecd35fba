"""Pages as a reader finds them: parsed, and opened in a real Chromium."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from support.processes import LIMIT_S

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "input", "link", "img", "hr"}


@dataclass
class Element:
    """An element of a page."""

    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[str | Element] = field(default_factory=list)

    def all(self, tag: str = "", **wanted: str) -> list[Element]:
        """Every element below it of a tag and class; ``cls`` is one of its classes."""
        cls = wanted.get("cls", "")
        found = [
            child
            for child in self.children
            if tag in ("", child.tag) and (not cls or cls in child.attributes.get("class", "").split())
        ]
        return found + [below for child in self.children for below in child.all(tag, **wanted)]

    @property
    def text(self) -> str:
        """All text in it, with one space for each run of white space."""
        return " ".join("".join(one if isinstance(one, str) else f" {one.text} " for one in self.texts).split())


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open = [Element("document", {})]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].children.append(element)
        self.open[-1].texts.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].texts.append(data)


def parsed(html: str) -> Element:
    """A page's elements; every element must be closed where it was opened."""
    parser = _Parser()
    parser.feed(html)
    parser.close()
    assert len(parser.open) == 1, f"<{parser.open[-1].tag}> is not closed"
    return parser.open[0]


def assert_inert(page: Element) -> None:
    """Nothing in a page can be loaded or run but its one style and script, which its policy names by their hashes."""
    (script,), (style,) = page.all("script"), page.all("style")
    policy = next(e.attributes["content"] for e in page.all("meta") if "http-equiv" in e.attributes)
    for kind, element in (("script", script), ("style", style)):
        digest = b64encode(sha256("".join(map(str, element.texts)).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
        assert not element.attributes
    assert policy.startswith("default-src 'none';")
    assert "unsafe" not in policy
    for element in page.all():
        assert element.tag not in {"link", "img", "iframe", "object", "embed", "base", "form", "image", "video"}
        for name, value in element.attributes.items():
            assert not name.startswith("on"), (element.tag, name)
            assert name not in {"src", "srcset", "style", "action", "data", "xlink:href"}, (element.tag, name)
            assert name != "href" or value.startswith("#"), value


def opened(page: Path, script: str, folder: Path, width: int = 1600, dark: bool = False) -> Any:
    """What a script finds in a page that a real Chromium has opened; tests are skipped where there is none.

    Args:
        page: the file.
        script: the body of a function of ``view`` and ``doc``, the page's window and document; what it returns comes
            back as JSON.
        folder: for Chromium's own files.
        width: of the window in CSS pixels.
        dark: whether the reader prefers a dark scheme.
    """
    frame = folder / "frame.html"
    frame.write_text(
        f'<!doctype html><pre id="found"></pre><iframe id="page" src="{page.as_uri()}" width="{width}" height="900" '
        'style="border:0"></iframe><script>const began = performance.now(), page = document.getElementById("page");'
        "page.onload = () => { const view = page.contentWindow, doc = view.document; let found; try { found = (() => {"
        f'{script}\n}})(); }} catch (error) {{ found = "error: " + error; }} '
        'document.getElementById("found").textContent = JSON.stringify(found); };</script>'
    )
    done = _chromium("--dump-dom", frame, folder, (1700, 1000), dark)
    found = re.search(r'<pre id="found">(.*?)</pre>', done, re.DOTALL)
    assert found is not None, done[:500]
    assert found[1], "the page was not loaded"
    return json.loads(unescape(found[1]))


def screenshot(page: Path, folder: Path, size: tuple[int, int], dark: bool = False) -> bytes:
    """A page as Chromium paints it, as PNG."""
    picture = folder / "shot.png"
    _chromium(f"--screenshot={picture}", page, folder, size, dark)
    return picture.read_bytes()


def _chromium(task: str, page: Path, folder: Path, size: tuple[int, int], dark: bool) -> str:
    if CHROMIUM is None:
        pytest.skip("needs Chromium, and there is none on the path")
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={size[0]},{size[1]}",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", task, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True).stdout
