"""Files of a build, which may be anything: only regular files are read, no link is followed, and what the audit writes
never goes through one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter
from pathlib import Path

from pipeline.errors import BuildError

BUILD, TASKS, LEDGER = "build.json", "tasks.jsonl", "ledger.jsonl"

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""O_NONBLOCK: a named pipe must not make the audit wait for its writer."""

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

LARGEST = 4 * 2**30
"""Bytes of a file that is read as a whole. A file with a hole takes no room on the disk, but as much in memory."""

PATIENCE_S = 60.0
"""Seconds that `alone_in` waits for another process."""

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}")

_IN_THE_WAY = (errno.ENOTDIR, errno.ELOOP, errno.EISDIR, errno.EEXIST)
"""What the system says of a link or a folder where something else has to be; a full disk is no fault of the build."""


def leads_out(path: str) -> bool:
    """Whether a path that a build names leads out of the folder that it is relative to."""
    return os.path.isabs(path) or os.path.normpath(path).split(os.sep)[0] == os.pardir


def is_regular(path: Path) -> bool:
    """True for a regular file; links are not followed."""
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def read_regular(path: Path) -> bytes:
    """All bytes of a regular file. Raises BuildError when it is missing or something else (link, pipe, folder), or too
    large."""
    try:
        with _opened(path) as file:
            return _content(file, path)
    except OSError as error:
        raise BuildError(f"{path} is missing or not a regular file; an unfinished build cannot be audited") from error


def file_sha256(path: Path, follow: bool = False) -> str:
    """SHA-256 of a regular file as hexadecimal digits. Raises OSError when it cannot be read.

    Args:
        follow: it may be a link, as raw data may be; a file of a build may not.
    """
    with _opened(path, follow=follow) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_inside(root: Path, name: str) -> bytes | None:
    """A file below a build's folder; None if it is missing.

    Raises:
        BuildError: it is no regular file or too large, or it or a folder on the way to it is a link.
    """
    try:
        with _folder(root, name, make=False) as folder, _opened(Path(name).name, folder) as file:
            return _content(file, root / name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _not_ours(root, name, error) from error


def _content(file: BufferedReader, path: Path) -> bytes:
    size = os.fstat(file.fileno()).st_size
    if size > LARGEST:
        raise BuildError(
            f"{path} has {size:,} bytes, at most {LARGEST:,} are read of such a file; copy the build again"
        )
    return file.read()


def replace_whole(root: Path, name: str, data: bytes) -> Path:
    """Write a file below a build's folder whole or not at all. Returns its path.

    The folders on the way are made. No link is followed, and the temporary file has a random name and is new: in a
    hostile build a link in its place would have the audit write somewhere else. Those of audits that were killed go.

    Raises:
        BuildError: a folder on the way is a link or no folder.
    """
    path = Path(name)
    try:
        with _folder(root, name, make=True) as folder:
            _remove_abandoned(folder)
            file, temporary = _new_file(folder, path.name)
            try:
                with file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                    os.replace(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        raise _not_ours(root, name, error) from error
    return root / name


def _new_file(folder: int, name: str) -> tuple[BufferedWriter, str]:
    """A new temporary file for `name`, locked as long as it is open, and its own name."""
    while True:
        temporary = f".{name}.{secrets.token_hex(16)}"
        file = open(os.open(temporary, _NEW, 0o666, dir_fd=folder), "wb")  # noqa: SIM115  the caller closes it
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(file.fileno()).st_nlink:
                return file, temporary
        except BlockingIOError:
            pass  # another audit takes it for an abandoned one
        except OSError:
            return file, temporary  # no locks here: nobody removes anything
        file.close()


def _remove_abandoned(folder: int) -> None:
    """Remove temporary files that no process holds."""
    for found in filter(_TEMPORARY.fullmatch, os.listdir(folder)):
        with contextlib.suppress(OSError), _opened(found, folder) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.unlink(found, dir_fd=folder)


def remove_inside(root: Path, name: str) -> None:
    """Remove a file below a build's folder, if it is there. Raises BuildError as `replace_whole`."""
    try:
        with _folder(root, name, make=False) as folder:
            os.unlink(Path(name).name, dir_fd=folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_ours(root, name, error) from error


def names_inside(root: Path, folder: str) -> list[str]:
    """Names in a folder below a build's folder, sorted; none if it is missing. Raises BuildError as `replace_whole`."""
    try:
        with _folder(root, f"{folder}/name", make=False) as opened:
            return sorted(os.listdir(opened))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _not_ours(root, folder, error) from error


@contextlib.contextmanager
def alone_in(root: Path, name: str) -> Iterator[None]:
    """No other process is here with the same folder of a build meanwhile: two audits that end together would each
    decide by what the other one replaces. Where the file system has no locks nothing is held.

    Raises:
        BuildError: another one stays for `PATIENCE_S`, or as `replace_whole`.
    """
    try:
        with _folder(root, f"{name}/name", make=True) as folder:
            end = time.monotonic() + PATIENCE_S
            while not _held(folder):
                if time.monotonic() > end:
                    raise BuildError(f"{root / name} is locked by another process; end it, and try again")
                time.sleep(0.05)
            yield
    except OSError as error:
        if error.errno not in _IN_THE_WAY:
            raise
        raise _not_ours(root, name, error) from error


def _held(folder: int) -> bool:
    """Lock an open folder until it is closed. False if another process has it."""
    try:
        fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here
    return True


def _not_ours(root: Path, name: str, error: OSError) -> BuildError:
    return BuildError(
        f"{root / name} cannot be used: it, or a folder on the way to it, is a link or no regular file or folder "
        f"({error.strerror}); remove what is in its place"
    )


@contextlib.contextmanager
def _opened(path: Path | str, folder: int | None = None, follow: bool = False) -> Iterator[BufferedReader]:
    """A regular file. Raises OSError when it is missing or something else."""
    descriptor = os.open(path, _READ & ~os.O_NOFOLLOW if follow else _READ, dir_fd=folder)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a regular file")
        yield file


@contextlib.contextmanager
def _folder(root: Path, name: str, make: bool) -> Iterator[int]:
    """The folder of a file below `root`, opened step by step so that no link is followed."""
    with contextlib.ExitStack() as stack:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        folder = os.open(root, flags)  # the one place where the user may have put a link
        stack.callback(os.close, folder)
        for part in Path(name).parent.parts:
            if make:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
            folder = os.open(part, flags | os.O_NOFOLLOW, dir_fd=folder)
            stack.callback(os.close, folder)
        yield folder
