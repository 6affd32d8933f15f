"""Pushing to the Hugging Face Hub, by its own client and the protocol of git LFS.

Files go in commits of some, the small ones that make the whole readable in the last. Files that are there with the same
hash are not sent again, and of a commit that was cut off the Hub keeps the large files that had arrived. The client's
other protocol (xet) reads files by itself; it is not used, so that what is sent is hashed as it is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from logging import CRITICAL, getLogger
from typing import Any

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
    logging,
)

from jobs.common.progress import progress_bar
from jobs.sharing.contents import Contents, Pushed, SentFile
from jobs.sharing.hashed_file import HashedFile
from jobs.sharing.hub_address import HubAddress
from jobs.sharing.refusals import require_own
from pipeline.errors import BuildError, RunError, SettingsError
from pipeline.format.text.printable import printable

FILES, BYTES = 100, 20 * 2**30
"""Of one commit, at most; one file may be larger."""

_HTTP_LOGGERS = ("httpx", "httpx2", "httpcore", "httpcore2")
_MADE_BY_THE_HUB = (".gitattributes",)
_LONGEST = 500
"""Characters of a message of the Hub."""


def push_to_hub(contents: Contents, address: HubAddress, private: bool) -> Pushed:
    """Make the repository unless it is there, and send what is not there already.

    Raises:
        SettingsError: nobody is logged in.
        BuildError: the Hub refuses, cannot be reached, or the repository holds something else.
        CorruptError: a file is not what was listed.
    """
    if get_token() is None:
        raise SettingsError(
            "the Hugging Face Hub asks who you are: put a token that may write into HF_TOKEN, or run `hf auth login`"
        )
    with _own_words(address), _quiet():
        return _Repository(address).push(contents, private)


class _Repository:
    def __init__(self, address: HubAddress) -> None:
        self._address = address
        self._api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None)
        self._place: dict[str, Any] = {"repo_id": address.repo, "repo_type": address.kind}

    def push(self, contents: Contents, private: bool) -> Pushed:
        self._api.create_repo(**self._place, private=private, exist_ok=True)
        there, where = self._files(), self._address.text
        identity = contents.identity
        same = identity.name not in there or _is_there(identity, there)
        require_own(contents, set(there), same, where, _MADE_BY_THE_HUB)
        kept = {file.name for file in contents.files if _is_there(file, there)}
        missing = [file for file in contents.large if file.name not in kept]
        with progress_bar(
            total=sum(file.size for file in missing), unit="B", unit_scale=True, unit_divisor=1024, desc=f"push {where}"
        ) as bar:
            for number, batch in enumerate(_batches(missing), 1):
                self._commit(batch, [], f"{contents.title}, part {number}")
                bar.update(sum(file.size for file in batch))
        last = [file for file in contents.last if file.name not in kept]
        outdated = contents.outdated(set(there))
        if last or outdated:
            self._commit(last, outdated, contents.title)
        self._require_arrived(contents)
        sent = tuple(file.name for file in (*missing, *last))
        return Pushed(where, sent, tuple(sorted(kept)))

    def _files(self) -> dict[str, RepoFile]:
        tree = self._api.list_repo_tree(**self._place, recursive=True)
        return {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}

    def _commit(self, files: Sequence[SentFile], removed: Sequence[str], message: str) -> None:
        with contextlib.ExitStack() as opened:
            contents: list[tuple[str, Any]] = [(file.name, opened.enter_context(HashedFile(file))) for file in files]
            operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in removed]
            operations += [CommitOperationAdd(path_in_repo=name, path_or_fileobj=content) for name, content in contents]
            self._api.create_commit(**self._place, operations=operations, commit_message=message)

    def _require_arrived(self, contents: Contents) -> None:
        """A file that the repository's .gitignore names, for one, is left out of a commit without a word."""
        there = self._files()
        missing = [file.name for file in contents.files if not _is_there(file, there)]
        if missing:
            raise BuildError(
                f"{self._address.text}: {len(missing)} files are not there as they were sent, as {missing[0]}; look "
                "for .gitignore in the repository and for who else writes to it, and push again"
            )


def _is_there(file: SentFile, there: dict[str, RepoFile]) -> bool:
    found = there.get(file.name)
    if found is None or found.size != file.size:
        return False
    if found.lfs is not None:
        return bool(found.lfs.sha256 == file.sha256)
    with HashedFile(file) as content:
        blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        blob.update(content.read())
    return bool(found.blob_id == blob.hexdigest())


def _batches(files: Sequence[SentFile]) -> Iterator[list[SentFile]]:
    batch: list[SentFile] = []
    for file in files:
        if batch and (len(batch) == FILES or sum(one.size for one in batch) + file.size > BYTES):
            yield batch
            batch = []
        batch.append(file)
    if batch:
        yield batch


@contextlib.contextmanager
def _own_words(address: HubAddress) -> Iterator[None]:
    """What the client raises as one message, without the token and without the queries of signed addresses."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:  # of the client, of its HTTP library, of the network
        own = next((cause for cause in _causes(error) if isinstance(cause, RunError)), None)
        if own is not None:
            raise own from None
        raise BuildError(
            f"{address.text}: {_safe(error)}; check the name, the token's right to write (HF_TOKEN) and the network, "
            "and push again: what has arrived is not sent again"
        ) from None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _safe(error: Exception) -> str:
    """What was asked for and what went wrong at the bottom of it."""
    causes = [f"{type(cause).__name__}: {cause}" for cause in _causes(error) if str(cause)] or [repr(error)]
    text = re.sub(r"\?[^\s'\"]*", "", " ".join(": ".join(dict.fromkeys((causes[0], causes[-1]))).split()))
    token = get_token()
    return printable(text.replace(token, "…") if token else text)[:_LONGEST]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The client's warnings name signed addresses, and that xet is not used; so do the lines that its HTTP library logs
    for every request. Its bars stand beside ours."""
    level, bars = logging.get_verbosity(), not are_progress_bars_disabled()
    logging.set_verbosity(logging.CRITICAL)
    loggers = {logger: logger.level for logger in map(getLogger, _HTTP_LOGGERS)}
    for logger in loggers:
        logger.setLevel(CRITICAL)
    disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        for logger, before in loggers.items():
            logger.setLevel(before)
        if bars:
            enable_progress_bars()
