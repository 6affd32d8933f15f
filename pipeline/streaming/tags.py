"""What was verified once is recognised quickly: a keyed hash of each sample, kept on this node.

When a sample's bytes have the SHA-256 of the audited manifest, their GMAC (NIST SP 800-38D) under a secret random key
is kept; the nonce is the sample's number and half. Bytes that are read later and have the same tag are those bytes: who
cannot read the key cannot make others that do. Nothing else is trusted, no time stamp and no size.

    bytes 0-7 "VLJTAG02", 8-23 the key, 24-31 zeros, then for each sample of the split 16 bytes for its inputs and 16
    for its targets; zeros: not verified yet

All processes of a user on a node share the file. Two that write the same tag write the same bytes; a tag that is read
half-written fits nothing, and the SHA-256 decides again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import secrets
import tempfile
import weakref
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pipeline.format.build import Build
from pipeline.format.file_names import SAMPLES
from pipeline.storage.own_folder import make_own_folder

_MAGIC = b"VLJTAG02"
_HEADER, _KEY, _TAG = 32, 16, 16
_UNKNOWN = bytes(_TAG)


class Part(IntEnum):
    """The halves of a sample."""

    INPUTS = 0
    TARGETS = 1


class Tags:
    """The tags of one split of a build.

    Args:
        folder: of this user on this node; None: tags of this process alone.

    Raises:
        SettingsError: the folder belongs to another user, or others may write to it.
    """

    def __init__(self, build: Build, split: str, folder: Path | None) -> None:
        self._descriptor = _temporary() if folder is None else _open(folder / _name(build, split))
        weakref.finalize(self, os.close, self._descriptor)
        self._key = algorithms.AES(os.pread(self._descriptor, _KEY, len(_MAGIC)))

    def of(self, part: Part, sample: int, content: Iterable[Any]) -> bytes:
        """The tag of a half of a sample, given as buffers that follow each other."""
        nonce = (2 * sample + part).to_bytes(12, "little")
        code = Cipher(self._key, modes.GCM(nonce)).encryptor()
        for piece in content:
            code.authenticate_additional_data(piece)
        code.finalize()
        return code.tag

    def knows(self, part: Part, sample: int, tag: bytes) -> bool:
        """Whether the sample's verified bytes had this tag."""
        return os.pread(self._descriptor, _TAG, _place(part, sample)) == tag != _UNKNOWN

    def keep(self, part: Part, sample: int, tag: bytes) -> None:
        """The bytes with this tag were verified. On a full disk it is forgotten: they are verified again."""
        with contextlib.suppress(OSError):
            os.pwrite(self._descriptor, tag, _place(part, sample))


def _place(part: Part, sample: int) -> int:
    return _HEADER + (2 * sample + part) * _TAG


def _name(build: Build, split: str) -> str:
    """By what the build's samples are, wherever it lies."""
    listed = build.manifest["files"][SAMPLES]["sha256"]
    return hashlib.sha256(f"{build.fingerprint} {listed} {split}".encode()).hexdigest()[:40]


def _open(path: Path) -> int:
    make_own_folder(path.parent)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            if os.fstat(descriptor).st_size == 0:
                _begin(descriptor)
            if os.pread(descriptor, len(_MAGIC), 0) == _MAGIC:
                return descriptor
            path.unlink(missing_ok=True)  # not ours, or half-written on a full disk
        except BaseException:
            os.close(descriptor)
            raise
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _temporary() -> int:
    with tempfile.TemporaryFile() as file:
        descriptor = os.dup(file.fileno())
    _begin(descriptor)
    return descriptor


def _begin(descriptor: int) -> None:
    os.pwrite(descriptor, (_MAGIC + secrets.token_bytes(_KEY)).ljust(_HEADER, b"\0"), 0)
