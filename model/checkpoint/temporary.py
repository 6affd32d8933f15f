"""New files and folders under a temporary name beside their own, until they are whole."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

TEMPORARY = ".tmp-"


@contextlib.contextmanager
def temporary_for(final: Path, folder: bool = False) -> Iterator[Path]:
    """A new and empty file or folder for what is to become `final`. At the end it is removed, if it is still there.

    What writers of `final` that were killed left goes now: a living writer holds a lock on its own, which the system
    releases with the process.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    for found in final.parent.glob(f"{TEMPORARY}{glob.escape(final.name)}-*"):
        with contextlib.suppress(OSError), _opened(found) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(found)
    with contextlib.ExitStack() as stack:
        temporary, held = final, False
        while not held:
            temporary = final.with_name(f"{TEMPORARY}{final.name}-{uuid.uuid4().hex}")
            temporary.mkdir() if folder else temporary.touch(exist_ok=False)
            held = _hold(temporary, stack)
        stack.callback(_remove, temporary)
        yield temporary


def sync(path: Path) -> None:
    """Have the system write a file, or the names in a folder."""
    with _opened(path) as descriptor:
        os.fsync(descriptor)


def _hold(path: Path, stack: contextlib.ExitStack) -> bool:
    """Lock it until the stack ends. False: another process took it for an abandoned one, and removes it."""
    try:
        descriptor = stack.enter_context(_opened(path))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:
        return True  # no locks on this file system: nobody removes anything


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
