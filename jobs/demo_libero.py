"""`vlajepa demo-libero`: demonstrations -> shards -> audit -> world model -> policy -> closed loop, and a report.

Every part is a command that a user could type. A part whose result lies in `out` is not run again, and one that was
interrupted goes on where it was, so the same command is repeated until the report is there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from omegaconf import DictConfig

from jobs.closed_loop.json_lines import JsonLines
from jobs.closed_loop.outcomes import table
from jobs.config import parse
from jobs.demo import Step, run_step
from jobs.driver_lock import DriverLock
from jobs.settings import DemoLiberoConfig
from jobs.training.differences import first_difference
from pipeline.errors import BuildError, RunError
from pipeline.shards import write_atomic
from pipeline.store import open_store

PIXELS, FPS = 96, 10
"""Of the demonstrations, and of what the policy sees."""

BUILD = (
    "source=libero_scripted", "encoder=tiny", "encoder.mode=tubelet", "latents.dtype=int8",
    f"inputs.image_size={PIXELS}", "window.interval=3", "window.end=pad",
)  # fmt: skip

MAY_CHANGE = ("simulator", "out", "processes")
"""Settings that decide no number."""


@dataclass(frozen=True)
class Part:
    """A command and the file, below `out`, that says it is finished."""

    words: tuple[str, ...]
    result: str


@dataclass(frozen=True)
class Policy:
    """A policy that is evaluated.

    name            of its folders in runs/ and results/
    demonstrations  of each task;  seed  of its training
    start           "pretrained", "scratch", or "untrained"
    blind           trained on grey pictures
    """

    name: str
    demonstrations: int
    seed: int
    start: str
    blind: bool = False


@dataclass(frozen=True)
class Trial:
    """A policy in the closed loop. `control` is the setting of `vlajepa evaluate` that makes it one, or empty."""

    policy: Policy
    control: str = ""

    @property
    def name(self) -> str:
        """Of its folder in results/."""
        return f"{self.policy.name}-swap" if self.control == "swap" else self.policy.name


@dataclass(frozen=True)
class Timed:
    """A line of parts.jsonl: what ran to its end, and the seconds of that call."""

    command: str
    seconds: float


def run(config: DictConfig) -> None:
    settings = parse(DemoLiberoConfig, config)
    settings.out.mkdir(parents=True, exist_ok=True)
    with DriverLock(open_store(settings.out)):
        claim(settings)
        log = JsonLines(settings.out / "parts.jsonl", Timed, "part")
        for part in parts(settings):
            if not (settings.out / part.result).exists():
                step = run_step(Step(part.words))
                if not (settings.out / part.result).exists():
                    raise RunError(f"{step.text} was stopped before its end; the same command again goes on")
                log.add(Timed(step.text, round(step.seconds, 1)))
        report = make_report(settings, log.read())
        write_atomic(settings.out / "report.md", report.encode())
    print("\n" + report + f"\nThis report: {settings.out / 'report.md'}")


def claim(settings: DemoLiberoConfig) -> None:
    """Write the settings down, or compare them with those of the call before.

    Raises:
        BuildError: `out` holds an experiment with other settings.
    """
    deciding = {name: value for name, value in asdict(settings).items() if name not in MAY_CHANGE}
    plain = json.loads(json.dumps(deciding, default=str))
    path = settings.out / "experiment.json"
    if path.exists():
        difference = first_difference(json.loads(path.read_bytes()), plain)
        if difference:
            raise BuildError(f"{settings.out} holds another experiment: {difference}; choose another out=")
    else:
        write_atomic(path, (json.dumps(plain, indent=2) + "\n").encode())


def parts(settings: DemoLiberoConfig) -> Iterator[Part]:
    """All that has to be done, in order."""
    yield _collecting(settings)
    for count in sorted(settings.demonstrations):
        yield from _building(settings, count)
    for seed in settings.seeds:
        yield _pretraining(settings, seed)
    for policy in policies(settings):
        yield _training(settings, policy)
    for trial in trials(settings):
        yield _evaluation(settings, trial)


def policies(settings: DemoLiberoConfig) -> list[Policy]:
    """The untrained one and the one that knows the state alone first, then those of the most demonstrations."""
    most = max(settings.demonstrations)
    found = [
        Policy("untrained", most, settings.seeds[0], "untrained"),
        Policy("state-only", most, settings.seeds[0], "scratch", blind=True),
    ]
    for count in sorted(settings.demonstrations, reverse=True):
        for seed in settings.seeds:
            for start in ("pretrained", "scratch") if settings.compare else ("pretrained",):
                found.append(Policy(f"{start}-{count}-seed-{seed}", count, seed, start))
    return found


def trials(settings: DemoLiberoConfig) -> list[Trial]:
    """Every policy, the blind one without pictures; of several tasks the first seeing one also told another task."""
    everyone = policies(settings)
    first = next(policy for policy in everyone if policy.start != "untrained" and not policy.blind)
    swapped = [Trial(first, "swap")] if len(settings.tasks) > 1 else []
    return [*(Trial(policy, "blank" if policy.blind else "") for policy in everyone), *swapped]


def _collecting(settings: DemoLiberoConfig) -> Part:
    words = ("collect", f"simulator={settings.simulator}", f"suite={settings.suite}", f"task={_list(settings.tasks)}",
             f"episodes={max(settings.demonstrations)}", f"pixels={PIXELS}", f"fps={FPS}", "shadows=false",
             "format=lerobot", f"processes={settings.processes}", f"out={settings.out}/demonstrations")  # fmt: skip
    return Part(words, "demonstrations/collected.json")


def _building(settings: DemoLiberoConfig, count: int) -> Iterator[Part]:
    build = f"builds/{count}"
    few = () if count == max(settings.demonstrations) else (f"limit={count}",)
    root = f"source.root={settings.out}/demonstrations/lerobot"
    yield Part(("preprocess", *BUILD, root, *few, f"out={settings.out}/{build}"), f"{build}/build.json")
    yield Part(("audit", f"{settings.out}/{build}"), f"{build}/audit/verdict.json")


def _pretraining(settings: DemoLiberoConfig, seed: int) -> Part:
    """The world model alone, on all demonstrations as if they were videos."""
    run = f"runs/world-model-seed-{seed}"
    loss = ("model.loss.action=0", "model.loss.world_model_on_robot=1")
    words = (*_train(settings, max(settings.demonstrations), seed, run), *loss, *_steps(settings.pretrain_steps))
    return Part(words, f"{run}/held_out.json")


def _training(settings: DemoLiberoConfig, policy: Policy) -> Part:
    run = f"runs/{policy.name}"
    words = _train(settings, policy.demonstrations, policy.seed, run)
    if policy.start == "untrained":
        return Part((*words, "trainer.steps=1", "trainer.warmup_steps=1"), f"{run}/held_out.json")
    words = (*words, *_steps(settings.steps), *(("trainer.blind=true",) if policy.blind else ()))
    if policy.start == "pretrained":
        words = (*words, f"init_from={settings.out}/runs/world-model-seed-{policy.seed}", "fine_tuning=true")
    return Part(words, f"{run}/held_out.json")


def _train(settings: DemoLiberoConfig, count: int, seed: int, run: str) -> tuple[str, ...]:
    return ("train", f"builds=[{settings.out}/builds/{count}]", "model=libero_small", "trainer=libero_small",
            f"model.seed={seed}", f"trainer.seed={seed}", f"out={settings.out}/{run}")  # fmt: skip


def _steps(steps: int) -> tuple[str, str]:
    return f"trainer.steps={steps}", f"trainer.warmup_steps={min(200, steps // 10)}"


def _evaluation(settings: DemoLiberoConfig, trial: Trial) -> Part:
    folder = f"results/{trial.name}"
    words = ("evaluate", f"policy={settings.out}/runs/{trial.policy.name}", f"simulator={settings.simulator}",
             f"suite={settings.suite}", f"tasks={_list(settings.tasks)}", f"episodes={settings.episodes}",
             f"execute={settings.execute}", f"pixels={PIXELS}", "shadows=false", f"environments={settings.processes}",
             "videos=2", f"out={settings.out}/{folder}")  # fmt: skip
    return Part((*words, f"{trial.control}=true") if trial.control else words, f"{folder}/results.json")


def _list(numbers: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"


def make_report(settings: DemoLiberoConfig, timed: list[Timed]) -> str:
    """The summary, as Markdown. Every number is read from the files that the commands wrote."""
    out = settings.out
    collected = json.loads((out / "demonstrations" / "collected.json").read_bytes())
    verdict = json.loads((out / f"builds/{max(settings.demonstrations)}" / "audit" / "verdict.json").read_bytes())
    rows = [_row(settings, trial) for trial in trials(settings)]
    lines = [
        f"# {settings.suite}, tasks {', '.join(map(str, settings.tasks))}: from demonstrations to the closed loop",
        "",
        f"Start states 0..{settings.episodes - 1} of the benchmark for each task; demonstrations began elsewhere.",
        "",
        table(("policy", "demonstrations a task", "steps", "successes, and percent with its 95 % interval"), rows),
        "",
        *[_demonstrations(task) for task in collected["tasks"]],
        f"Audit of the largest build: {verdict['status']}.",
        "",
        "",
        table(("command", "seconds"), [(f"`{part.command}`", f"{part.seconds:.0f}") for part in timed]),
    ]
    return "\n".join(lines) + "\n"


def _row(settings: DemoLiberoConfig, trial: Trial) -> tuple[str, str, str, str]:
    text = json.loads((settings.out / "results" / trial.name / "results.json").read_bytes())["total"]["text"]
    if trial.policy.start == "untrained":
        return trial.name, "0", "1", text
    pretrained = f"{settings.pretrain_steps:,} + " if trial.policy.start == "pretrained" else ""
    return trial.name, str(trial.policy.demonstrations), f"{pretrained}{settings.steps:,}", text


def _demonstrations(task: Mapping[str, Any]) -> str:
    return f"Task {task['task']} ({task['instruction']}): {task['successes']} successes in {task['tries']} tries."
