"""What the encoder's reduced type loses, in the build's logs/: written by an encoder, read by the driver's summary."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pipeline.building.shard_jobs import Encode
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderSettings
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.format.text.printable import printable
from pipeline.storage.store import Store

ERROR_FILE = "logs/encoder_error.json"


@dataclass(frozen=True)
class _Measured:
    """The file."""

    dtype: str
    relative_error: float


def noting_error(encode: Encode, settings: EncoderSettings, device: str, store: Store) -> Encode:
    """`encode`, which after its first block writes |latents - exact| / |exact| of a few windows, exact in float32."""
    noted = False

    def encode_and_note(block: FrameBlock) -> Any:
        nonlocal noted
        latents, valid = encode(block)
        if not noted:
            from pipeline.encoder.precision import relative_error  # not at the top: decoding workers need no torch

            noted = True
            found = {"dtype": settings.dtype, "relative_error": relative_error(settings, device, block, latents)}
            store.write(ERROR_FILE, (json.dumps(found) + "\n").encode())
        return latents, valid

    return encode_and_note


def error_line(store: Store) -> str:
    """One line for people; empty where nothing was measured, or it cannot be read."""
    if ERROR_FILE not in store.sizes():
        return ""
    try:
        found = from_json(_Measured, parse(store.read(ERROR_FILE)))
    except ValueError:
        return ""
    return f"  latents in {printable(found.dtype)} differ from those in float32 by {found.relative_error:.2%}"
