"""Addresses and secrets."""

from __future__ import annotations

from pipeline.errors import SettingsError


def refuse_credentials(url: str, what: str) -> None:
    """A URL with a name and password, or an https:// URL with a query (as a signed one), would end up in logs, records
    and reports.

    Args:
        what: the setting, for the message, which repeats nothing of the URL but its scheme.

    Raises:
        SettingsError: this is such a URL.
    """
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    if "@" not in host and not (scheme.lower() in ("http", "https") and "?" in rest):
        return
    raise SettingsError(
        f"{what} is a URL with credentials in it, which would end up in logs; set AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY or AWS_PROFILE (gs://: GOOGLE_APPLICATION_CREDENTIALS), and write "
        f"{scheme}://{'host' if scheme.lower() in ('http', 'https') else 'bucket'}/folder"
    )
