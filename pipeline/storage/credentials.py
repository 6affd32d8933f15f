"""Addresses and secrets."""

from __future__ import annotations

from pipeline.errors import SettingsError

_WEB = {
    "http": "put them where the server's proxy asks for none, or copy the folder",
    "ws": "set VLAJEPA_API_KEY",
}
_WEB |= {f"{scheme}s": fix for scheme, fix in _WEB.items()}
_BUCKET = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE (gs://: GOOGLE_APPLICATION_CREDENTIALS), and write "
    "{scheme}://bucket/folder"
)


def refuse_credentials(url: str, what: str) -> None:
    """A URL with a name and password, or one of a web server with a query (as a signed one), would end up in logs,
    records and reports.

    Args:
        what: the setting, for the message, which repeats nothing of the URL but its scheme.

    Raises:
        SettingsError: this is such a URL.
    """
    scheme, _, rest = url.partition("://")
    kind = scheme.lower()
    if "@" in rest.partition("/")[0] or (kind in _WEB and "?" in rest):
        fix = _WEB.get(kind, _BUCKET.format(scheme=scheme))
        raise SettingsError(f"{what} is a URL with credentials in it, which would end up in logs; {fix}")
