"""What drop, merge and extend have in common: a new folder that is filled from finished builds, and committed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from jobs.common.progress import progress_bar
from pipeline.building.commit import clean_up, commit, describe_build
from pipeline.building.records import KINDS, find_records
from pipeline.derived.plan import FinishedBuild
from pipeline.derived.shards import SampleRows, make_shard, provenance_of, shard_copies
from pipeline.errors import BuildError, SettingsError
from pipeline.format.build import Build, load_build
from pipeline.format.file_names import PLAN_FILE
from pipeline.planning.plan import Plan, check_same_plan, read_plan, write_plan
from pipeline.storage.store import LocalStore, Store, is_remote


@dataclass(frozen=True)
class CopySummary:
    """Shards that this run linked and wrote, and how long it took."""

    linked: int
    written: int
    seconds: float


def new_folder(out: Path | str, builds: Sequence[Path]) -> LocalStore:
    """The store of a folder beside the builds it is made from; nothing is created yet. Raises SettingsError if a path
    is no local folder, or one of `out` and a build contains the other."""
    for path in (out, *builds):
        if is_remote(str(path)) or str(path).startswith(("s3:", "gs:", "gcs:", "http:", "https:")):
            raise SettingsError(f"{path} is no local folder; download the build first, and upload the new one")
    root = Path(out).expanduser().resolve()
    for path in builds:
        build = path.expanduser().resolve()
        if root == build or root in build.parents or build in root.parents:
            raise SettingsError(f"out={out} must lie beside {path}, not in it or around it: that build is left alone")
    return LocalStore(root)


def start(plan: Plan, store: LocalStore) -> bool:
    """Write the plan into an empty folder, or find it there. True when the build is finished already. Raises BuildError
    if the folder holds something else, or the plan of another build, or files would be written by another pyarrow than
    those of the build, so that the audit could not write them anew."""
    wanted, found = plan.content["versions"]["pyarrow"], version("pyarrow")
    if wanted != found:
        detail = f"the files of {plan.name} were written by pyarrow {wanted}, installed is {found}"
        raise BuildError(f"{store.where}: {detail}; the audit accepts one version a build: install pyarrow=={wanted}")
    sizes = store.sizes()
    if PLAN_FILE not in sizes:
        write_plan(plan, store)
        return False
    check_same_plan(read_plan(store), plan.content, store.where, plan.tasks)
    if "build.json" in sizes:
        tidy_finished(store)
        return True
    print("continuing what a killed run left there")
    store.tidy()
    return False


def tidy_finished(store: Store) -> None:
    """Do what the run that finished a build may have been killed before."""
    describe_build(store)
    clean_up(store)
    print(f"{store.where} is finished already")


def finish(
    plan: Plan, store: LocalStore, builds: Sequence[FinishedBuild], link: bool, check: Callable[[], None]
) -> tuple[Build, CopySummary]:
    """Make every shard that is not there yet, and commit. `check` raises when another driver has taken over."""
    started = time.monotonic()
    pieces = shard_copies(plan, builds)
    done = find_records(store, plan.tasks, plan.fingerprint)
    rows: dict[Path, SampleRows] = {}
    made = []
    total = sum(piece.bytes for piece in pieces)
    with progress_bar(total=total, unit="B", unit_scale=True, unit_divisor=1024, desc=store.where) as bar:
        for piece in pieces:
            check()
            if not all((piece.task.name, kind) in done for kind in KINDS):
                path = piece.finished.path
                if path not in rows:
                    rows = {path: SampleRows(path / "samples.parquet")}
                made.append(make_shard(piece, plan, store, rows[path].of(piece.task.split, piece.index), link))
            bar.update(piece.bytes)
    commit(plan, store, provenance_of(pieces), check)
    return load_build(store.root), CopySummary(made.count(True), made.count(False), time.monotonic() - started)


def summary(build: Build, made: CopySummary) -> str:
    """What was made, in a few lines."""
    lines = [f"build finished: {build.path} ({build.fingerprint[:16]})", *split_lines(build)]
    lines.append(f"  {made.linked:,} shards linked, {made.written:,} written, in {made.seconds:.1f} s")
    return "\n".join([*lines, f"next: vlajepa audit {build.path}"])


def split_lines(build: Build) -> list[str]:
    """Samples, episodes and shards of each split, for people."""
    return [
        f"  {split:6} {counts['samples']:,} samples, {counts['episodes']:,} episodes, {counts['shards']:,} shards"
        for split, counts in build.manifest["counts"].items()
    ]
