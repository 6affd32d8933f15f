"""DSSE envelopes as files: what is in one, before anybody's key has been tried on it."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import Any

from pipeline.errors import AuditRefusedError
from pipeline.format.json.strict_json import canonical, parse
from pipeline.format.text.printable import reason

_STANDARD = str.maketrans("-_", "+/")


MOST_SIGNATURES = 64


@dataclass(frozen=True)
class Envelope:
    """An envelope. `signatures` by their keyid: an unauthenticated hint, "" without one."""

    kind: str
    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    @property
    def signed(self) -> bytes:
        """What the signatures are of."""
        return pre_authentication_encoding(self.kind, self.payload)

    @property
    def signer(self) -> str:
        """The id of the key that claims to have signed; "" unless it looks like one of ours."""
        for name, signature in self.signatures:
            if re.fullmatch(r"[0-9a-f]{64}", name) and len(signature) == 64:
                return name
        return ""


def pre_authentication_encoding(payload_type: str, payload: bytes) -> bytes:
    """What is signed: type and payload with their lengths (DSSE protocol.md, "PAE")."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def read_envelope(data: bytes, where: object) -> Envelope:
    """The envelope in a file. Raises AuditRefusedError that names `where` when it holds none."""
    try:
        content = parse_finite(data)
        kind, payload = content["payloadType"], _decode(content["payload"])
        signatures = tuple((entry.get("keyid", ""), _decode(entry["sig"])) for entry in content["signatures"])
        if len(signatures) > MOST_SIGNATURES:
            raise ValueError(f"it has {len(signatures)} signatures, more than {MOST_SIGNATURES}")
        if not all(isinstance(text, str) for text in (kind, *(name for name, _ in signatures))):
            raise TypeError("payloadType and keyid must be strings")
        kind.encode()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{where} is no DSSE envelope ({reason(error)})"
        raise AuditRefusedError(f"{what}; sign the verdict again") from error
    return Envelope(kind, payload, signatures)


def parse_finite(data: bytes) -> Any:
    """JSON that can be written again: 1e999 would be read as infinity. Raises ValueError."""
    value = parse(data)
    canonical(value)
    return value


def _decode(text: str) -> bytes:
    """Base64 of either alphabet, as DSSE requires of readers."""
    return base64.b64decode(text.translate(_STANDARD), validate=True)
