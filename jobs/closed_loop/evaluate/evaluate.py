"""`vlajepa evaluate`: a policy in the closed loop, by the protocol of LIBERO, LIBERO-Plus or SimplerEnv.

The same command continues after an interruption.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.closed_loop.actors import Actor, PolicyActor, ScriptActor
from jobs.closed_loop.evaluate.plus_tasks import MadeScene, PlusRow, chosen, make_scenes, rows_of
from jobs.closed_loop.evaluate.report import EvaluationReport, write_report
from jobs.closed_loop.evaluate.settings import SCRIPT, EvaluateConfig, PlusMode
from jobs.closed_loop.outcomes import Outcome, by_episode, rate_text, rates_by_task, total
from jobs.closed_loop.process import Simulator
from jobs.closed_loop.rollout import SimulatorSlot, TaskRun, TaskRunner, simulator_slots
from jobs.common.claim import claim
from jobs.common.driver_lock import DriverLock
from jobs.common.json_lines import JsonLines, keep_rows
from jobs.common.policy.cameras import cameras_of
from jobs.common.policy.channels import Channels, channels_of
from jobs.common.policy.contract import differences, environment_differences
from jobs.common.policy.robot_interface import Policy, RobotInterface
from jobs.common.progress import progress_bar
from jobs.datasets.contract.build_contract import contract_of
from jobs.simulator.libero_plus.names import SUITES as PLUS_SUITES
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.vouched import VOUCHED, as_json
from pipeline.errors import SettingsError
from pipeline.format.settings import deciding, plain
from pipeline.sample_world.video import CODECS, write_video
from pipeline.storage.store import open_store

KNOWN = ("checkpoint", "step", "sha256", "weights", VOUCHED)
"""What a server says about its checkpoint, and an evaluation is of."""


@dataclass(frozen=True)
class _Suite:
    """The simulator's answer, see `Worker.tasks`. tasks: chosen ones, index -> {name, instruction, starts, limit};
    plus: all of LIBERO-Plus's, chosen or not."""

    benchmark: str
    control_hz: int
    cameras: tuple[str, ...]
    state: int
    channels: Mapping[str, Sequence[Channels]]
    tasks: Mapping[int, Mapping[str, Any]]
    versions: Mapping[str, str]
    plus: tuple[PlusRow, ...] = ()


def run(settings: EvaluateConfig) -> EvaluationReport:
    return evaluate(settings)


def evaluate(settings: EvaluateConfig) -> EvaluationReport:
    """Run the missing episodes, and write results.json and results.md.

    Raises:
        SettingsError: the policy, the suite and the settings do not fit together.
        BuildError: `out` holds an evaluation with other settings.
        RunError: a simulator cannot be started, or died too often in one episode.
    """
    plays = settings.plus.mode is PlusMode.PLAY or settings.suite not in PLUS_SUITES
    if plays and settings.policy != SCRIPT and not _is_served(settings):
        find_checkpoint(Path(settings.policy))  # before simulators are started
    settings.out.mkdir(parents=True, exist_ok=True)
    with DriverLock(open_store(settings.out)) as lock, ExitStack() as stack:
        start = partial(Simulator, settings.simulator)
        slots = stack.enter_context(simulator_slots(settings.out, settings.environments, start))
        suite = _look_up(settings, slots[0].running())
        if not plays:
            return _check(settings, slots[0], suite, lock)
        actor, about = _make_actor(settings, suite, stack)
        hold = _hold(settings, about, suite.control_hz)
        _claim(settings, about, hold, suite)
        log = JsonLines(settings.out / "episodes.jsonl", Outcome, "outcome", lock.check)
        _play(settings, slots, actor, suite, hold, log)
    outcomes = [o for o in by_episode(log).values() if o.start in _starts(settings, suite, o.task)]
    return _reported(settings, suite, about, outcomes)


def _check(settings: EvaluateConfig, slot: SimulatorSlot, suite: _Suite, lock: DriverLock) -> EvaluationReport:
    """List LIBERO-Plus's tasks, make their scenes if that is asked for, and play none."""
    about = {"policy": "none, tasks are only listed"}
    _claim(settings, about, 1, suite)
    rows = suite.plus
    if settings.plus.mode is PlusMode.MAKE:
        log = JsonLines(settings.out / "scenes.jsonl", MadeScene, "scene", lock.check)
        rows = make_scenes(settings.suite, rows, settings.plus.categories, slot, log)
    keep_rows(settings.out / "tasks.jsonl", (asdict(row) for row in rows))
    return _reported(settings, replace(suite, plus=rows), about, [])


def _reported(
    settings: EvaluateConfig, suite: _Suite, about: Mapping[str, Any], outcomes: Sequence[Outcome]
) -> EvaluationReport:
    report = EvaluationReport(
        settings={name: value for name, value in plain(settings).items() if name != "api_key"},
        policy=about,
        versions=dict(suite.versions),
        benchmark=suite.benchmark,
        tasks=_labels(suite.tasks),
        outcomes=tuple(sorted(outcomes, key=lambda o: (o.task, o.start))),
        plus=suite.plus,
    )
    print(write_report(report, settings.out))
    return report


def _labels(tasks: Mapping[int, Mapping[str, Any]]) -> dict[int, str]:
    """Instructions, with the task's name where several tasks have one instruction."""
    texts = [str(task["instruction"]) for task in tasks.values()]
    return {
        index: text if texts.count(text) == 1 else f"{text} ({task['name']})"
        for (index, task), text in zip(tasks.items(), texts, strict=True)
    }


def _make_actor(settings: EvaluateConfig, suite: _Suite, stack: ExitStack) -> tuple[Actor, dict[str, Any]]:
    """What acts, and what is written down about it. What has to be closed is given to the stack."""
    if settings.policy == SCRIPT:
        return ScriptActor(), {"policy": SCRIPT}
    policy, about = _policy(settings, stack)
    _require_fitting(settings, policy.interface, suite)
    s, cameras = settings, cameras_of(policy.interface.views, suite.cameras, settings.cameras)
    averaged = s.ensemble, s.horizon
    actor = PolicyActor(policy, cameras, suite.state, s.execute, s.turned, s.image_ablation, *averaged, s.delay)
    return actor, {**about, "interface": plain(policy.interface), "cameras": cameras}


def _require_fitting(settings: EvaluateConfig, found: RobotInterface, suite: _Suite) -> None:
    """Raise SettingsError for a policy that takes or means something else than the robot, or than its data should."""
    wrong, unknown = environment_differences(found, *(suite.channels[kind] for kind in ("state", "action")))
    if settings.expects is not None:
        wrong += differences(found, contract_of(settings.expects))
    if wrong:
        raise SettingsError(f"{settings.policy} does not fit {settings.suite}: {'; '.join(wrong)}")
    if unknown and settings.expects is None:
        print(f"note: {'; '.join(unknown)}; units and order are not compared with {settings.suite}'s", flush=True)


def _policy(settings: EvaluateConfig, stack: ExitStack) -> tuple[Policy, dict[str, Any]]:
    if _is_served(settings):
        from jobs.serving.client import PolicyClient

        client = stack.enter_context(PolicyClient(settings.policy, api_key=settings.api_key))
        known = {name: value for name, value in client.metadata.items() if name in KNOWN}
        return client, {"policy": settings.policy, **known}
    from jobs.common.policy.checkpoint_policy import CheckpointPolicy

    policy = CheckpointPolicy(Path(settings.policy), settings.device)
    about = {
        "step": policy.step,
        "sha256": policy.sha256,
        "weights": policy.weights,
        VOUCHED: as_json(policy.vouchers),
    }
    return policy, {"policy": str(policy.checkpoint), **about}


def _is_served(settings: EvaluateConfig) -> bool:
    return settings.policy.startswith(("ws://", "wss://"))


def _look_up(settings: EvaluateConfig, simulator: Simulator) -> _Suite:
    answer = simulator.ask("tasks", suite=settings.suite, **_of_plus(settings))
    listed = answer["tasks"]
    plus = rows_of(listed) if answer["benchmark"] == "libero_plus" else ()
    everything = chosen(plus, settings.plus) if plus else range(len(listed))
    wanted = everything if settings.tasks is None else settings.tasks
    for index in wanted:
        if not 0 <= index < len(listed):
            raise SettingsError(f"tasks: {settings.suite} has tasks 0..{len(listed) - 1}, got {index}")
        last = settings.first_start + (settings.episodes or 1)
        if last > listed[index]["starts"]:
            raise SettingsError(
                f"first_start + episodes must be at most {listed[index]['starts']}, the start states of task {index}, "
                f"got {last}"
            )
        if settings.max_steps is None and listed[index]["limit"] is None:
            raise SettingsError(f"no step limit is known for {settings.suite}; give max_steps=")
        if plus and plus[index].missing:
            raise SettingsError(f"task {index}, {plus[index].name}: there is no {', no '.join(plus[index].missing)}")
    if answer["benchmark"] == "simpler_env" and (settings.policy == SCRIPT or settings.perturb):
        raise SettingsError(f"policy=script and perturb= are for LIBERO; {settings.suite} is of another simulator")
    known = {name: answer[name] for name in ("benchmark", "control_hz", "state")}
    tasks = {index: {**listed[index], "limit": settings.max_steps or listed[index]["limit"]} for index in wanted}
    channels = {kind: channels_of(groups) for kind, groups in answer["channels"].items()}
    cameras, versions = tuple(answer["cameras"]), simulator.about["versions"] | answer.get("versions", {})
    return _Suite(**known, channels=channels, cameras=cameras, tasks=tasks, versions=versions, plus=plus)


def _of_plus(settings: EvaluateConfig) -> dict[str, Any]:
    """How the simulator lists LIBERO-Plus's tasks, as an argument of its requests; nothing for other suites."""
    if settings.suite not in PLUS_SUITES:
        return {}
    found = settings.plus.classification
    about = {"wording": str(settings.plus.wording), "classification": None if found is None else str(found.absolute())}
    return {"plus": about}


def _hold(settings: EvaluateConfig, about: Mapping[str, Any], control_hz: int) -> int:
    """Simulator steps an action is kept for."""
    if settings.hold is not None:
        return settings.hold
    if "interface" not in about:
        return 1
    fps = float(about["interface"]["fps"])
    if fps <= 0 or control_hz % fps:
        raise SettingsError(f"the build has {fps:g} frames a second, which does not divide {control_hz}; give hold=")
    return int(control_hz // fps)


def _claim(settings: EvaluateConfig, about: Mapping[str, Any], hold: int, suite: _Suite) -> None:
    """Write down what decides the episodes, or compare it with what is there."""
    decided = deciding(settings) | ({"tasks": plain(settings.tasks)} if settings.swap else {})
    if settings.suite not in PLUS_SUITES:
        del decided["plus"]
    content = {**decided, **about, "hold": hold, "versions": dict(suite.versions)}
    claim(settings.out / "evaluation.json", content, "evaluation")


def _starts(settings: EvaluateConfig, suite: _Suite, task: int) -> range:
    """Start states of a task that are evaluated; none of a task that is not chosen."""
    if task not in suite.tasks:
        return range(0)
    count = settings.episodes
    return range(settings.first_start, suite.tasks[task]["starts"] if count is None else settings.first_start + count)


def _play(
    settings: EvaluateConfig,
    slots: Sequence[SimulatorSlot],
    actor: Actor,
    suite: _Suite,
    hold: int,
    log: JsonLines[Outcome],
) -> None:
    done = by_episode(log)
    missing = {task: [s for s in _starts(settings, suite, task) if (task, s) not in done] for task in suite.tasks}
    finished = [o for (task, start), o in done.items() if start in _starts(settings, suite, task)]
    total_count = sum(map(len, missing.values())) + len(finished)
    with progress_bar(total=total_count, initial=len(finished), unit="episode", desc=settings.suite) as bar:

        def keep(outcome: Outcome, video: Sequence[NDArray[np.uint8]]) -> None:
            if video:
                _write_video(settings.out, outcome, video, suite.control_hz // hold)
            log.add(outcome)
            finished.append(outcome)
            bar.set_postfix_str(rate_text(total(rates_by_task(finished))), refresh=False)
            bar.update(1)

        for task, starts in missing.items():
            if starts:
                TaskRunner(_task_run(settings, suite, task, hold), slots, actor, keep).play(starts)


def _task_run(settings: EvaluateConfig, suite: _Suite, task: int, hold: int) -> TaskRun:
    order = list(suite.tasks)
    swapped = order[(order.index(task) + 1) % len(order)] if settings.swap else None
    instruction = None if swapped is None else suite.tasks[swapped]["instruction"]
    perturbed = {"axis": settings.perturb, "level": settings.level, "seed": settings.seed}
    opening = {name: getattr(settings, name) for name in ("suite", "pixels", "shadows")}
    opening |= {"task": task, "hold": hold, "instruction_task": swapped}
    opening |= {"perturbation": perturbed if settings.perturb else None, **_of_plus(settings)}
    first = _starts(settings, suite, task)[: settings.videos]
    limit = suite.tasks[task]["limit"]
    return TaskRun(settings.suite, task, instruction, limit, opening, settings.seed, frozenset(first))


def _write_video(out: Path, outcome: Outcome, video: Sequence[NDArray[np.uint8]], fps: int) -> None:
    folder = out / "videos"
    folder.mkdir(exist_ok=True)
    result = "success" if outcome.success else "failure"
    path = folder / f"task-{outcome.task:02d}-start-{outcome.start:03d}-{result}.mp4"
    temporary = path.with_suffix(".part.mp4")
    write_video(temporary, video, max(1, fps), CODECS["h264"])
    shutil.move(temporary, path)
