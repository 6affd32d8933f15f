"""`vlajepa merge`: one build of several that were made in parts, by several teams or on several clusters."""

from __future__ import annotations

from jobs.common.driver_lock import DriverLock
from jobs.preprocess.derived import finish, new_folder, start, summary
from jobs.preprocess.settings import MergeConfig
from pipeline.derived.plan import join_plan, open_finished
from pipeline.format.build import Build, load_build


def run(settings: MergeConfig) -> Build:
    return merge(settings)


def merge(settings: MergeConfig) -> Build:
    """Make the build that holds the shards of all parts, or finish one that was interrupted. Raises BuildError if the
    parts differ in their settings or share an episode, or `out` holds something else."""
    store = new_folder(settings.out, settings.builds)
    parts = [open_finished(path.expanduser().resolve()) for path in settings.builds]
    plan = join_plan("merge", parts)
    with DriverLock(store) as lock:
        if start(plan, store):
            return load_build(store.root)
        build, made = finish(plan, store, parts, settings.link, lock.check)
    print(summary(build, made))
    return build
