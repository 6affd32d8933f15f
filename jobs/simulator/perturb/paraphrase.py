"""Paraphrases of an instruction at five levels, by a grammar of templates without a language model.

1  politely                         please put the bowl on the stove
2  other verbs                      set the bowl on the stove
3  other sentences, politely        robot, take the bowl and place it on the stove
4  with a remark that is beside the point
5  things described instead of named, with two remarks

Things and places keep their adjectives and their order. A clause that the grammar does not know stays as it is.
"""

from __future__ import annotations

import random
import re

POLITE = (
    "please {}",
    "could you {}",
    "{} for me",
    "{}, thank you",
    "your task is to {}",
    "i would like you to {}",
    "robot, {}",
    "would you kindly {}",
)

REMARKS = (
    "the weather is lovely today",
    "there is no hurry",
    "my sister called this morning",
    "we have visitors this evening",
    "i have just come home from work",
    "it is rather quiet in here",
    "the day has been a long one",
    "everybody else is still asleep",
)

JOINTS = (", then {}", " and then {}", ", and after that {}")

MOVE = (
    "take {thing} and put {it} {place}",
    "grab {thing} and set {it} down {place}",
    "lift {thing} and put {it} {place}",
    "get {thing} and place {it} {place}",
)
MOVE_LONG = (
    "find {thing}, pick {it} up and leave {it} {place}",
    "take hold of {thing}, carry {it} over and place {it} {place}",
    "see to picking up {thing} and placing {it} {place}",
    "reach for {thing}, raise {it} and put {it} down {place}",
)
PUT = ("place {thing} {place}", "set {thing} {place}", "position {thing} {place}", "put down {thing} {place}")
PUT_LONG = (
    "take {thing} and place {it} {place}",
    "see to putting {thing} {place}",
    "pick {thing} up and leave {it} {place}",
    "find {thing} and place {it} {place}",
)
PUSH = ("slide {thing} {place}", "shove {thing} {place}", "nudge {thing} {place}")
PUSH_LONG = ("move {thing} {place} by pushing {it}", "give {thing} a push so that {it} goes {place}")
OPEN = ("pull open {thing}", "open up {thing}", "get {thing} open")
OPEN_LONG = ("make sure that {thing} is open", "take the handle and open {thing}")
CLOSE = ("shut {thing}", "push {thing} shut", "get {thing} closed")
CLOSE_LONG = ("make sure that {thing} is shut", "see that {thing} gets closed")
ON = ("switch on {thing}", "power on {thing}", "get {thing} going")
ON_LONG = ("make sure that {thing} is switched on", "turn the knob so that {thing} is on")
OFF = ("switch off {thing}", "power off {thing}", "shut off {thing}")
OFF_LONG = ("make sure that {thing} is switched off", "turn the knob so that {thing} is off")

DESCRIBED = {
    r"wine bottle": "bottle of wine",
    r"moka pot(s?)": r"stovetop coffee maker\1",
    r"frying pan": "flat pan with a long handle",
    r"bowl": "deep round dish for food",
    r"plate": "flat round dish",
    r"mug": "drinking cup with a handle",
    r"ramekin": "small baking cup",
    r"basket": "carrier with a handle",
    r"stove": "hob for cooking",
    r"drawer": "pull-out compartment",
    r"cabinet": "cupboard",
    r"microwave": "oven that heats with microwaves",
    r"book": "bound volume",
    r"caddy": "desk organiser",
    r"rack": "stand for bottles",
}
"""A noun and a description; products (milk, ketchup, …) have none."""

_PLACE = r"(?P<place>(?:in|on|inside|into|onto|to|under|at)\b.*)"
_SPLIT = re.compile(r"(?:,? and|,) (?=(?:put|close|open|turn|push|place|pick)\b)(?!place (?:it|them)\b)")
_FORMS = tuple(
    (re.compile(pattern), short, long)
    for pattern, short, long in (
        (r"pick (?:up )?(?P<thing>.+?) and (?:place|put) (?:it|them) " + _PLACE, MOVE, MOVE_LONG),
        (r"(?:put|place) (?P<thing>.+?) " + _PLACE, PUT, PUT_LONG),
        (r"push (?P<thing>.+?) " + _PLACE, PUSH, PUSH_LONG),
        (r"open (?P<thing>.+)", OPEN, OPEN_LONG),
        (r"close (?P<thing>.+)", CLOSE, CLOSE_LONG),
        (r"turn on (?P<thing>.+)", ON, ON_LONG),
        (r"turn off (?P<thing>.+)", OFF, OFF_LONG),
    )
)


def paraphrase(instruction: str, level: int, seed: int) -> str:
    """The paraphrased instruction in lower case, of a level of the module; equal arguments give equal texts."""
    choice = random.Random(f"{level} {seed} {instruction}")
    text = " ".join(instruction.lower().split()).rstrip(".")
    if level >= 2:
        text = _reworded(text, choice, long=level >= 3)
    if level >= 5:
        text = described(text)
    if level != 2:
        text = choice.choice(POLITE).format(text)
    remarks = choice.sample(REMARKS, max(0, level - 3))
    if not remarks:
        return text
    before = remarks if len(remarks) > 1 or choice.random() < 0.5 else []
    after = [] if before else remarks
    return ". ".join([*before[:1], text, *before[1:], *after])


def described(text: str) -> str:
    """Things by what they are instead of their names."""
    for noun, words in DESCRIBED.items():
        text = re.sub(rf"\b{noun}\b", words, text)
    return text


def _reworded(instruction: str, choice: random.Random, long: bool) -> str:
    clauses = [_clause(clause, choice, long) for clause in _clauses(instruction)]
    text = clauses[0]
    for clause in clauses[1:]:
        text += choice.choice(JOINTS).format(clause)
    return text


def _clauses(instruction: str) -> list[str]:
    """Split before each verb, but not between picking a thing up and putting it down."""
    clauses: list[str] = []
    for part in _SPLIT.split(instruction):
        if clauses and re.match(r"(?:place|put) (?:it|them)\b", part) and clauses[-1].startswith("pick"):
            clauses[-1] += f" and {part}"
        else:
            clauses.append(part)
    return clauses


def _clause(clause: str, choice: random.Random, long: bool) -> str:
    for pattern, short, longer in _FORMS:
        found = pattern.fullmatch(clause)
        if found is not None:
            thing, place = found["thing"], found.groupdict().get("place", "")
            template = choice.choice(longer if long and thing != "it" else short)
            return template.format(thing=thing, place=place, it="them" if _several(thing) else "it")
    return clause


def _several(thing: str) -> bool:
    return thing.startswith("both ") or thing == "them"
