"""The commands of `vlajepa demo-pretraining`, each as a user could type it."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.demos.command_runner import Command, command_words
from jobs.demos.demo import VARIETY
from jobs.demos.pretraining.conditions import Policy, policies, world_models
from jobs.demos.pretraining.settings import DemoPretrainingConfig
from jobs.demos.pretraining.start import Start
from jobs.latent_probes.probe_latents import PROBES_FILE

PIXELS = 64
TRUTH = "data/lerobot/truth.jsonl"
DATA = (
    f"sample-data out={{s.out}}/data clips=4 episodes={{s.episodes}} twins={{s.twins}} size={PIXELS} "
    f"seed={{s.world_seed}} {VARIETY}"
)
BUILD = (
    "preprocess source=lerobot source.root={s.out}/data/lerobot window.every=7 encoder=tiny "
    f"inputs.image_size={PIXELS} out={{s.out}}/{{build}}"
)
TRAIN = (
    "train builds=[{s.out}/{build}] out={s.out}/runs/{name} model=tiny model.predictor.views=1 model.predictor.dim=96 "
    "model.predictor.depth={s.predictor_layers} model.backbone.tiny.layers={s.student_layers} "
    "trainer=demo trainer.eval_every=0 trainer.eval_samples=200 trainer.seed={seed} model.seed={seed}"
)
ACTION_FREE = "model.loss.action=0 model.loss.world_model_on_robot=1 trainer.lr_backbone=2e-3 trainer.lr_rest=4e-3"
"""As `vlajepa demo` trains the world model, without its action loss."""
WARMUP = 50


def build(demonstrations: int | None) -> str:
    """Folder of the build of so many demonstrations; None: of all episodes."""
    return f"builds/{demonstrations or 'all'}"


def held_out(run: str) -> str:
    """The file that a training writes last."""
    return f"runs/{run}/held_out.json"


def commands(settings: DemoPretrainingConfig) -> Iterator[Command]:
    """Data and builds once; then seed by seed the world models, their probes, and the policies."""
    yield Command("data", command_words(DATA, s=settings), TRUTH)
    for count in (None, *sorted(settings.demonstrations)):
        yield from _building(settings, count)
    for seed in settings.seeds:
        for start in world_models(settings):
            yield from _pretraining(settings, start, seed)
        yield from (_fine_tuning(settings, policy) for policy in policies(settings) if policy.seed == seed)


def _building(settings: DemoPretrainingConfig, count: int | None) -> Iterator[Command]:
    folder, limit = build(count), () if count is None else (f"limit={count}",)
    words = (*command_words(BUILD, s=settings, build=folder), *limit)
    yield Command(f"preprocess-{count or 'all'}", words, f"{folder}/build.json", (TRUTH,))
    audit = command_words("audit {s.out}/{build}", s=settings, build=folder)
    yield Command(f"audit-{count or 'all'}", audit, _verdict(count), (f"{folder}/build.json",))


def _pretraining(settings: DemoPretrainingConfig, start: Start, seed: int) -> Iterator[Command]:
    name = start.world_model(seed)
    words = (
        *command_words(TRAIN, s=settings, build=build(None), name=name, seed=seed),
        *command_words(ACTION_FREE),
        *start.words,
        f"trainer.steps={settings.pretrain_steps}",
    )
    yield Command(f"train-{name}", words, held_out(name), (_verdict(None),))
    probe = command_words(
        "probe-latents {s.out}/runs/{name} truth=[{s.out}/{truth}]", s=settings, name=name, truth=TRUTH
    )
    yield Command(f"probe-{name}", probe, f"runs/{name}/{PROBES_FILE}", (held_out(name),))


def _fine_tuning(settings: DemoPretrainingConfig, policy: Policy) -> Command:
    kind, s = policy.kind, settings
    words = (
        *command_words(TRAIN, s=s, build=build(kind.demonstrations), name=policy.name, seed=policy.seed),
        f"model.action_head.reads={kind.reads.value}",
        f"trainer.steps={s.steps}",
        f"trainer.warmup_steps={min(WARMUP, s.steps)}",
        f"trainer.lr_backbone={s.lr_backbone:g}",
        f"trainer.lr_action_head={s.lr_action_head:g}",
        f"trainer.lr_rest={s.lr_rest:g}",
    )
    needs: tuple[str, ...] = (_verdict(kind.demonstrations),)
    if kind.start is not Start.SCRATCH:
        world_model = kind.start.world_model(policy.seed)
        words = (*words, f"init_from={s.out}/runs/{world_model}", "fine_tuning=true")
        needs = (*needs, held_out(world_model))
    return Command(f"train-{policy.name}", words, held_out(policy.name), needs)


def _verdict(demonstrations: int | None) -> str:
    return f"{build(demonstrations)}/audit/verdict.json"
