"""obstore's clients of S3, Google Cloud Storage, HTTP(S) servers and local files: one a process and bucket.

Endpoint and credentials come from the environment: AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_PROFILE and so
on for s3://, GOOGLE_APPLICATION_CREDENTIALS for gs://. A request that receives nothing, or sends a part, for 60 seconds
is aborted; VLAJEPA_STORE_TIMEOUT=300 changes that.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import quote, unquote

from obstore.store import GCSStore, HTTPStore, LocalStore, S3Store

from pipeline.errors import BuildError, SettingsError
from pipeline.storage.aws_profile import read_profile
from pipeline.storage.credentials import refuse_credentials
from pipeline.storage.retry import Retry

_REQUEST_RETRIES = 2
"""Of one request, so that one bad answer does not undo a large file. `Retry` repeats the whole operation."""

_SHORTEST_S = 0.001
"""Before a request is repeated."""

_TIMEOUT = "VLAJEPA_STORE_TIMEOUT"
_LONGEST_S = 86_400
_SCHEMES = "s3://, gs://, https://, http:// or file:///"
_GOOGLE, _HTTP = ("gs", "gcs"), ("http", "https")
_clients: dict[tuple[Any, ...], Any] = {}


def is_s3(url: str) -> bool:
    """Whether a URL is one of S3."""
    return _split(url)[0] in ("s3", "s3a")


def key_of(url: str, name: str = "") -> str:
    """The name that the client of a URL has for a file below it. A URL of HTTP is written with escapes."""
    scheme, _, path = _split(url)
    return "/".join(part for part in (unquote(path) if scheme in _HTTP else path, name) if part)


def client_of(url: str, endpoint: str | None, region: str | None, retry: Retry | None = None) -> Any:
    """The obstore client of a URL's bucket or server.

    Args:
        endpoint: of S3, where it is not AWS's; with `region` it is what `s3_place` found.
        retry: how often a request is repeated, where the operation as a whole cannot be; None: it can.

    Raises:
        BuildError: no store has such a URL, AWS_PROFILE is wrong, or the process was forked from one with a client.
        SettingsError: VLAJEPA_STORE_TIMEOUT is no number.
    """
    scheme, host, _ = _split(url)
    key = (os.getpid(), scheme, host, endpoint, region, retry)
    if key not in _clients:
        # obstore would wait forever for threads that were not forked
        if any(pid != key[0] for pid, *_ in tuple(_clients)):
            raise BuildError(f"{url}: this process was forked from one that read a remote build; start it with spawn")
        _clients.setdefault(key, _make_client(url, endpoint, region, {} if retry is None else _repeated(retry)))
    return _clients[key]


def client_of_mark(url: str, name: str, endpoint: str | None, region: str | None) -> Any:
    """A client of S3 whose object "" is the mark of an empty folder: obstore has no names that end in `/`."""
    place = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    server = endpoint or f"https://s3.{place}.amazonaws.com"
    folder = f"{server}/{_split(url)[1]}/{quote(key_of(url, name.rstrip('/')))}"
    return _make_client(url, folder, region, {}, virtual_hosted_style_request=True)


def s3_place() -> tuple[str | None, str | None]:
    """Endpoint and region of S3, from the environment or the profile; None: AWS's own. Raises BuildError, and
    SettingsError for an endpoint with credentials in it."""
    profile = read_profile()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or profile.endpoint
    refuse_credentials(endpoint or "", "the endpoint of S3 (AWS_ENDPOINT_URL)")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or profile.region
    return endpoint or None, region or None


def _split(url: str) -> tuple[str, str, str]:
    """Scheme, host or bucket, and path."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    return scheme.lower(), host, path


def _repeated(retry: Retry) -> dict[str, Any]:
    """Requests repeated as `attempt` repeats operations, each of which repeats its requests a little."""
    first = max(retry.delay, _SHORTEST_S)
    backoff = {"init_backoff": timedelta(seconds=first), "max_backoff": timedelta(seconds=16 * first), "base": 2}
    return {"max_retries": 2 * retry.attempts, "backoff": backoff, "retry_timeout": timedelta(days=1)}


def _make_client(url: str, endpoint: str | None, region: str | None, repeated: Mapping[str, Any], **more: Any) -> Any:
    scheme, host, _ = _split(url)
    if not host and scheme != "file":
        raise BuildError(f"{url} names no bucket or server; write it as in s3://bucket/folder")
    options: dict[str, Any] = {
        "client_options": {
            "allow_http": True,
            "connect_timeout": timedelta(seconds=10),
            "read_timeout": timedelta(seconds=_silent_seconds()),
            "timeout": timedelta(days=365),  # by default a request ends after 30 seconds, however well it goes
        },
        "retry_config": {"max_retries": _REQUEST_RETRIES, **repeated},
    }
    if is_s3(url):
        own = asdict(read_profile()) | {"endpoint": endpoint, "region": region, "disable_bulk_delete": True, **more}
        config: Any = {key: value for key, value in own.items() if value is not None}
        return S3Store(host, config=config, **options)
    if scheme in _GOOGLE:
        return GCSStore(host, **options)
    if scheme in _HTTP:  # reading a file is one request, and `Retry` counts
        return HTTPStore.from_url(f"{scheme}://{host}", **options | {"retry_config": {"max_retries": 0}})
    if scheme == "file" and not host:
        return LocalStore()
    fix = "download it (`hf download`) and give the folder" if scheme == "hf" else f"use {_SCHEMES}"
    raise BuildError(f"{url} cannot be opened; {fix}")


def _silent_seconds() -> float:
    text = os.environ.get(_TIMEOUT, "60")
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= _LONGEST_S:  # NaN is not
        raise SettingsError(f"{_TIMEOUT} must be a number of seconds above 0 and at most {_LONGEST_S:,}, got {text!r}")
    return seconds
