"""Success in LIBERO-Plus by category and suite, as its table has it, and what was not played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jobs.closed_loop.evaluate.plus_tasks import PlusRow
from jobs.closed_loop.outcomes import Outcome, Rate, success_rate
from jobs.closed_loop.published import MEAN, published
from jobs.common.text import markdown_table
from jobs.simulator.libero_plus.names import CATEGORIES

ALL = "all"


def plus_tables(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> list[str]:
    """Paragraphs of Markdown: success by category and suite, and by difficulty where it is known, what was played and
    what was not, and LIBERO-Plus's own table."""
    lines = [_played(rows, outcomes), ""]
    if outcomes:
        lines += [_by_suite(rows, outcomes), ""]
        if any(row.difficulty is not None for row in rows):
            lines += [_by_difficulty(rows, outcomes), ""]
    missing = _missing(rows)
    if missing:
        lines += ["Why tasks cannot be played here:", "", missing, ""]
    if outcomes:
        left_out = len(rows) - len({outcome.task for outcome in outcomes})
        note = f"Published, of all 10,030 tasks; here {left_out:,} of {len(rows):,} were not played:"
        lines += [note, "", _published(), ""]
    return lines


def plus_numbers(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """For results.json: of each category its tasks, how many were played, could be and could not be, and of each suite
    and difficulty successes and episodes."""
    found = []
    for category, title in CATEGORIES.items():
        mine = [row for row in rows if row.category == category]
        about: dict[str, Any] = {"category": category, "title": title, **_counts(mine, outcomes)}
        about["missing"] = dict(Counter(kind for row in mine for kind in _kinds(row)))
        for name, key in (("suites", _suite), ("difficulties", _difficulty)):
            rates = _rates(mine, outcomes, key)
            about[name] = {part: {"successes": r.successes, "episodes": r.episodes} for part, r in rates.items()}
        found.append(about)
    return found


def _suite(row: PlusRow) -> str:
    return row.suite


def _difficulty(row: PlusRow) -> str:
    return "none" if row.difficulty is None else str(row.difficulty)


def _rates(rows: Sequence[PlusRow], outcomes: Sequence[Outcome], key: Callable[[PlusRow], str]) -> dict[str, Rate]:
    """Of each part, of which something was played, and of `ALL`."""
    known = {row.task: key(row) for row in rows}
    played: dict[str, list[bool]] = {part: [] for part in sorted(set(known.values()))}
    for outcome in outcomes:
        if outcome.task in known:
            played[known[outcome.task]].append(outcome.success)
    everything = [success for part in played.values() for success in part]
    return {part: success_rate(sum(won), len(won)) for part, won in {**played, ALL: everything}.items() if won}


def _counts(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> dict[str, int]:
    done = {outcome.task for outcome in outcomes}
    played, lacking = sum(row.task in done for row in rows), sum(bool(row.missing) for row in rows)
    others = len(rows) - played - lacking
    return {"tasks": len(rows), "played": played, "not_chosen": others, "not_playable": lacking}


def _kinds(row: PlusRow) -> set[str]:
    return {text.split(":")[0] for text in row.missing}


def _by_category(rows: Sequence[PlusRow]) -> dict[str, Sequence[PlusRow]]:
    """Title -> rows, and all together."""
    return {title: [r for r in rows if r.category == name] for name, title in CATEGORIES.items()} | {ALL: rows}


def _played(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> str:
    lines = []
    for title, mine in _by_category(rows).items():
        counts = _counts(mine, outcomes)
        lines.append((title, *(f"{count:,}" for count in counts.values())))
    return markdown_table(("category", "tasks", "played", "not chosen", "cannot be played here"), lines)


def _by_suite(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> str:
    suites = list(dict.fromkeys(row.suite for row in rows))
    return _rate_table((*suites, ALL), _by_category(rows), outcomes, _suite)


def _by_difficulty(rows: Sequence[PlusRow], outcomes: Sequence[Outcome]) -> str:
    parts = sorted({_difficulty(row) for row in rows})
    names = tuple("no difficulty" if part == "none" else f"difficulty {part}" for part in parts)
    return _rate_table((*parts, ALL), _by_category(rows), outcomes, _difficulty, (*names, ALL))


def _rate_table(
    parts: Sequence[str],
    groups: Mapping[str, Sequence[PlusRow]],
    outcomes: Sequence[Outcome],
    key: Callable[[PlusRow], str],
    names: Sequence[str] | None = None,
) -> str:
    lines = []
    for title, mine in groups.items():
        rates = _rates(mine, outcomes, key)
        whole = rates.get(ALL)
        interval = f"{100 * whole.low:.1f}-{100 * whole.high:.1f}" if whole else ""
        lines.append((title, *(_text(rates.get(part)) for part in parts), interval))
    return markdown_table(("percent (successes/episodes)", *(names or parts), "95 % interval (Wilson)"), lines)


def _text(rate: Rate | None) -> str:
    return f"{100 * rate.share:.1f} ({rate.successes}/{rate.episodes})" if rate else "-"


def _missing(rows: Sequence[PlusRow]) -> str:
    """Kinds of what is missing: in how many tasks of which category, and the most frequent names."""
    tasks, names = Counter[tuple[str, str]](), dict[tuple[str, str], Counter[str]]()
    for row in rows:
        tasks.update((row.category, kind) for kind in _kinds(row))
        for text in row.missing:
            kind, _, name = text.partition(": ")
            names.setdefault((row.category, kind), Counter())[name] += 1
    lines = []
    for (category, kind), count in tasks.most_common():
        found = names[category, kind]
        most = ", ".join(name for name, _ in found.most_common(3)) + (", …" if len(found) > 3 else "")
        lines.append((CATEGORIES[category], f"no {kind}", f"{count:,}", f"{len(found):,}", most))
    return markdown_table(("category", "why", "tasks", "different ones", "such as"), lines) if lines else ""


def _published() -> str:
    columns = (*CATEGORIES, MEAN)
    systems: dict[tuple[str, str], dict[str, float]] = {}
    for column in columns:
        for one in published("libero_plus", column):
            systems.setdefault((one.name, one.source), {})[column] = one.percent
    ordered = sorted(systems.items(), key=lambda item: -item[1].get(MEAN, 0))
    lines = [
        (name, *(f"{found[c]:.1f}" if c in found else "-" for c in columns), source)
        for (name, source), found in ordered
    ]
    return markdown_table(("system", *columns, "source"), lines)
