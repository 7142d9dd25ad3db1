"""Look at the built site as a reader does: files first, then every page in Chromium.

    python docs/check_site.py build/site
    python docs/check_site.py build/site --pages reference --screenshots shots

Files: dead links and anchors, missing pictures, pictures without alternative text, skipped levels of headings, missing
language. Chromium, at 1,280 and 390 pixels, light and dark: errors of the console, requests to other hosts, pages wider
than the screen, and the rules of axe-core for WCAG 2.1 AA, contrast among them. Then search, the copy button, the
choice of colours and the menu of a narrow screen are used once. The exit status is 1 if there is a finding.
"""

from __future__ import annotations

import argparse
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
AXE_TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
OVERFLOW = """() => {
    const width = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= width) return [];
    const wide = [...document.body.querySelectorAll("*")].filter(e => e.getBoundingClientRect().right > width + 1);
    return wide.slice(0, 3).map(e => e.tagName.toLowerCase() + "." + e.className);
}"""
AXE = """async tags => {
    const found = await axe.run(document, {runOnly: tags, resultTypes: ["violations"]});
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
        """Return what is wrong with a page that needs no browser."""
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


def look_at(page: Page, url: str, shots: Path | None) -> list[str]:
    """Return what is wrong with a page in the browser, in both widths and both colour schemes."""
    faults: list[str] = []
    host = urlsplit(url).netloc

    def on_request(request: Any) -> None:
        if urlsplit(request.url).netloc not in (host, "") and not request.url.startswith(("data:", "blob:")):
            faults.append(f"request to {request.url}")

    def on_console(message: Any) -> None:
        if message.type in ("error", "warning"):
            faults.append(f"console: {message.text}")

    def on_error(error: Any) -> None:
        faults.append(f"script: {error}")

    listeners = {"request": on_request, "console": on_console, "pageerror": on_error}
    for event, listener in listeners.items():
        page.on(event, listener)  # type: ignore[call-overload]
    try:
        page.set_viewport_size(WIDE)
        page.goto(url, wait_until="load")
        page.evaluate((files("axe_playwright_python") / "axe.min.js").read_text())
        for theme in ("light", "dark"):
            page.evaluate(SET_THEME, theme)
            for size in (WIDE, NARROW):
                page.set_viewport_size(size)
                where = f"{theme}, {size['width']}"
                faults += [f"{where}: wider than the screen: {found}" for found in page.evaluate(OVERFLOW)]
                if size is WIDE or theme == "light":
                    faults += [f"{where}: {found}" for found in page.evaluate(AXE, AXE_TAGS)]
                if shots is not None:
                    shots.mkdir(parents=True, exist_ok=True)
                    name = urlsplit(url).path.strip("/").replace("/", "_").removesuffix(".html")
                    page.screenshot(path=shots / f"{name}_{theme}_{size['width']}.png")
    finally:
        for event, listener in listeners.items():
            page.remove_listener(event, listener)
    return faults


def use(page: Page, root: str) -> list[str]:
    """Return what does not work: search, copy button, choice of colours, menu of a narrow screen."""
    faults = []
    page.set_viewport_size(WIDE)
    page.goto(f"{root}/search.html?q=freeze_depth", wait_until="load")
    page.wait_for_selector("#search-results li a", timeout=30_000)
    results = page.locator("#search-results li a").all_inner_texts()
    if not any("FineTuneClassifier" in result for result in results):
        faults.append(f"search finds {results[:5]}")
    page.goto(f"{root}/index.html", wait_until="load")
    block = page.locator("div.highlight-python").first
    block.hover()
    block.locator("button.copybtn").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    if copied.strip() != block.locator("pre").inner_text().strip():
        faults.append(f"the copy button copies {copied[:60]!r}")
    before = page.evaluate("document.documentElement.dataset.mode")
    page.locator("button.theme-switch-button:visible").first.click()
    if page.evaluate("document.documentElement.dataset.mode") == before:
        faults.append("the button for colours changes nothing")
    page.set_viewport_size(NARROW)
    page.locator("button.primary-toggle").click()
    if not page.locator("#pst-primary-sidebar-modal").is_visible():
        faults.append("the menu of a narrow screen does not open")
    return faults


def main() -> None:
    """Print findings per page and their number."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    parser.add_argument("--pages", default="", help="look only at pages whose path contains this")
    parser.add_argument(
        "--chromium", default=shutil.which("chromium"), help="path of Chromium; Playwright's own if none"
    )
    parser.add_argument("--screenshots", type=Path, help="folder for pictures of the pages")
    args = parser.parse_args()
    site = Site(args.site)
    chosen = [name for name in site.pages if args.pages in name]
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
        browser = playwright.chromium.launch(executable_path=args.chromium, args=["--no-sandbox"])
        context = browser.new_context(permissions=["clipboard-read", "clipboard-write"], reduced_motion="reduce")
        page = context.new_page()
        page.set_default_timeout(120_000)
        for name in chosen:
            report(name, look_at(page, f"{root}/{name}", args.screenshots))
        if not args.pages:
            report("use", use(page, root))
        browser.close()
    server.shutdown()
    print(f"{len(chosen)} pages, {sum(counts.values())} findings")
    sys.exit(bool(sum(counts.values())))


if __name__ == "__main__":
    main()
