"""Raw data by its address: a path of this machine, or a URL of a bucket."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from pipeline.errors import SettingsError
from pipeline.storage.credentials import refuse_credentials
from pipeline.storage.object_store import open_object_store
from pipeline.storage.raw.bucket_path import BucketPath
from pipeline.storage.store import is_remote

SCHEMES = ("s3", "s3a", "gs", "gcs")
"""Stores whose folders can be listed. A web server's cannot."""

RawPath = Path | BucketPath

PATIENCE_S = 20.0
"""Seconds for a file system to say where a folder is."""


def raw_root(root: str | os.PathLike[str], setting: str) -> str:
    """The address of a dataset as readers take it: an absolute path, or a URL without a slash at its end.

    Args:
        setting: its name, for messages.

    Raises:
        SettingsError: another kind of URL, one without a bucket, or one with credentials, which the message leaves out.
    """
    text = os.fspath(root)
    if not is_remote(text):
        if lost := re.match(rf"({'|'.join(SCHEMES)}):/", text):
            raise SettingsError(f"{setting}={text} has lost a slash; write it as in {lost[1]}://bucket/folder")
        return _resolved(text, setting)
    scheme, _, rest = text.partition("://")
    bucket, _, folder = rest.partition("/")
    refuse_credentials(text, setting)
    if scheme.lower() not in SCHEMES or not bucket:
        raise SettingsError(
            f"{setting}={text} cannot be read in place: raw data is a folder, or s3://bucket/folder or "
            "gs://bucket/folder; download it and give the folder"
        )
    return f"{scheme}://{bucket}/{os.path.normpath(folder.strip('/'))}".removesuffix("/.")


def _resolved(text: str, setting: str) -> str:
    """In a thread that is left behind where a file system does not answer, as a mount whose server is gone."""
    found: list[str] = []

    def resolve() -> None:
        path = Path(text).expanduser().resolve()
        path.exists()
        found.append(str(path))

    thread = threading.Thread(target=resolve, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if not found and thread.is_alive():
        raise SettingsError(
            f"{setting}={text} does not answer for {PATIENCE_S:g} seconds, as a mount whose server is gone; look at it "
            "with ls and mount, and run the command again"
        )
    return found[0] if found else str(Path(text).absolute())


def raw_path(path: str | os.PathLike[str]) -> RawPath:
    """A file or folder of raw data. Raises BuildError if AWS_PROFILE is wrong."""
    if isinstance(path, Path) or not is_remote(os.fspath(path)):
        return Path(path)
    scheme, _, rest = os.fspath(path).partition("://")
    bucket, _, name = rest.partition("/")
    return BucketPath(open_object_store(f"{scheme}://{bucket}"), name.strip("/"))


def handle(path: str) -> str | BufferedReader:
    """What a library opens: the path, or an open file of a bucket, of which it reads what it needs."""
    return raw_path(path).open("rb") if is_remote(path) else path


@contextlib.contextmanager
def on_disk(path: str) -> Iterator[str]:
    """A path for libraries that open nothing else: the file itself, or a copy of an object.

    Raises:
        FileNotFoundError: there is none.
    """
    place = raw_path(path)
    if isinstance(place, Path):
        if not place.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        yield path
    else:
        with place.fetched() as copy:
            yield str(copy)
