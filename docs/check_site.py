"""Check the built site as a reader sees it, first its files and then every page in Chromium.

    python docs/check_site.py build/site
    python docs/check_site.py build/site --pages 'guide/|^index' --screenshots shots

In the files it reports dead links and anchors, missing pictures, pictures without alternative text, skipped levels of
headings and a missing language. In Chromium it reports errors of the console, requests to other hosts, files that are
not found, pages wider than 390 pixels, and breaches of the rules of axe-core for WCAG 2.1 AA. Contrast is checked in
light and dark colours. Search, the copy button, the choice of colours and the menu of a narrow screen are used once.
The exit status is 1 if there is a finding.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import threading
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urlsplit

from bs4 import BeautifulSoup
from playwright.sync_api import Page, sync_playwright

WIDE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
ALL_RULES = {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
CONTRAST = {"type": "rule", "values": ["color-contrast"]}
OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.body.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > width + 1);
    return wide.slice(0, 3).map(e => e.tagName.toLowerCase() + "." + e.className);
}"""
AXE = """async rules => {
    const found = await axe.run(document, {runOnly: rules, resultTypes: ["violations"], preload: false});
    return found.violations.flatMap(v => v.nodes.map(n => `${v.id}: ${n.target.join(" ")}`));
}"""
SET_THEME = "theme => { document.documentElement.dataset.theme = theme; }"


class Quiet(SimpleHTTPRequestHandler):
    """A file server that prints nothing."""

    def log_message(self, *arguments: Any) -> None:
        """Print nothing."""


class Site:
    """The files of a site."""

    def __init__(self, folder: Path) -> None:
        """Parse all pages."""
        self.folder = folder.resolve()
        paths = (path for path in self.folder.rglob("*.html") if "_static" not in path.parts)
        names = sorted(path.relative_to(self.folder).as_posix() for path in paths)
        self.pages = {name: BeautifulSoup((self.folder / name).read_bytes(), "html.parser") for name in names}
        self.anchors = {name: {tag["id"] for tag in page.find_all(id=True)} for name, page in self.pages.items()}

    def find_faults(self, name: str) -> list[str]:
        """Return faults of a page that can be found without a browser."""
        page, faults = self.pages[name], []
        if not page.html.get("lang"):
            faults.append("no language")
        links = [(tag, tag["href"]) for tag in page.find_all("a", href=True)]
        links += [(tag, tag["src"]) for tag in page.find_all(("img", "script"), src=True)]
        for tag, link in links:
            if self._is_dead(name, link):
                faults.append(f"dead {tag.name}: {link}")
        faults += [f"no alt: {tag.get('src')}" for tag in page.find_all("img") if tag.get("alt") is None]
        main = page.find("main") or page
        level = 0
        for heading in main.find_all(["h1", "h2", "h3", "h4", "h5", "h6"]):
            if int(heading.name[1]) > level + 1:
                faults.append(f"{heading.name} after h{level}: {heading.get_text(strip=True)[:40]}")
            level = int(heading.name[1])
        return faults

    def _is_dead(self, name: str, link: str) -> bool:
        if urlsplit(link).scheme or link.startswith("//"):
            return False
        target, anchor = urldefrag(link)
        target = unquote(urlsplit(target).path)
        path = (self.folder / name).parent / target if target else self.folder / name
        path = path.resolve()
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file():
            return True
        page = path.relative_to(self.folder).as_posix()
        return bool(anchor) and page in self.anchors and unquote(anchor) not in self.anchors[page]


class Reader:
    """A browser that notes faults."""

    def __init__(self, page: Page, root: str) -> None:
        """Listen to the page."""
        self.page, self.root = page, root
        self.faults: list[str] = []
        page.on("request", self._on_request)
        page.on("response", lambda response: self._on_response(response.status, response.url))
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))

    def _on_request(self, request: Any) -> None:
        if not request.url.startswith((self.root, "data:", "blob:")):
            self.faults.append(f"request to {request.url}")

    def _on_response(self, status: int, url: str) -> None:
        if status >= 400:
            self.faults.append(f"status {status}: {url}")

    def _on_console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning"):
            self.faults.append(f"console: {text}")

    def look_at(self, name: str, shots: Path | None) -> list[str]:
        """Return faults of a page, in both widths and both colour schemes."""
        self.faults = []
        page = self.page
        page.set_viewport_size(WIDE)
        page.goto(f"{self.root}/{name}", wait_until="load")
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        for theme, rules in (("light", ALL_RULES), ("dark", CONTRAST)):
            page.evaluate(SET_THEME, theme)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                where = f"{theme}, {size['width']}"
                if size is WIDE:
                    self.faults += [f"{where}: {found}" for found in page.evaluate(AXE, rules)]
                elif theme == "light":
                    self.faults += [f"{where}: wider than the screen: {found}" for found in page.evaluate(OVERFLOW)]
                if shots is not None:
                    stem = name.replace("/", "_").removesuffix(".html")
                    page.screenshot(path=shots / f"{stem}_{theme}_{size['width']}.png")
        return self.faults

    def use(self) -> list[str]:
        """Return what does not work: search, copy button, choice of colours, menu of a narrow screen."""
        self.faults = []
        page = self.page
        page.set_viewport_size(WIDE)
        page.goto(f"{self.root}/search.html?q=freeze_depth", wait_until="load")
        page.wait_for_selector("#search-results .search-summary:has-text('finished')")  # results appear one by one
        results = page.locator("#search-results li a").all_inner_texts()
        if not any("FineTuneClassifier" in result for result in results):
            self.faults.append(f"search finds {results[:5]}")
        page.goto(f"{self.root}/index.html", wait_until="load")
        block = page.locator("div.highlight-python").first
        block.hover()
        block.locator("button.copybtn").click()
        copied = page.evaluate("navigator.clipboard.readText()")
        if copied.strip() != block.locator("pre").inner_text().strip():
            self.faults.append(f"the copy button copies {copied[:60]!r}")
        page.locator("button.theme-switch-button:visible").first.click()
        page.locator("button.theme-change-button[data-mode=dark]:visible").first.click()
        if page.evaluate("document.documentElement.dataset.theme") != "dark":
            self.faults.append("the choice of dark colours changes nothing")
        page.set_viewport_size(NARROW)
        page.locator("button.primary-toggle").click()
        if not page.locator("#pst-primary-sidebar-modal").is_visible():
            self.faults.append("the menu of a narrow screen does not open")
        return self.faults


def main() -> None:
    """Print findings per page and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--pages", default="", help="regular expression of the pages to look at")
    parser.add_argument(
        "--chromium", default=shutil.which("chromium"), help="path of Chromium; Playwright's own if none"
    )
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the pages")
    args = parser.parse_args()
    site = Site(args.site)
    chosen = [name for name in site.pages if re.search(args.pages, name)]
    if args.screenshots:
        args.screenshots.mkdir(parents=True, exist_ok=True)
    counts: Counter[str] = Counter()

    def report(name: str, faults: list[str]) -> None:
        counts[name] += len(faults)
        for fault in faults:
            print(f"{name}: {fault}", flush=True)

    for name in chosen:
        report(name, site.find_faults(name))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site.folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_address[1]}"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])  # for containers
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(120_000)
        reader = Reader(page, root)
        for name in chosen:
            report(name, reader.look_at(name, args.screenshots))
        report("use", reader.use())
        browser.close()
    server.shutdown()
    print(f"{len(chosen)} pages, {sum(counts.values())} findings")
    sys.exit(bool(sum(counts.values())))


if __name__ == "__main__":
    main()
