"""Before a build is made on several nodes: whether each reaches the raw data and the build."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from jobs.cluster.nodes import require_reach
from pipeline.errors import EpisodeError
from pipeline.format.file_names import WORK_FOLDER
from pipeline.sources.base import EpisodeRef, Source
from pipeline.sources.files import check_files
from pipeline.storage.store import Store

DRIVERS_FILE = f"{WORK_FOLDER}/reach"

TRIED = 3
"""Episodes of which a node has to find one: a few may be missing, which the run notes in its ledger."""


def require_data(store: Store, source: Source, refs: Sequence[EpisodeRef]) -> None:
    """Print the nodes, and let each write and read a file of the build and look up raw files.

    Raises:
        RunError: a node cannot, or does not answer; the message names it, and what to do.
    """
    require_reach(store, DRIVERS_FILE, partial(missing_data, source, tuple(refs[:TRIED])))


def missing_data(source: Source, refs: Sequence[EpisodeRef]) -> str:
    """What keeps this process from the raw data; "" if nothing does."""
    missing = [problem for ref in refs if (problem := _missing(source, ref))]
    if refs and len(missing) == len(refs):
        return f"the raw data is out of reach: {missing[0]}; mount it under the same path on every node"
    return ""


def _missing(source: Source, ref: EpisodeRef) -> str:
    try:
        check_files(source.root, ref)
    except EpisodeError as error:
        return error.detail if error.reason == "missing-file" else ""
    return ""
