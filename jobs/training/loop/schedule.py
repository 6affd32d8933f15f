"""Learning rates and seeds as functions of the step."""

from __future__ import annotations

import hashlib
import math


def learning_rate(step: int, steps: int, warmup: int, peak: float, final: float) -> float:
    """Linear warm-up from peak / warmup to `peak` over `warmup` steps, then a cosine to `final` at step steps-1.

    It stays at `final` from there on.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - 1 - warmup))
    return final + (peak - final) * 0.5 * (1 + math.cos(math.pi * progress))


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Seed of the random numbers of one step (noise, dropout) on a rank: 63 bits of SHA-256 of "seed:step[:rank]"."""
    name = f"{seed}:{step}" + (f":{rank}" if rank else "")
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") >> 1
