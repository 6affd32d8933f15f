"""Licences by the short names that the Hub knows."""

from __future__ import annotations

KNOWN = ("apache-2.0", "mit", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc0-1.0", "bsd-3-clause")


def short_name(licence: str) -> str:
    """The short name of a licence as a manifest writes it ("CC BY 4.0"); "other" for what is not one of `KNOWN`."""
    name = "-".join(licence.lower().split())
    return name if name in KNOWN else "other"
