"""One error, which names the folder, for a local disk that cannot be written."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator
from pathlib import Path

from pipeline.errors import BuildError

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def naming_folder(folder: Path | str, fix: str, errors: Collection[int] | None = FULL) -> Iterator[None]:
    """Around code that writes below a folder.

    Args:
        fix: the end of the message.
        errors: error numbers that are reported so, by default those of a full disk; None: all. Others pass as they are.

    Raises:
        BuildError: the folder cannot be written.
    """
    try:
        yield
    except OSError as error:
        if errors is not None and error.errno not in errors:
            raise
        raise BuildError(f"{folder} cannot be written: {error.strerror or error}; {fix}") from error
