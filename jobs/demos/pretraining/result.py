"""What a policy did in the held-out cases, and what its latent actions hold: a file of each, made once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from jobs.common.policy.checkpoint_policy import CheckpointPolicy
from jobs.demos.demo import WORLD
from jobs.demos.pretraining.closed_loop import held_out_cases, run_policy
from jobs.demos.pretraining.commands import PIXELS, TRUTH, build, held_out
from jobs.demos.pretraining.conditions import Policy
from jobs.demos.pretraining.settings import DemoPretrainingConfig
from jobs.latent_probes.features import read_probed, read_truth
from jobs.latent_probes.probe_latents import score
from model.vla_jepa import VLAJEPA
from pipeline.errors import BuildError
from pipeline.format.build import load_build
from pipeline.format.json.strict_json import parse
from pipeline.format.json.typed_json import from_json
from pipeline.storage.atomic import write_atomic

FITTED = 1000
"""Train samples, at most, that probes are fitted on."""


@dataclass(frozen=True)
class PolicyResult:
    """A fine-tuned policy.

    successes         of each case, the two of a scene one after the other
    named_x, named_y  R^2 of the named thing's place, from the latent actions on held-out episodes
    action_loss       on held-out episodes
    """

    successes: tuple[bool, ...]
    named_x: float
    named_y: float
    action_loss: float


def result_path(settings: DemoPretrainingConfig, policy: Policy) -> Path:
    """File of a policy's result."""
    return settings.out / "results" / f"{policy.name}.json"


def make_result(settings: DemoPretrainingConfig, policy: Policy) -> None:
    """Evaluate a trained policy, unless that is done, and write its result."""
    path = result_path(settings, policy)
    if path.exists():
        return
    run = settings.out / "runs" / policy.name
    acting = CheckpointPolicy(run, "cpu")
    cases = held_out_cases(settings.world_seed, WORLD, settings.twins)
    successes = run_policy(acting, cases, PIXELS, WORLD)
    (numbers,) = json.loads((settings.out / held_out(policy.name)).read_bytes()).values()
    found = PolicyResult(tuple(successes), *_place(settings, acting.model), numbers["action"])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (json.dumps(asdict(found)) + "\n").encode())


def read_result(path: Path) -> PolicyResult | None:
    """None where there is none yet. Raises BuildError if the file is damaged."""
    if not path.exists():
        return None
    try:
        return from_json(PolicyResult, parse(path.read_bytes()), path.name)
    except ValueError as error:
        raise BuildError(f"{path} cannot be read: {error}; delete it, and the same command makes it again") from error


def _place(settings: DemoPretrainingConfig, model: VLAJEPA) -> tuple[float, float]:
    """R^2 of the named thing's x and y. Probes are fitted on episodes of pretraining, whatever the policy has seen."""
    episodes, facts, cpu = load_build(settings.out / build(None)), read_truth(settings.out / TRUTH), torch.device("cpu")
    fitted = read_probed(model, episodes, "train", FITTED, facts, cpu)
    held = read_probed(model, episodes, "val", 2 * settings.twins, facts, cpu)
    return score(fitted, held, "named_x"), score(fitted, held, "named_y")
