"""The statements of every rule: from which level on each is checked, and how. Kept beside the rules that check them:
a check that is added, moved or weakened changes its line here."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.audit.finding import LEVELS
from pipeline.audit.proofs.proof import Mechanism, Proof, Share

_D, _S, _E = Mechanism.DERIVED, Mechanism.STATISTICAL, Mechanism.EXPERIMENT


@dataclass(frozen=True)
class Statement:
    """What is checked for a rule from `level` on. power: fixed words, or the name of a share of `Facts`; of_state: it
    is about the state."""

    rule: str
    level: str
    what: str
    mechanism: Mechanism
    power: str = ""
    of_state: bool = False


@dataclass(frozen=True)
class Facts:
    """What the statements of a verdict depend on.

    state    the build has one
    images, latents  were to be equal to the byte, to the bit
    encoded, perturbed  the random shares; None below the level that draws them
    whispers  what the test of residuals would have found, in words; "" where latents are exact
    """

    state: bool = True
    images: bool = True
    latents: bool = True
    encoded: Share | None = None
    perturbed: Share | None = None
    whispers: str = ""


STATEMENTS = (
    Statement("L1", "manifest", "frames of the context, frame of the state and times end at now, by the indices", _D),
    Statement("L1", "shards", "every KEY.json is that of its now", _D),
    Statement("L1", "source", "every input image is the frame at now of the raw video", _D, "images"),
    Statement(
        "L1",
        "source",
        "no camera runs ahead of the others or begins with the end of its episode",
        _S,
        "a copy of a later frame within 5 % of the spread, four times closer than any known frame",
    ),
    Statement("L1", "perturb", "inputs do not change when every later frame does", _E, "perturbed"),
    Statement("L2", "manifest", "the frames of every step are those of the rule, by the indices; mode and stamp", _D),
    Statement("L2", "shards", "latents that windows share are those of the windows' own frames, by the indices", _D),
    Statement("L2", "source", "latents are what the encoder makes of these frames and of none after", _D, "encoded"),
    Statement("L2", "perturb", "context and earlier latents do not change when later frames do", _E, "perturbed"),
    Statement("L3", "manifest", "no field of the state is an action, by the settings", _D, "", True),
    Statement(
        "L3",
        "source",
        "no channel of the state is the action of its frame",
        _S,
        "an affine copy that leaves 0.0001 % of the variance, of channels that change 8 times",
        True,
    ),
    Statement("L3", "perturb", "student and policy do not change when every target of a batch does", _E, "model"),
    Statement("L4", "perturb", "no prediction changes with a later latent or latent action", _E, "model"),
    Statement("L5", "perturb", "no target of a batch gets a gradient", _E, "model"),
    Statement("L6", "manifest", "no episode is in two splits or planned from the test set", _D),
    Statement("L6", "shards", "statistics are those of the train split, to the last digit", _D),
    Statement("L6", "source", "splits are those of the raw data", _D),
    Statement(
        "L6",
        "source",
        "no held-out film is a copy of a train film",
        _S,
        "films that move, whose fine motion correlates by 0.86 after any one of 26 changes: docs, Near-duplicates",
    ),
    Statement("L7", "manifest", "plan, order, windows, counts are as the settings allow; small files hash", _D),
    Statement("L7", "shards", "every file has its SHA-256; keys of tar, Arrow and manifest are one list", _D),
    Statement("L7", "source", "episodes, windows, shards are those of raw data and settings; ledger reasons hold", _D),
    Statement("L8", "manifest", "action starts, counts and padding follow from the lengths; times are well formed", _D),
    Statement("L8", "shards", "padding is flagged and zero; masks are those of the manifest", _D),
    Statement("L8", "source", "state, actions and times are those of the raw data, to the bit", _D),
    Statement(
        "L8",
        "source",
        "no channel of the state is a later frame, an average of later ones, or the end or length of its episode",
        _S,
        "a copy by a line that leaves 0.1 % of the variance, an average up to n+24 that leaves 0.0001 %, of channels "
        "that change 8 times (24 beside measured ones): docs, Inputs that show the future by mistake",
        True,
    ),
    Statement("L9", "manifest", "no episode that was left out, as without a text, has samples", _D),
    Statement("L9", "shards", "the instruction is that of the episode's plan", _D),
    Statement("L9", "source", "the instruction is that of the raw data", _D),
    Statement("L10", "manifest", "JSON files have closed types and one spelling", _D),
    Statement("L10", "source", "the plan's estimate is that of the lengths found in the raw data", _D),
    Statement("L10", "shards", "every file is the bytes that its parsed content gives; no other file is there", _D),
)

OUT_OF_REACH = (
    "a leak in the raw data that leaves no trace in its numbers, such as a label by somebody who had watched the end",
    "other builds that are trained together with this one: vlajepa audit 'builds=[A,B]' compares them",
    "a machine, libraries or an encoder that deceive the auditor: run it on a machine of your own",
    "changes after the audit: vlajepa verify, with the public key of whoever signed",
)
"""What no audit of one build can show, at any level."""


def proofs_of(level: str, facts: Facts) -> tuple[Proof, ...]:
    """Every statement as it was checked at a level."""
    depth = LEVELS.index(level)
    return tuple(_proof(statement, depth, facts) for statement in STATEMENTS)


def _proof(statement: Statement, depth: int, facts: Facts) -> Proof:
    rule, what, power = statement.rule, statement.what, statement.power
    if LEVELS.index(statement.level) > depth:
        return Proof(rule, what, Mechanism.NOT_CHECKED, f"level {statement.level}")
    if statement.of_state and not facts.state:
        return Proof(rule, what, Mechanism.NOTHING, "this build has no state")
    if power == "images":
        return Proof(rule, what, _D if facts.images else Mechanism.BOUNDED)
    if power == "encoded":
        share = "" if facts.encoded is None else facts.encoded.power
        weak = "" if facts.latents else facts.whispers
        mechanism = _D if facts.latents else Mechanism.BOUNDED
        return Proof(rule, what, mechanism, "; ".join(filter(None, (share, weak))))
    if power == "perturbed":
        return Proof(rule, what, statement.mechanism, "" if facts.perturbed is None else facts.perturbed.power)
    if power == "model":
        return Proof(rule, what, statement.mechanism, "one batch of one model")
    return Proof(rule, what, statement.mechanism, power)
