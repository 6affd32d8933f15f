"""Held-out numbers of one build, as `held_out.json` holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jobs.training.held_out.intervals import Interval


@dataclass(frozen=True)
class EpisodeErrors:
    """Mean L1 of the world model over an episode's samples and their future steps; `shuffled` with the latent actions
    of another episode, None where there is none."""

    model: float
    nothing_changes: float
    shuffled: float | None
    samples: int


@dataclass(frozen=True)
class Reliance:
    """Latent-action reliance over the pairs of one kind: the world model's L1 with exchanged latent actions, the mean
    over a sample's partners, over that with the own ones; 1 where they are not used.

    per_step, per_view  the same by future step and by view; None where no sample has it
    """

    all: Interval
    per_step: tuple[float | None, ...]
    per_view: tuple[float | None, ...]


@dataclass(frozen=True)
class HeldOut:
    """Mean L1 of the world model over future steps, the action loss, and what both depend on.

    nothing_changes  the last true latent repeated
    shuffled         with the latent actions of another episode; None where only one is held out
    per_step, per_step_nothing_changes  by future step; None where no sample has that step
    latent_action_reliance  by kind of pair, see `pairs.PairKind`; kinds that no sample has a partner of are left out
    two_alternative  share of samples whose rollout from z_0 lies nearer to their own future than to that of their twin,
                     which has the same picture and another instruction; None without twins; 0.5 by chance
    image_reliance   action loss with the images of another sample, over the action loss, by kind of pair: 1 where
                     actions do not depend on the images; empty for human video
    by_episode       errors by episode
    """

    model: float
    nothing_changes: float
    shuffled: float | None
    per_step: tuple[float | None, ...]
    per_step_nothing_changes: tuple[float | None, ...]
    latent_action_reliance: Mapping[str, Reliance]
    two_alternative: Interval | None
    action: float | None
    image_reliance: Mapping[str, Interval]
    samples: int
    episodes: int
    by_episode: Mapping[str, EpisodeErrors] = field(default_factory=dict)

    def scalars(self) -> dict[str, float]:
        """The numbers that make a curve, by name."""
        found = {name: getattr(self, name) for name in ("model", "nothing_changes", "shuffled", "action")}
        found |= {f"latent_action_reliance/{kind}": r.all.value for kind, r in self.latent_action_reliance.items()}
        found |= {f"image_reliance/{kind}": r.value for kind, r in self.image_reliance.items()}
        found["two_alternative"] = None if self.two_alternative is None else self.two_alternative.value
        return {name: value for name, value in found.items() if value is not None}
