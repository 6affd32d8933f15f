"""What a reduced type loses is measured once a shard, on its first block, and kept in the logs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from jobs.cluster.build_tasks.encoder_error import ERROR_FILE, error_line, noting_error
from pipeline.encoder.encoder import Encoder
from pipeline.storage.store import open_store
from tests.pipeline.encoder.test_encoder import TINY, make_block


def test_the_first_block_is_measured_and_all_are_encoded(tmp_path: Path) -> None:
    settings, store = replace(TINY, dtype="bfloat16"), open_store(tmp_path)
    assert error_line(store) == ""
    encoder = Encoder(settings, "cpu")
    encode = noting_error(encoder.encode, settings, "cpu", store)
    for seed in range(2):
        block = make_block(3, seed)
        assert encode(block)[0].tobytes() == encoder.encode(block)[0].tobytes()
        if seed == 0:
            found = json.loads(store.read(ERROR_FILE))
            store.write(ERROR_FILE, json.dumps(found | {"relative_error": 0.25}).encode())
    assert found["dtype"] == "bfloat16"
    assert 1e-3 < found["relative_error"] < 0.02
    assert error_line(store) == "  latents in bfloat16 differ from those in float32 by 25.00%"  # not measured again
