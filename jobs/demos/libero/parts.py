"""The parts that studies in LIBERO are made of, each a command that a user could type, with what it has to do.

World models are trained on the first frame of each demonstration alone, as in `vlajepa demo`: the hand is at rest, so
that what comes depends on the instruction and not on the motion so far. They see the static camera; the student sees
both. Policies are trained on every frame.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from jobs.demos.command_runner import Command, command_words
from jobs.demos.libero.settings import LiberoStudyConfig
from jobs.latent_probes.probe_latents import PROBES_FILE
from jobs.simulator.libero import STEP_LIMITS

PIXELS, FPS = 96, 10
"""Of the demonstrations, and of what the policy sees."""

FRAMES = 75
"""Of a demonstration, about."""

LATER = 100_000
"""Frames to the next window: there is one a demonstration, at its first frame."""

MODEL = (
    "model=libero_small model.predictor.views=1 model.predictor.dim=96 model.world_model_cameras=[agentview] "
    "model.action_head.reads=latent model.seed={seed} trainer.seed={seed}"
)
WORLD_MODEL = (
    "model.loss.action=0 model.loss.world_model_on_robot=1 trainer=demo trainer.lr_backbone=2e-3 trainer.lr_rest=4e-3 "
    "trainer.eval_every=0 trainer.count_flops=false"
)
"""Small batches and high rates while words are bound to their things."""

POLICY = "trainer=libero_small trainer.eval_every=0"
MOTION, WORDS = "true_motion", "words"
STAND_IN = "model.freeze=[student,action_head]"


@dataclass(frozen=True)
class Part:
    """A command, and what it has to do: so many of what its `kind` counts, see `prediction.COSTS`."""

    command: Command
    kind: str
    amount: float


def collected(name: str) -> str:
    """The file that is written last of demonstrations."""
    return f"demonstrations/{name}/collected.json"


def verdict(name: str) -> str:
    """The file that is written last of a build."""
    return f"builds/{name}/audit/verdict.json"


def held_out(name: str) -> str:
    """The file that is written last of a training."""
    return f"runs/{name}/held_out.json"


def probes(name: str) -> str:
    """The file of a run's probes."""
    return f"runs/{name}/{PROBES_FILE}"


def results(name: str) -> str:
    """The file that is written last of an evaluation."""
    return f"results/{name}/results.json"


def collecting(s: LiberoStudyConfig, name: str, tasks: Sequence[int], episodes: int) -> Part:
    """Demonstrations of some tasks."""
    template = (
        "collect simulator={s.simulator} suite={s.suite} task={tasks} episodes={episodes} shadows=false format=lerobot "
        f"pixels={PIXELS} fps={FPS} processes={{s.processes}} out={{s.out}}/demonstrations/{{name}}"
    )
    words = command_words(template, s=s, tasks=as_list(tasks), episodes=episodes, name=name)
    return Part(Command(f"collect-{name}", words, collected(name)), "collect", len(tasks) * episodes)


def building(
    s: LiberoStudyConfig, name: str, data: str, episodes: int, first_frames: bool = False, limit: int | None = None
) -> Iterator[Part]:
    """A build and its audit.

    Args:
        data: name of the demonstrations;  episodes: how many of them are used.
        first_frames: the first frame of each alone.
        limit: the first so many alone; None: all.
    """
    template = (
        "preprocess source=libero_scripted source.root={s.out}/demonstrations/{data}/lerobot source.val_share=0.1 "
        "encoder=tiny encoder.mode=tubelet latents.dtype=int8 window.interval=3 window.end=pad "
        f"inputs.image_size={PIXELS} window.every={{every}} out={{s.out}}/builds/{{name}}"
    )
    words = command_words(template, s=s, data=data, name=name, every=LATER if first_frames else 1)
    words = (*words, *(() if limit is None else (f"limit={limit}",)))
    made, windows = f"builds/{name}/build.json", float(episodes * (1 if first_frames else FRAMES))
    yield Part(Command(f"preprocess-{name}", words, made, (collected(data),)), "preprocess", windows)
    audit = command_words("audit {s.out}/builds/{name}", s=s, name=name)
    yield Part(Command(f"audit-{name}", audit, verdict(name), (made,)), "audit", windows)


def pretraining(s: LiberoStudyConfig, name: str, build: str, seed: int, own: Sequence[str] = ()) -> Part:
    """A world model. `own`: what makes it another one."""
    words = (*_train(s, name, build, seed), *WORLD_MODEL.split(), f"trainer.steps={s.pretrain_steps}", *own)
    return Part(Command(f"train-{name}", words, held_out(name), (verdict(build),)), "world model", s.pretrain_steps)


def probing(s: LiberoStudyConfig, name: str, data: str) -> Part:
    """Whether a world model's latent actions tell where the named thing stands."""
    template = "probe-latents {s.out}/runs/{name} truth=[{s.out}/demonstrations/{data}/lerobot/truth.jsonl]"
    words = command_words(template, s=s, name=name, data=data)
    return Part(Command(f"probe-{name}", words, probes(name), (held_out(name),)), "probe", 1)


def fine_tuning(s: LiberoStudyConfig, name: str, build: str, seed: int, start: str | None, steps: int) -> Part:
    """A policy, from the run `start` or from random weights."""
    words = (*_train(s, name, build, seed), *POLICY.split(), f"trainer.steps={steps}")
    words = (*words, f"trainer.warmup_steps={min(200, steps // 10)}")
    needs: tuple[str, ...] = (verdict(build),)
    if start is not None:
        words, needs = (*words, f"init_from={s.out}/runs/{start}", "fine_tuning=true"), (*needs, held_out(start))
    return Part(Command(f"train-{name}", words, held_out(name), needs), "policy", steps)


def evaluating(
    s: LiberoStudyConfig, name: str, policy: str, tasks: Sequence[int], own: Sequence[str] = (), videos: int = 0
) -> Part:
    """A policy, or `script`, in the closed loop; `own`: a control."""
    template = (
        "evaluate policy={policy} simulator={s.simulator} suite={s.suite} tasks={tasks} episodes={s.episodes} "
        f"pixels={PIXELS} shadows=false environments={{s.processes}} videos={{videos}} out={{s.out}}/results/{{name}}"
    )
    script = policy == "script"
    acting = policy if script else f"{s.out}/runs/{policy}"
    words = command_words(template, s=s, policy=acting, tasks=as_list(tasks), videos=videos, name=name)
    words = (*words, *(() if script else (f"execute={s.execute}",)), *own)
    needs = () if script else (held_out(policy),)
    steps = len(tasks) * s.episodes * STEP_LIMITS.get(s.suite, max(STEP_LIMITS.values()))
    command = Command(f"evaluate-{name}", words, results(name), needs)
    return Part(command, "script" if script else "evaluate", steps)


def as_list(numbers: Sequence[int]) -> str:
    """On the command line."""
    return "[" + ",".join(map(str, numbers)) + "]"


def _train(s: LiberoStudyConfig, name: str, build: str, seed: int) -> tuple[str, ...]:
    template = f"train builds=[{{out}}/builds/{{build}}] out={{out}}/runs/{{name}} {MODEL}"
    return command_words(template, out=s.out, build=build, name=name, seed=seed)
