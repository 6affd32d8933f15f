"""`vlajepa demo-libero`: demonstrations -> shards -> audit -> world model -> policy -> closed loop, and a report.

Every part is a command that a user could type. A complete part is not run again, and an interrupted one continues, so
the same command is repeated until the report is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from jobs.common.claim import claim
from jobs.common.driver_lock import DriverLock
from jobs.common.json_lines import JsonLines
from jobs.demos.command_runner import Command, command_words, run_commands
from jobs.demos.demo_libero_report import Timed, make_report
from jobs.demos.demo_libero_trials import Policy, Trial, policies, trials
from jobs.demos.settings import DemoLiberoConfig
from pipeline.format.settings import deciding
from pipeline.storage.atomic import write_atomic
from pipeline.storage.store import open_store

PIXELS, FPS = 96, 10
"""Of the demonstrations, and of what the policy sees."""

BUILD = (
    "preprocess source=libero_scripted encoder=tiny encoder.mode=tubelet latents.dtype=int8 window.interval=3 "
    f"window.end=pad inputs.image_size={PIXELS} source.root={{s.out}}/demonstrations/lerobot"
)

DEMONSTRATIONS = "demonstrations/collected.json"


def run(settings: DemoLiberoConfig) -> Path:
    """The report."""
    settings = replace(settings, out=settings.out.resolve())  # the parts write it down
    settings.out.mkdir(parents=True, exist_ok=True)
    with DriverLock(open_store(settings.out)) as lock:
        claim(settings.out / "experiment.json", deciding(settings), "experiment")
        log = JsonLines(settings.out / "parts.jsonl", Timed, "part", lock.check)
        log.read()  # cuts off a line that a killed process left unfinished

        def ended(command: Command, seconds: float) -> None:
            log.add(Timed(command.text, round(seconds, 1)))
            if command.words[0] == "evaluate":
                _report(settings, log)

        run_commands(list(commands(settings)), settings.out, settings.at_a_time, ended)
        report = _report(settings, log)
    print("\n" + report + f"\nThis report: {settings.out / 'report.md'}")
    return settings.out / "report.md"


def _report(settings: DemoLiberoConfig, log: JsonLines[Timed]) -> str:
    report = make_report(settings, log.read())
    write_atomic(settings.out / "report.md", report.encode())
    return report


def commands(settings: DemoLiberoConfig) -> Iterator[Command]:
    """All that has to be done, in order: seed by seed, a policy's trials after its training."""
    yield _collecting(settings)
    yield from _building(settings)
    begun: set[int] = set()
    for policy in policies(settings):
        if policy.seed not in begun:
            begun.add(policy.seed)
            yield _pretraining(settings, policy.seed)
        yield _training(settings, policy)
        yield from (_evaluation(settings, trial) for trial in trials(settings) if trial.policy == policy)


def _collecting(settings: DemoLiberoConfig) -> Command:
    template = (
        "collect simulator={s.simulator} suite={s.suite} task={tasks} episodes={most} shadows=false format=lerobot "
        f"pixels={PIXELS} fps={FPS} processes={{s.processes}} out={{s.out}}/demonstrations"
    )
    words = command_words(template, s=settings, tasks=_list(settings.tasks), most=max(settings.demonstrations))
    return Command("collect", words, DEMONSTRATIONS)


def _building(settings: DemoLiberoConfig) -> Iterator[Command]:
    """The largest build first, one after the other: each takes the whole machine."""
    before = DEMONSTRATIONS
    for count in sorted(settings.demonstrations, reverse=True):
        build = f"builds/{count}"
        few = () if count == max(settings.demonstrations) else (f"limit={count}",)
        words = (*command_words(BUILD, s=settings), *few, f"out={settings.out}/{build}")
        yield Command(f"preprocess-{count}", words, f"{build}/build.json", (before,))
        before = _verdict(count)
        yield Command(f"audit-{count}", ("audit", f"{settings.out}/{build}"), before, (f"{build}/build.json",))


def _verdict(count: int) -> str:
    return f"builds/{count}/audit/verdict.json"


def _pretraining(settings: DemoLiberoConfig, seed: int) -> Command:
    """The world model alone, on all demonstrations as if they were videos."""
    name, most = f"world-model-seed-{seed}", max(settings.demonstrations)
    loss = ("model.loss.action=0", "model.loss.world_model_on_robot=1")
    words = (*_train(settings, most, seed, name), *loss, *_steps(settings.pretrain_steps))
    return Command(f"train-{name}", words, _trained(name), (_verdict(most),))


def _training(settings: DemoLiberoConfig, policy: Policy) -> Command:
    words = _train(settings, policy.demonstrations, policy.seed, policy.name)
    needs: tuple[str, ...] = (_verdict(policy.demonstrations),)
    if policy.start == "untrained":
        words = (*words, "trainer.steps=1", "trainer.warmup_steps=1")
    else:
        words = (*words, *_steps(settings.steps), *(("trainer.image_ablation=grey",) if policy.grey else ()))
    if policy.start == "pretrained":
        world_model = f"world-model-seed-{policy.seed}"
        words = (*words, f"init_from={settings.out}/runs/{world_model}", "fine_tuning=true")
        needs = (*needs, _trained(world_model))
    return Command(f"train-{policy.name}", words, _trained(policy.name), needs)


def _train(settings: DemoLiberoConfig, count: int, seed: int, name: str) -> tuple[str, ...]:
    template = (
        "train builds=[{out}/builds/{count}] model=libero_small trainer=libero_small model.seed={seed} "
        "trainer.seed={seed} out={out}/runs/{name}"
    )
    return command_words(template, out=settings.out, count=count, seed=seed, name=name)


def _trained(name: str) -> str:
    return f"runs/{name}/held_out.json"


def _steps(steps: int) -> tuple[str, str]:
    return f"trainer.steps={steps}", f"trainer.warmup_steps={min(200, steps // 10)}"


def _evaluation(settings: DemoLiberoConfig, trial: Trial) -> Command:
    template = (
        "evaluate policy={s.out}/runs/{trial.policy.name} simulator={s.simulator} suite={s.suite} tasks={tasks} "
        f"episodes={{s.episodes}} execute={{s.execute}} pixels={PIXELS} shadows=false environments={{s.processes}} "
        "{control} videos=2 out={s.out}/results/{trial.name}"
    )
    control = "image_ablation=grey" if trial.policy.grey else "swap=true" if trial.swap else ""
    found = command_words(template, s=settings, trial=trial, tasks=_list(settings.tasks), control=control)
    words = tuple(word for word in found if word)
    needs = (_trained(trial.policy.name),)
    return Command(f"evaluate-{trial.name}", words, f"results/{trial.name}/results.json", needs)


def _list(numbers: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, numbers)) + "]"
