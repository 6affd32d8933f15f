"""What others published on a suite of tasks, for the table beside our own figures.

Sources disagree; every figure has its source, and none is dropped:

NOTES        notes on arXiv 2602.10098v2 (the paper of VLA-JEPA), not the paper itself
SEED         the project's seed document, vla-jepa-2026.md; LIBERO only
LEROBOT      LeRobot's own run of the released checkpoint of VLA-JEPA, 400 episodes
LIBERO_PLUS  the table in the README of sylvestf/LIBERO-plus (arXiv 2510.13626)
"""

from __future__ import annotations

from dataclasses import dataclass

from jobs.simulator.perturb.axes import AXES

NOTES = "notes on arXiv 2602.10098v2"
SEED = "seed document vla-jepa-2026.md"
LEROBOT = "LeRobot's port, 400 episodes"
LIBERO_PLUS = "README of sylvestf/LIBERO-plus"

MEAN = "mean"
"""As a suite: the benchmark's own mean over its suites, axes or tasks."""


@dataclass(frozen=True)
class Published:
    """A success rate of another system: percent, and where it is from."""

    name: str
    percent: float
    source: str


def published(benchmark: str, suite: str) -> tuple[Published, ...]:
    """What others reported on a suite, best first; nothing where nobody did.

    Args:
        benchmark: libero, libero_plus or simpler_env.
        suite: of libero, its name; of libero_plus, an axis; of simpler_env, google_robot, google_robot_1 to
            google_robot_4 (its four tasks in the order of the notes, which do not name them) or widowx; of libero and
            libero_plus also `MEAN`.
    """
    found = []
    for table_benchmark, suites, source, table in _TABLES:
        if table_benchmark == benchmark and suite in suites:
            for line in table.strip().splitlines():
                name, _, figures = line.rpartition(":")
                figure = figures.split()[suites.index(suite)]
                found += [] if figure == "-" else [Published(name.strip(), float(figure), source)]
    return tuple(sorted(found, key=lambda row: -row.percent))


_LIBERO = ("libero_spatial", "libero_object", "libero_goal", "libero_10", MEAN)
_GOOGLE_ROBOT = ("google_robot", "google_robot_1", "google_robot_2", "google_robot_3", "google_robot_4")

# Benchmark, suites, source, and lines "name: percent percent …" with a figure for each suite, - where there is none
_TABLES: tuple[tuple[str, tuple[str, ...], str, str], ...] = (
    (
        "libero",
        _LIBERO,
        NOTES,
        """
        VLA-JEPA: 96.2 99.6 97.2 95.8 97.2
        OpenVLA-OFT: - - - - 97.1
        π0.5: - - - - 96.9
        VLA-JEPA without human video: - - - - 96.1
        VLA-JEPA without human video, T = 4: - - - - 94.8
        VLA-JEPA without human video, T = 16: - - - - 95.5
        UniVLA: - - - - 95.2
        π0: - - - - 94.2
        GR00T N1: - - - - 93.9
        villa-X: - - - - 90.1
        π0-Fast: - - - - 85.5
        LAPA: - - - - 65.7
        """,
    ),
    (
        "libero",
        _LIBERO,
        SEED,
        """
        VLA-JEPA: 96.2 99.6 99.6 97.2 98.2
        π0.5: 97.5 91.5 74.5 90.1 88.9
        OpenVLA-OFT: 97.6 97.9 94.5 96.8 96.7
        """,
    ),
    ("libero", _LIBERO, LEROBOT, "VLA-JEPA: 95 100 98 93 96.5"),
    (
        "libero_plus",
        (*AXES, MEAN),
        NOTES,
        """
        VLA-JEPA: 63.3 67.1 85.4 95.6 93.6 66.3 85.1 79.5
        OpenVLA-OFT: - - - - - - - 69.6
        VLA-JEPA without human video: - - - - - - - 62.9
        π0-Fast: - - - - - - - 61.6
        π0: - - - - - - - 53.6
        UniVLA: - - - - - - - 42.9
        WorldVLA: - - - - - - - 25.0
        """,
    ),
    (
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
    ),
    (
        "simpler_env",
        ("widowx", *_GOOGLE_ROBOT),
        NOTES,
        """
        VLA-JEPA: 57.3 65.2 88.3 64.1 59.3 49.1
        VLA-JEPA without human video: - 78.4 - - - -
        π0-Fast: 48.3 - - - - -
        UniVLA: 42.7 - - - - -
        π0: 40.1 - - - - -
        RoboVLMs: 37.5 51.7 - - - -
        """,
    ),
)
