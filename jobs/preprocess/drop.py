"""`vlajepa drop`: a new build without some episodes of a finished one, as for a takedown request."""

from __future__ import annotations

from jobs.common.driver_lock import DriverLock
from jobs.preprocess.derived import finish, new_folder, start, summary
from jobs.preprocess.settings import DropConfig
from pipeline.derived.plan import check_episode_list, drop_plan, open_finished
from pipeline.format.build import Build, load_build


def run(settings: DropConfig) -> Build:
    return drop(settings)


def drop(settings: DropConfig) -> Build:
    """Make the build without the episodes, or finish one that was interrupted. Raises BuildError if an episode is
    unknown or left out already, none would be left, or a folder cannot be used."""
    episodes = settings.all_episodes
    check_episode_list(episodes)
    store = new_folder(settings.out, [settings.build])
    old = open_finished(settings.build.expanduser().resolve())
    plan = drop_plan(old, frozenset(episodes), settings.reason)
    with DriverLock(store) as lock:
        if start(plan, store):
            return load_build(store.root)
        build, made = finish(plan, store, [old], settings.link, lock.check)
    before, after = (sum(c["samples"] for c in b.manifest["counts"].values()) for b in (old.build, build))
    print(f"dropped {len(episodes):,} episodes with {before - after:,} samples of {before:,}")
    print(summary(build, made))
    print(
        f"{old.path} still holds them, and so may caches, copies and checkpoints of runs that used it: remove these "
        "once the new build is audited"
    )
    return build
