"""Where a build folder is stored: on this machine, on a shared file system, or at a URL.

Each file of a build appears whole or not at all, and counts only once a record lists it (`building/records.py`, and
`build.json` at the end), so no operation has to be atomic over several files.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from pipeline.errors import BuildError
from pipeline.format.file_names import LOCK_FOLDER, WORK_FOLDER
from pipeline.format.schema import SPLITS
from pipeline.storage.atomic import TEMPORARY_PREFIX, atomic_file, atomic_stream, remove_temporary_files
from pipeline.storage.full_disk import naming_folder
from pipeline.storage.object_store import open_object_store

_WRITTEN = (*SPLITS, WORK_FOLDER, LOCK_FOLDER, "logs", "audit", "checkpoints")
"""Folders of a build or a run in which files are written. Others of the same place are not looked into: `out` may be
one that holds other runs."""

_SWEPT = 20
"""Attempts to make a lock whose temporary folder another process removes."""


class Store(Protocol):
    """A build folder. Names are paths relative to it, with `/`. Small enough to send to every worker.

    Every method raises BuildError when a remote store cannot be reached or a disk is full, OSError when a local one
    cannot be used.
    """

    @property
    def where(self) -> str:
        """The folder or URL, for people."""
        ...

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """A local path to write a file at; when the block ends well, the file appears under its name, whole."""
        ...

    def streaming(self, name: str) -> AbstractContextManager[IO[bytes]]:
        """A large file, to be written from its beginning to its end. When the block ends well, it appears under its
        name, whole; else there is none. A remote store sends it meanwhile and keeps a few parts in memory."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a small file; it replaces an older one at once."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a small file unless there is one of this name: False then. Of several writers, one gets True.

        The file must be alone in its folder, as in `lock/1/driver.json`, and the data unique to the writer (a random id
        in it), so that a writer whose response was lost recognises its own file.
        """
        ...

    def read(self, name: str) -> bytes:
        """Content of a small file. Raises FileNotFoundError."""
        ...

    def reading(self, name: str) -> AbstractContextManager[Path]:
        """A local path with the content of a file. Raises FileNotFoundError."""
        ...

    def folder(self, name: str) -> AbstractContextManager[Path]:
        """A local folder with the files below a folder, to be read; empty if there is none."""
        ...

    def sizes(self) -> dict[str, int]:
        """Every file by name with its size in bytes, temporary ones left out; none if there is no such folder."""
        ...

    def names(self, name: str) -> list[str]:
        """Names of the files and folders in a folder, temporary ones left out; none if there is no such folder."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that is in it. It may be gone already."""
        ...

    def tidy(self) -> None:
        """Remove what writers that were killed left behind."""
        ...


def is_remote(path: str) -> bool:
    """Whether a path is a URL. A URL that went through `pathlib.Path` has lost a slash and is none any more."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path) is not None


def open_store(out: Path | str) -> Store:
    """The store of a folder or a URL. Nothing is created yet."""
    if is_remote(str(out)):
        return open_object_store(str(out))
    return LocalStore(Path(out).expanduser().resolve())


@dataclass(frozen=True)
class LocalStore:
    """A folder. Only rename is relied on to be atomic, so a shared file system (NFS, Lustre) serves as well."""

    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        with self._naming_full_disk(), atomic_file(self.root / name) as temporary:
            yield temporary

    @contextlib.contextmanager
    def streaming(self, name: str) -> Iterator[IO[bytes]]:
        with self._naming_full_disk(), atomic_stream(self.root / name) as file:
            yield file

    def write(self, name: str, data: bytes) -> None:
        with self.writing(name) as temporary:
            temporary.write_bytes(data)

    def create(self, name: str, data: bytes) -> bool:
        """A folder with the file in it is made under another name, and renamed: that fails where one with a file is."""
        path = self.root / name
        for _ in range(_SWEPT):
            path.parent.parent.mkdir(parents=True, exist_ok=True)  # who releases the last lock removes it
            try:
                with self._naming_full_disk():
                    _rename_into_place(path, data)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT):
                    raise
            # What renamed it may be this very process: NFS sends a rename again whose answer was lost, and then says
            # that there is nothing to rename, or that something is there already.
            with contextlib.suppress(FileNotFoundError):
                return path.read_bytes() == data
        raise BuildError(f"{path} cannot be made: another process keeps tidying up {self.root}; end it, and try again")

    def read(self, name: str) -> bytes:
        path = self.root / name
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe would be waited for
                raise BuildError(f"{path} is no file; remove it")
            return file.read()

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[Path]:
        path = self.root / name
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        yield path

    @contextlib.contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        yield self.root / name

    def sizes(self) -> dict[str, int]:
        found = {}
        for folder, folders, names in os.walk(self.root):
            folders[:] = [name for name in folders if not name.startswith(TEMPORARY_PREFIX)]
            for name in names:
                if not name.startswith(TEMPORARY_PREFIX):
                    path = Path(folder) / name
                    with contextlib.suppress(FileNotFoundError):  # gone since
                        found[path.relative_to(self.root).as_posix()] = path.lstat().st_size
        return found

    def names(self, name: str) -> list[str]:
        try:
            return [other for other in os.listdir(self.root / name) if not other.startswith(TEMPORARY_PREFIX)]
        except FileNotFoundError:
            return []

    def remove(self, name: str) -> None:
        path = self.root / name
        if path.is_dir():
            _remove_folder(path)
        else:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # is not empty, or gone
            if path.parent != self.root:
                path.parent.rmdir()

    def tidy(self) -> None:
        remove_temporary_files(self.root, _WRITTEN)

    def _naming_full_disk(self) -> AbstractContextManager[None]:
        return naming_folder(self.root, "free space there, then run the same command again: what is finished stays")


def _rename_into_place(path: Path, data: bytes) -> None:
    """Raises OSError ENOTEMPTY or EEXIST if the file's folder holds one already, ENOENT if another tidied up here."""
    temporary = path.parent.with_name(f"{TEMPORARY_PREFIX}{path.parent.name}-{uuid.uuid4().hex}")
    temporary.mkdir()
    try:
        (temporary / path.name).write_bytes(data)
        os.rename(temporary, path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _remove_folder(path: Path) -> None:
    """Rename a folder and remove it, so that nobody sees a part of it, or loses what is made there meanwhile. It may be
    gone already. Raises OSError when it cannot be removed."""
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, temporary)
    while temporary.exists():
        with contextlib.suppress(FileNotFoundError):  # another tidies up here
            shutil.rmtree(temporary)
