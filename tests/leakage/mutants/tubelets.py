"""Leaky shards of encoder mode `tubelet`, whose windows refer to latents that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.leakage.mutants.mutant import Mutant
from tests.leakage.tools import ARROW, LATENTS, edit_latents, edit_targets
from tests.pipeline.audit.tiny_build import TUBELET, TUBELET_INT8, rehash
from tests.pipeline.audit.tiny_targets import read_targets


def context_of_a_later_tubelet(build: Path) -> None:
    """The context of row 1 (now=1) is that of now=3: the latent of its own first step."""
    edit_targets(build, lambda c: c["context_row"].__setitem__(1, c["context_row"][3]))


def reference_moved_one_tubelet_later(build: Path) -> None:
    edit_targets(build, lambda c: c["latent_rows"].__setitem__((1, 0), c["latent_rows"][2, 0]))


def reference_to_an_earlier_tubelet(build: Path) -> None:
    edit_targets(build, lambda c: c["latent_rows"].__setitem__((1, 0), c["latent_rows"][0, 0]))


def reference_of_a_masked_step(build: Path) -> None:
    """Row 6 has its second step masked. Its mask stays False."""
    edit_targets(build, lambda c: c["latent_rows"].__setitem__((6, 1), 0))


def reference_past_the_end(build: Path) -> None:
    edit_targets(build, lambda c: c["latent_rows"].__setitem__((1, 0), 4096), repair=False)
    rehash(build)


def row_of_another_episode(build: Path) -> None:
    edit_latents(build, lambda c: c["episode"].__setitem__(0, "ep_b"))


def unreferenced_row(build: Path) -> None:
    """A latent of a frame that no window ends at."""
    edit_latents(build, lambda c: _append(c, 0, 12 + 7))


def tubelet_stored_twice(build: Path) -> None:
    """The last window refers to the second of two rows of one tubelet, whose latents may then differ."""
    columns, _ = read_targets(build / ARROW)
    place = int(columns["context_row"][8])
    frame = int(read_targets(build / LATENTS)[0]["frame"][place])
    edit_latents(build, lambda c: _append(c, place, frame))
    last = len(read_targets(build / LATENTS)[0]["frame"]) - 1
    edit_targets(build, lambda c: c["context_row"].__setitem__(8, last))


def _append(columns: dict[str, Any], copied: int, frame: int) -> None:
    columns["episode"].append(columns["episode"][copied])
    columns["frame"] = np.append(columns["frame"], np.int32(frame))
    for name in ("latent", "scale"):
        if name in columns:
            columns[name] = np.concatenate([columns[name], columns[name][copied : copied + 1]])


def extra_column_of_latents(build: Path) -> None:
    edit_latents(build, lambda c: c.update(hint=np.ones(len(c["frame"]), np.int32)))


def latents_of_another_shard(build: Path) -> None:
    (build / LATENTS).write_bytes((build / LATENTS.replace("000000", "000001")).read_bytes())
    rehash(build)


def missing_latents_file(build: Path) -> None:
    (build / LATENTS).unlink()


def changed_latents_file(build: Path) -> None:
    data = bytearray((build / LATENTS).read_bytes())
    data[len(data) // 2] ^= 1
    (build / LATENTS).write_bytes(data)


def nan_in_a_shared_latent(build: Path) -> None:
    edit_latents(build, lambda c: c["latent"].__setitem__((3, 0, 0, 0), np.nan))


def scale_of_a_shared_latent(build: Path) -> None:
    """A token of zeros that keeps its scale."""
    edit_latents(build, lambda c: c["latent"].__setitem__((3, 0, 0), 0))


MUTANTS = (
    Mutant(
        context_of_a_later_tubelet,
        "L2",
        "shards",
        "step 0 refers to the tubelet that ends at frame 3, its own",
        TUBELET,
    ),
    Mutant(
        reference_moved_one_tubelet_later, "L2", "shards", "step 1 refers to the tubelet that ends at frame 6", TUBELET
    ),
    Mutant(
        reference_to_an_earlier_tubelet,
        "L7",
        "shards",
        "step 1 refers to the tubelet of ep_a that ends at frame 4",
        TUBELET,
    ),
    Mutant(reference_of_a_masked_step, "L8", "shards", "a masked step refers to a latent", TUBELET),
    Mutant(reference_past_the_end, "L7", "shards", "in the latents file", TUBELET),
    Mutant(row_of_another_episode, "L7", "shards", "refers to the tubelet of ep_b", TUBELET),
    Mutant(unreferenced_row, "L10", "shards", "is used by no sample", TUBELET),
    Mutant(tubelet_stored_twice, "L10", "shards", "appears 2 times", TUBELET),
    Mutant(extra_column_of_latents, "L10", "shards", "the format does not know: hint", TUBELET),
    Mutant(latents_of_another_shard, "L7", "shards", "schema metadata shard", TUBELET),
    Mutant(missing_latents_file, "L7", "shards", "latents-000000.arrow listed in build.json, but missing", TUBELET),
    Mutant(changed_latents_file, "L7", "shards", "latents-000000.arrow has SHA-256", TUBELET),
    Mutant(nan_in_a_shared_latent, "L7", "shards", "holds NaN", TUBELET),
    Mutant(scale_of_a_shared_latent, "L10", "shards", "is not that of its token", TUBELET_INT8),
)
