"""Whether a folder of raw data is that of the build at all: with another one there is no verdict, clean or not.

Of raw data the content counts, so the same episodes in other files will do. But where no file is there that was
planned, and no episode is like the one of its name, the folder is a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.files import TASKS, read_regular
from pipeline.audit.raw.base import RawSource
from pipeline.audit.raw.place import Place
from pipeline.errors import BuildError
from pipeline.format.json.strict_json import parse
from pipeline.format.text.printable import printable


def require_listed(build: ClaimedBuild, raw: RawSource, root: Place) -> None:
    """Raise BuildError when the raw data lists no episode of the build. An empty build has none to list."""
    names = (str(name) for name, dropped in zip(build.tasks.ids, build.tasks.dropped, strict=True) if not dropped)
    first = next(names, None)
    if first is not None and raw.split_of(first) is None and all(raw.split_of(name) is None for name in names):
        raise _wrong(root, f"lists none of the build's {len(build.tasks.ids):,} episodes, such as {printable(first)}")


def require_some_alike(build: ClaimedBuild, root: Place, alike: int, decoded: int) -> None:
    """Raise BuildError when no decoded episode is like the raw one of its name, and no planned file is there.

    Args:
        alike, decoded: episodes in which nothing differed, and all that were compared.
    """
    if decoded and not alike and not any(_is_there(root / path, size) for path, size in _planned(build)):
        raise _wrong(root, f"has none of the planned files, and none of {decoded:,} episodes is like the build's")


def _wrong(root: Place, what: str) -> BuildError:
    return BuildError(
        f"{root} {what}: it is not the raw data of this build, which so cannot be audited at this level; give the root "
        "that the build was made from"
    )


def _is_there(path: Place, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except OSError:
        return False


def _planned(build: ClaimedBuild) -> Iterator[tuple[str, int]]:
    for line in read_regular(build.root / TASKS).splitlines():
        for ref in parse(line)["episodes"]:
            for file in ref.get("files") or ():
                if isinstance(file, list) and len(file) == 2 and type(file[0]) is str and type(file[1]) is int:
                    yield file[0], file[1]
