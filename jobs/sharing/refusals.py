"""What no push writes into: a place that holds something else."""

from __future__ import annotations

from jobs.sharing.contents import Contents
from pipeline.errors import BuildError
from pipeline.format.text.printable import printable

SHOWN = 3
"""Files that a message names."""


def require_own(
    contents: Contents, there: set[str], same_identity: bool, where: str, ignored: tuple[str, ...] = ()
) -> None:
    """Refuse a place that holds another build or checkpoint, or files of anything else.

    Args:
        there: names of the files at the place.
        same_identity: whether the file that lists the others, if it is there, is the one that is pushed.
        ignored: files that may be there.

    Raises:
        BuildError: it does.
    """
    if not same_identity:
        raise BuildError(
            f"{where} holds another {contents.identity.name} than {printable(contents.what)}: something else was "
            "pushed there; name a place of its own, or empty that one first"
        )
    if foreign := contents.foreign(there, ignored):
        more = f" and {len(foreign) - SHOWN} more" if len(foreign) > SHOWN else ""
        names = ", ".join(printable(name) for name in foreign[:SHOWN])
        raise BuildError(
            f"{where} holds files that are not of {printable(contents.what)}: {names}{more}; name a place of its own, "
            "or remove them"
        )
