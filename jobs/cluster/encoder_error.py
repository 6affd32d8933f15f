"""What the encoder's reduced type loses, in the build's logs/: written by an encoder, read by the driver's summary."""

from __future__ import annotations

import json
from typing import Any

from pipeline.building.shard_jobs import Encode
from pipeline.encoder.encoder_frames import FrameBlock
from pipeline.format.build_settings import EncoderSettings
from pipeline.storage.store import Store

ERROR_FILE = "logs/encoder_error.json"


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
    """One line for people; empty where nothing was measured."""
    if ERROR_FILE not in store.sizes():
        return ""
    found = json.loads(store.read(ERROR_FILE))
    return f"  latents in {found['dtype']} differ from those in float32 by {found['relative_error']:.2%}"
