"""Which errors of a store or the network are retried, and which are final: missing, or not allowed."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

from pipeline.errors import BuildError, RunError, SettingsError

_T = TypeVar("_T")


class DeniedError(BuildError):
    """The store denies access; without the right to list, S3 does so for a missing file too."""


@dataclass(frozen=True)
class Retry:
    """Attempts of an operation (1 or more), and seconds before the second one; the wait doubles each time.

    Half of each wait is random: thousands of workers that fail together must not come back together.

    obstore repeats a single request; it does not repeat a download that ends early or arrives damaged, nor a write that
    may have been received.
    """

    attempts: int = 6
    delay: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or self.delay < 0:
            raise SettingsError(f"attempts must be 1 or more and delay 0 or more, got {self.attempts} and {self.delay}")


def attempt(address: str, retry: Retry, action: Callable[[], _T]) -> _T:
    """The result of `action`, repeated while it fails in a way that may pass.

    Raises:
        FileNotFoundError: there is no such file.
        DeniedError: it is not allowed.
        BuildError: every attempt failed, or the store does not support it.
    """
    for failed in range(retry.attempts):
        if failed:
            time.sleep(retry.delay * 2 ** (failed - 1) * random.uniform(0.5, 1.0))
        try:
            return action()
        except RunError:
            raise
        except Exception as error:  # of obstore, of Python, or of a disk
            _raise_permanent(address, error)
            last = error
    raise BuildError(
        f"{address} cannot be read or written, tried {retry.attempts} times: {cause(last)}; check the network, the "
        "credentials, and the endpoint and region (AWS_ENDPOINT_URL, AWS_REGION for s3://)"
    ) from last


def cause(error: Exception) -> str:
    """One line, with the root cause: the last text that obstore quotes."""
    message, _, inside = str(error).partition("\n\nDebug source:")
    quoted = re.findall(r'"([^"\\]{4,80})"', inside)
    bottom = f" ({quoted[-1]})" if quoted and "status code" not in message else ""
    kind = "Timeout" if "TimedOut" in inside else type(error).__name__
    return f"{kind}: {' '.join(message.split())[:500]}{bottom}"


def _raise_permanent(address: str, error: Exception) -> None:
    found = re.search(r"status code: (\d+)", str(error))
    status = int(found[1]) if found else 0
    if isinstance(error, FileNotFoundError) or status == 410 or "<Code>NoSuchBucket</Code>" in str(error):
        raise FileNotFoundError(f"{address} does not exist ({cause(error)})") from error
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError, PermissionError)) or status in (401, 403):
        raise DeniedError(
            f"{address}: permission denied ({cause(error)}); check the credentials, their right to read or write, and "
            "the endpoint. Without the right to list a bucket, S3 answers the same for a file that does not exist"
        ) from error
    if isinstance(error, ValueError):
        raise BuildError(f"{address} cannot be opened: {cause(error)}; check the URL") from error
    if status in (405, 501):
        raise BuildError(
            f"{address}: {cause(error)}; from a web server a build is read, not written: use a bucket or a folder"
        ) from error
