"""A page in a real browser: what it says on the console, what it fetches, and whether it can be read."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from playwright.sync_api import Page

Scheme = Literal["light", "dark"]
SCREENS: tuple[tuple[int, Scheme], ...] = ((1280, "light"), (390, "light"), (390, "dark"), (1280, "dark"))
"""Width in pixels and colour scheme of each look at a page."""

LEAST_CONTRAST = 4.5
"""Of text and its background: WCAG 2.2, level AA."""
SMALLEST_TEXT = 9.5
"""Pixels, also inside a drawing that was made narrower."""

_LOOK = """
() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const ground = element => {
    for (let e = element; e; e = e.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(e).backgroundColor);
      if (a > .5) return [r, g, b];
    }
    return matchMedia('(prefers-color-scheme: dark)').matches ? [18, 18, 18] : [255, 255, 255];
  };
  const faint = [], small = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode, element = node.parentElement, box = element.getBoundingClientRect();
    if (!node.data.trim() || !box.width || !element.checkVisibility()) continue;
    const style = getComputedStyle(element), drawn = element instanceof SVGElement;
    const [r, g, b] = numbers(drawn ? style.fill : style.color);
    const two = [luminance([r, g, b]), luminance(ground(element))].sort((x, y) => y - x);
    const contrast = (two[0] + .05) / (two[1] + .05), words = node.data.trim().slice(0, 40);
    if (contrast < LEAST_CONTRAST) faint.push([words, contrast]);
    const scale = drawn ? element.getScreenCTM().a : 1;
    const size = parseFloat(style.fontSize) * scale;
    if (size < SMALLEST_TEXT) small.push([words, size]);
  }
  const meeting = [];
  for (const drawing of document.querySelectorAll('svg')) {
    const texts = [...drawing.querySelectorAll('text')].filter(t => t.textContent.trim())
      .map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
    texts.forEach(([one, a], i) => texts.slice(i + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 1 && high > 3) meeting.push([one, other]);
    }));
  }
  return {faint, small, meeting, width: document.documentElement.scrollWidth};
}
"""


@contextlib.contextmanager
def opened(chromium: str, path: Path, width: int, scheme: Scheme = "light") -> Iterator[Page]:
    """The page from file://. Afterwards there was no console message, no error and no request to elsewhere."""
    from playwright.sync_api import sync_playwright

    noise: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        view.on("console", lambda message: noise.append(message.text))
        view.on("pageerror", lambda error: noise.append(str(error)))
        view.on("request", lambda request: noise.append(request.url) if request.url.startswith("http") else None)
        view.on("requestfailed", lambda request: noise.append(request.url))
        view.goto(path.as_uri())
        yield view
        browser.close()
    assert noise == []


def require_readable(view: Page, width: int) -> None:
    """Nothing is wider than the screen, no text is faint or tiny, and no two texts of a drawing lie on each other."""
    view.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    found: dict[str, Any] = view.evaluate(
        _LOOK.replace("LEAST_CONTRAST", str(LEAST_CONTRAST)).replace("SMALLEST_TEXT", str(SMALLEST_TEXT))
    )
    assert found["width"] <= width
    assert found["faint"] == [], f"contrast below {LEAST_CONTRAST}"
    assert found["small"] == [], f"text below {SMALLEST_TEXT} px"
    assert found["meeting"] == []
