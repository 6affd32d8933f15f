"""`python -m tests.image [--folder FOLDER]`: builds the image, looks at it, and makes an audited build in it."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.image.builder import Builder, ImageError, missing_tool
from tests.image.check import Report, check
from tests.image.pip_settings import read_pip_settings

REPOSITORY = Path(__file__).resolve().parents[2]
IMAGE = "localhost/vlajepa"


def build_and_check(folder: Path) -> Report:
    """Everything lies in `folder`, which must be empty. Raises ImageError."""
    builder = Builder(folder)
    builder.base()
    builder.build(REPOSITORY, IMAGE, read_pip_settings())
    return check(builder, IMAGE)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.image", description=__doc__)
    parser.add_argument("--folder", help="where 15 GB have room (default: TMPDIR); emptied at the end", type=Path)
    folder = parser.parse_args().folder
    if reason := missing_tool():
        parser.error(reason)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vlajepa-image-", dir=folder) as scratch:
        try:
            report = build_and_check(Path(scratch))
        except ImageError as error:
            sys.exit(str(error))
    for output in report.output:
        sys.stdout.write(f"{output}\n\n")
    sys.stdout.write(f"the image holds {report.bytes / 1e9:.2f} GB; {time.monotonic() - started:.0f} s\n")


if __name__ == "__main__":
    main()
