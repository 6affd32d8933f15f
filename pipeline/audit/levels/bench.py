"""What a process needs to take part in an audit, and how units of the audit get to it.

An audit is units of work (a shard, an episode, a film to compare) whose results can be pickled and come together in
the order of the units. One process does one after the other; a cluster's workers do several at a time. Nothing in a
result depends on which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol, TypeVar

from pipeline.audit.build import ClaimedBuild
from pipeline.audit.canonical.libraries import require_libraries
from pipeline.audit.duplicates.search import FilmComparison
from pipeline.audit.levels.options import DeepOptions, Tools
from pipeline.audit.parsers.shard import ShardRule
from pipeline.audit.raw.base import RawSource
from pipeline.audit.raw.registry import open_raw
from pipeline.audit.rederive.exactness import Exactness, find_exactness
from pipeline.audit.rederive.images import Facts
from pipeline.audit.rederive.reencode import EncoderClaim, read_claim, require_same_encoder
from pipeline.audit.rules.files import Hashes
from pipeline.audit.rules.rewritten import LIBRARIES, Rewritten
from pipeline.audit.rules.shards.members import Members
from pipeline.audit.rules.shards.statistics import Statistics
from pipeline.audit.rules.shards.targets import TargetValues
from pipeline.audit.rules.shards.tubelets import TubeletReferences
from pipeline.audit.selection.idle import IdleRule
from pipeline.audit.selection.left_out import ReasonTrial
from pipeline.audit.selection.windows import WindowRule
from pipeline.errors import BuildError, RunError
from pipeline.format.text.printable import reason

I = TypeVar("I")  # noqa: E741
R = TypeVar("R")


def shard_rules(build: ClaimedBuild, ahead: bool = False) -> tuple[ShardRule[Any], ...]:
    """The rules of level "shards"; each sees one shard at a time. `ahead`: see `Hashes`."""
    others = (Members, TargetValues, TubeletReferences, Rewritten, Statistics)
    return (Hashes(build, ahead), *(rule(build) for rule in others))


class Bench:
    """The build and what the units of a process share. What a level does not need is not made.

    Args:
        ahead: this process checks all shards, in order.

    Raises:
        BuildError: from level "shards" on, another pyarrow is installed than the build's.
    """

    def __init__(self, build: ClaimedBuild, level: str, deep: DeepOptions | None = None, ahead: bool = False) -> None:
        if level != "manifest":
            require_libraries(build, LIBRARIES)
        self.build, self._deep, self._ahead = build, deep, ahead

    @property
    def deep(self) -> DeepOptions:
        """Options of the levels that need them."""
        assert self._deep is not None, "levels source and perturb have options"
        return self._deep

    @cached_property
    def rules(self) -> tuple[ShardRule[Any], ...]:
        """Those of level "shards"."""
        return shard_rules(self.build, self._ahead)

    @cached_property
    def tools(self) -> Tools:
        """Loaded once."""
        return self.deep.tools()

    @cached_property
    def raw(self) -> RawSource:
        """The raw data; lists all its episodes. Raises RawError."""
        return open_raw(self.build.settings.get("source"), self.deep.root)

    @cached_property
    def claim(self) -> EncoderClaim:
        """The encoder that the build names. Raises BuildError."""
        return read_claim(self.build)

    @cached_property
    def exactness(self) -> Exactness:
        """What must be equal on this machine. Raises BuildError where that is less than the auditor asks for."""
        require_same_encoder(self.claim, self.tools.encoder)
        return find_exactness(self.build, self.tools.encoder, self.deep.inexact)

    @cached_property
    def facts(self) -> Facts:
        """How images are made. Raises BuildError."""
        build, inputs = self.build, self.build.settings.get("inputs")
        quality = inputs.get("jpeg_quality") if isinstance(inputs, dict) else None
        if type(quality) is not int or not 1 <= quality <= 100:
            raise BuildError(f"{build.root}/build.json: settings.inputs.jpeg_quality must be 1..100, found {quality!r}")
        windows = WindowRule.of(build), IdleRule.of(build)
        return Facts(build.views, build.sizes.image_size, quality, self.exactness.images, self.claim, windows)

    def require_facts(self) -> None:
        """Raise BuildError where the settings do not tell what `facts` needs, or `exactness` does."""
        self.facts  # noqa: B018

    @cached_property
    def films(self) -> FilmComparison:
        """Compares films of the raw data."""
        return FilmComparison(self.raw.readable_frames)

    @cached_property
    def reasons(self) -> ReasonTrial:
        """Tries reasons of the ledger."""
        return ReasonTrial(self.raw, self.build.views, WindowRule.of(self.build), IdleRule.of(self.build))

    def close(self) -> None:
        """End what works ahead."""
        for rule in self.__dict__.get("rules", ()):
            if isinstance(rule, Hashes):
                rule.close()


class Runner(Protocol):
    """Runs units."""

    def map(self, unit: Callable[[Bench, I], R], items: Iterable[I], /) -> Iterator[R]:
        """`unit` of a bench and each item, in the order of the items.

        Args:
            unit: a function of a module; it and what it returns can be pickled.

        Raises:
            BuildError, RunError: what a unit raised, or nothing is left to run it. There is no verdict then.
        """
        ...


class OneAfterTheOther:
    """Runs the units in this process."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def map(self, unit: Callable[[Bench, I], R], items: Iterable[I], /) -> Iterator[R]:
        """See `Runner.map`."""
        for item in items:
            yield unit(self._bench, item)


@contextmanager
def named(rule: Callable[..., object] | type, file: str) -> Iterator[None]:
    """A rule that raises an exception must never count as passed."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        name = f"{rule.__module__}.{getattr(rule, '__qualname__', rule)}"
        what = f"the audit rule {name} broke down on {file}: {reason(error)}"
        raise BuildError(f"{what}. There is no verdict on the build") from error
