"""The raw files that a build's plan names, and whether they lie below a root as they were planned."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.audit.raw.place import Place
from pipeline.errors import BuildError
from pipeline.format.build import Build
from pipeline.format.json.strict_json import member, parse_object


def planned_files(build: Build) -> Iterator[tuple[str, list[Any]]]:
    """Id of each episode that has samples or may have, and its files: path and size in bytes. Those that the run left
    out are in the ledger, not here. Raises BuildError for a malformed plan."""
    ledger = build.read_file("ledger.jsonl").splitlines()
    left_out = {member(parse_object(line, "ledger.jsonl"), "episode", str, "ledger.jsonl") for line in ledger}
    for number, line in enumerate(build.read_file("tasks.jsonl").splitlines(), start=1):
        where = f"{build.path}/tasks.jsonl:{number}"
        for ref in member(parse_object(line, where), "episodes", list, where):
            episode = member(ref, "id", str, where)
            if episode not in left_out:
                yield episode, member(ref, "files", list, where)


def changed_file(files: list[Any], root: Place | Path) -> str:
    """What is wrong with the files of an episode below a root; "" if all are there and of their size."""
    for entry in files:
        try:
            path, size = entry
            found = (root / str(path)).stat().st_size
        except (ValueError, TypeError):
            raise BuildError(f"a file of the plan must be a path and a size, got {entry!r:.80}") from None
        except OSError as error:
            return f"{path}: {error.strerror}"
        if found != size:
            return f"{path} has {found:,} bytes, it was planned with {size:,}"
    return ""
