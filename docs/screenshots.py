"""Pictures of a run's page and of an audit's: python docs/screenshots.py RUN BUILD FOLDER, with the extra `slow`.

RUN is the folder of a training with report.html (`vlajepa report RUN`), BUILD that of an audited build. A page is taken
as a laptop and as a telephone show it, light and dark; FOLDER gets run-1280-light.png and so on.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HEIGHT = 1400
"""Pixels of a page that a picture shows, from its head."""
WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def main(run: str, build: str, folder: str) -> None:
    """Take all pictures. Raises SystemExit if a page or a browser is missing."""
    pages = {"run": Path(run) / "report.html", "audit": Path(build) / "audit" / "report.html"}
    missing = [str(page) for page in pages.values() if not page.is_file()]
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if missing or browser is None:
        raise SystemExit(
            f"{', '.join(missing)} not found" if missing else f"none of {', '.join(BROWSERS)} is installed"
        )
    Path(folder).mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for name, page in pages.items():
            for width in WIDTHS:
                for scheme in SCHEMES:
                    view = chromium.new_page(
                        viewport={"width": width, "height": HEIGHT},
                        color_scheme=scheme,  # type: ignore[arg-type]
                    )
                    view.goto(page.resolve().as_uri())
                    view.screenshot(path=Path(folder) / f"{name}-{width}-{scheme}.png")
                    view.close()
        chromium.close()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
