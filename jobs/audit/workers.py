"""The audit on a Ray cluster: every worker opens the build for itself, and the pool hands it units.

A build at a URL is fetched by each worker shard by shard, as its units come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jobs.audit.remote_build import RemoteBuild, remote_build
from jobs.audit.settings import AuditConfig
from jobs.cluster.unit_pool import WorkerPlan, unit_pool
from pipeline.audit.build import open_build
from pipeline.audit.levels.bench import Bench, Runner
from pipeline.audit.verdicts.verdict import audit_versions
from pipeline.errors import BuildError
from pipeline.format.enums import AuditLevel
from pipeline.format.file_names import SAMPLES
from pipeline.storage.object_store import ObjectStore
from pipeline.storage.raw.places import raw_root


@contextlib.contextmanager
def on_ray(settings: AuditConfig, nonce: str, place: RemoteBuild | None) -> Iterator[Runner]:
    """Workers of the cluster that the settings name.

    Raises:
        RunError: there is no such cluster, or a worker cannot open what is to be audited.
    """
    recipe, encodes = recipe_of(settings, nonce, place), settings.level.includes(AuditLevel.SOURCE)
    with unit_pool(WorkerPlan(recipe.open, recipe.describe, encodes), settings.cluster) as pool:
        yield pool


def recipe_of(settings: AuditConfig, nonce: str, place: RemoteBuild | None) -> BenchRecipe:
    """What workers make their benches by. Raises BuildError when the build cannot be read."""
    root = Path(settings.build).resolve()
    settings = replace(settings, root=settings.root and raw_root(settings.root, "root"))
    build = open_build(root)
    store = None if place is None else place.store
    versions = tuple(audit_versions(settings.level.includes(AuditLevel.SOURCE)).items())
    return BenchRecipe(settings, nonce, root, store, build.sha256, build.tasks.sha256, versions)


@dataclass(frozen=True)
class BenchRecipe:
    """Makes the bench of a worker; can be pickled.

    root     folder of the build, where it is no bucket;  store: the bucket, which every worker reads with its own
             credentials
    build_sha256, tasks_sha256  of the files that the audit began with
    """

    settings: AuditConfig
    nonce: str
    root: Path
    store: ObjectStore | None
    build_sha256: str
    tasks_sha256: str
    versions: tuple[tuple[str, str], ...]

    @contextlib.contextmanager
    def open(self) -> Iterator[Bench]:
        """Raises BuildError when the worker sees another build, or has other libraries than who began the audit."""
        with contextlib.ExitStack() as stack:
            place = None
            if self.store is not None:
                place = stack.enter_context(remote_build(self.store.where, self.store, without=(SAMPLES,)))
                place.expect(())  # no other unit of this worker is known
            yield stack.enter_context(contextlib.closing(self._bench(place)))

    def _bench(self, place: RemoteBuild | None) -> Bench:
        root = self.root if place is None else place.root
        build = open_build(root, place)
        if (build.sha256, build.tasks.sha256) != (self.build_sha256, self.tasks_sha256):
            raise BuildError(f"{root} is another build on a worker, or was changed while it was audited")
        here = audit_versions(self.settings.level.includes(AuditLevel.SOURCE))
        for name, version in self.versions:
            if (found := here[name]) != version:
                raise BuildError(
                    f"a worker has {name} {found}, the audit was begun with {version}; install the same on all nodes"
                )
        settings = replace(self.settings, build=root)
        if not settings.level.includes(AuditLevel.SOURCE):
            return Bench(build, settings.level)
        from jobs.audit.options import deep_options  # loads torch, which the other levels do without

        return Bench(build, settings.level, deep_options(settings, self.nonce))

    def describe(self, bench: Bench) -> object:
        """What must be the same on all workers."""
        return bench.exactness if self.settings.level.includes(AuditLevel.SOURCE) else None
