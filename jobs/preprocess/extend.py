"""`vlajepa extend`: a new build that holds a finished one and what its dataset has gained since.

`preprocess` makes the shards of the new episodes as a separate build inside the new folder. They are then joined to
those of the old one as `merge` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

from jobs.common.driver_lock import DriverLock
from jobs.preprocess.derived import finish, new_folder, start, summary
from jobs.preprocess.plan import build_settings, new_plan, read_index
from jobs.preprocess.settings import BuildConfig, ExtendConfig
from pipeline.derived.growth import IndexDiff, compare
from pipeline.derived.plan import FinishedBuild, Parent, join_plan, open_finished
from pipeline.errors import BuildError
from pipeline.format.build import Build, load_build
from pipeline.format.build_settings import BuildSettings
from pipeline.format.file_names import PLAN_FILE, WORK_FOLDER
from pipeline.planning.fingerprint import setting_differences
from pipeline.planning.plan import Plan, read_plan, write_plan
from pipeline.storage.store import LocalStore

NEW = f"{WORK_FOLDER}/new"
"""Folder of the build of the new episodes until it is joined."""

SHOWN = 12

MakeBuild = Callable[[BuildConfig], object]


def run(settings: ExtendConfig) -> Build | None:
    return extend(settings)


def preprocess_new(settings: BuildConfig) -> None:
    """Make the build of the new episodes on the cluster."""
    from jobs.preprocess.preprocess import preprocess  # loads Ray

    preprocess(settings)


def extend(settings: ExtendConfig, make: MakeBuild = preprocess_new) -> Build | None:
    """Make the build of old and new episodes, or finish one that was interrupted. None when there is nothing new.

    Args:
        make: makes the build of the new episodes, or finishes it; its plan is there already.

    Raises:
        BuildError: the settings are not those of the old build, or `out` holds something else.
    """
    store = new_folder(settings.out, [settings.build])
    old = open_finished(settings.build.expanduser().resolve())
    requested = build_settings(settings)
    _check_settings(old, requested)
    work = LocalStore(store.root / NEW)
    added = read_plan(work) if PLAN_FILE in work.sizes() else _plan_new(old, settings, requested)
    if added is None:
        print(f"{old.path} holds every episode of the source already: nothing to do, nothing written")
        return None
    plan = join_plan("extend", [old, Parent(added, work.where, {})])
    with DriverLock(store) as lock:
        if start(plan, store):
            return load_build(store.root)
        if PLAN_FILE not in work.sizes():
            write_plan(added, work)
        print(f"the new episodes are made in {work.where} first")
        values = {field.name: getattr(settings, field.name) for field in fields(BuildConfig)}
        make(BuildConfig(**values | {"out": work.root}))
        for name in [name for name in work.sizes() if name.startswith("logs/preprocess-")]:
            store.write(name, work.read(name))
        build, made = finish(plan, store, [old, open_finished(work.root)], settings.link, lock.check)
    print(summary(build, made))
    return build


def _check_settings(old: FinishedBuild, requested: BuildSettings) -> None:
    differences = setting_differences(old.plan.content, requested.content)
    if differences:
        shown = "\n".join(f"  {line}" for line in differences[:SHOWN])
        raise BuildError(
            f"{old.path} can be extended with the settings it was made with alone; build -> requested:\n{shown}\n"
            "give the same settings, or make a build of all episodes with vlajepa preprocess"
        )


def _plan_new(old: FinishedBuild, settings: ExtendConfig, requested: BuildSettings) -> Plan | None:
    """The plan of the episodes that the old one does not know; None without any."""
    growth = compare(old.plan, old.ledger, read_index(settings), settings.splits)
    print(_describe(old.path, growth, settings.limit is None))
    if not growth.index.refs:
        return None
    return new_plan(settings, requested, growth.index)


def _describe(path: Path, growth: IndexDiff, whole: bool) -> str:
    """What the source holds besides the build. whole: no limit was set, so what the index lacks is really gone."""
    lines = [f"{path}: {len(growth.index.refs):,} episodes of the source are new"]
    if whole and growth.vanished:
        lines.append(f"  {_some(growth.vanished)} vanished from the source; their samples stay")
    if growth.changed:
        lines.append(f"  {_some(growth.changed)} changed in the source; their samples stay as they were made")
    return "\n".join(lines)


def _some(episodes: Sequence[str]) -> str:
    more = ", …" if len(episodes) > 3 else ""
    return f"{len(episodes):,} episodes ({', '.join(episodes[:3])}{more})"
