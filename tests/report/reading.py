"""Reading a page in tests: its structure, its words, and what a real browser makes of it."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
    "--virtual-time-budget=15000",
    "--window-size=1400,1500",
    "--dump-dom",
)
VOID = {"meta", "link", "br", "img", "input", "hr"}


class Reader(HTMLParser):
    """Collects tags, ids and links, and checks that every element is closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.fetches: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        self.links += [given["href"]] if tag == "a" and given.get("href") else []
        self.fetches += [value for name, value in attrs if name in ("src", "href", "srcset") and tag != "a" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def words(page: str) -> str:
    """The page's visible text, without scripts and tags."""
    body = re.sub(r"<(script|style)\b.*?</\1>", " ", page, flags=re.S)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


PROBE = """<!doctype html><body><iframe id="page" src="page.html" style="width:{width}px;height:1400px;border:0"></iframe>
<script>
const frame = document.getElementById("page");
const look = () => {{
  const root = frame.contentDocument && frame.contentDocument.documentElement;
  if (!root || !root.dataset.charts) return setTimeout(look, 100);
  const sizes = [...root.querySelectorAll("[data-chart]")].map((box) => {{
    const svg = box.querySelector("svg.marks");
    const drawn = svg && svg.querySelectorAll("path").length;
    const seen = svg ? svg.getBoundingClientRect() : {{ width: 0, height: 0 }};
    return [box.dataset.chart, drawn && seen.width > 100 && seen.height > 60 && seen.width <= box.clientWidth + 1];
  }});
  document.body.dataset.found = JSON.stringify({{
    asked: {ask}, overflow: root.scrollWidth - root.clientWidth, sizes, background: getComputedStyle(root.querySelector("body")).backgroundColor,
  }});
}};
look();
</script></body>"""


def browse(folder: Path, page: str, *, width: int, scheme: str, ask: str = "null") -> tuple[str, str]:
    """The DOM that Chromium leaves, and what it logged, with `page` in a frame of `width` pixels.

    `ask` is an expression to find out more, with the page's root element as ``root``.
    """
    (folder / "page.html").write_text(page, encoding="utf-8")
    probe = folder / "probe.html"
    probe.write_text(PROBE.format(width=width, ask=ask), encoding="utf-8")
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            CHROMIUM,
            *SWITCHES,
            f"--user-data-dir={folder / 'profile'}",
            f"--blink-settings=preferredColorScheme={ {'dark': 0, 'light': 1}[scheme] }",
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout, done.stderr


def told(dom: str, log: str) -> dict[str, Any]:
    """What the probe found out about the page in its frame."""
    found = re.search(r'data-found="([^"]+)"', dom)
    assert found, log
    seen: dict[str, Any] = json.loads(html.unescape(found.group(1)))
    return seen


def complaints(log: str) -> list[str]:
    """The lines of the browser's console."""
    return [line for line in log.splitlines() if "CONSOLE" in line]
