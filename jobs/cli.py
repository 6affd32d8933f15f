"""`vlajepa COMMAND`: picks the command; each one is a Hydra application.

Exit codes: 0 success, 1 a leak was found (audit) or a build is not the audited one (verify), 2 the run could not be
done, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, cast

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from jobs.common.child import end_with_parent
from jobs.common.config import parse, register_defaults, secrets, unreadable_secret
from jobs.common.signals import ended_like_interrupted
from jobs.typed_values import as_typed, is_setting, quoted
from pipeline.errors import RunError
from pipeline.format.printable import printable


@dataclass(frozen=True)
class Command:
    """One command: its module below `jobs`, its settings in the `settings.py` beside it, and a line of help.

    first          setting that a first argument without `=` sets
    reads_dataset  it has `source=`, for which the manifests have to be choices
    """

    module: str
    settings: str
    text: str
    first: str = ""
    reads_dataset: bool = False

    @property
    def config(self) -> str:
        """Name of its configuration."""
        return self.module.rpartition(".")[2]

    def settings_class(self) -> type[Any]:
        """The class of its settings, imported when it is needed."""
        module = importlib.import_module(f"jobs.{self.module.rpartition('.')[0]}.settings")
        return cast(type[Any], getattr(module, self.settings))


COMMANDS = {
    "sources": Command(
        "datasets.sources", "SourcesConfig", "list the datasets with manifests, or show one", first="name"
    ),
    "inspect": Command(
        "datasets.inspect", "InspectConfig", "compare a dataset folder with its manifest", reads_dataset=True
    ),
    "plan": Command(
        "preprocess.plan", "BuildConfig", "shards, samples, bytes and encoder FLOPs of a build", reads_dataset=True
    ),
    "preprocess": Command(
        "preprocess.preprocess", "BuildConfig", "make a build on a Ray cluster, or continue it", reads_dataset=True
    ),
    "extend": Command(
        "preprocess.extend",
        "ExtendConfig",
        "a build and its dataset's new episodes, as a new build",
        reads_dataset=True,
    ),
    "merge": Command("preprocess.merge", "MergeConfig", "a new build of several with the same settings"),
    "drop": Command("preprocess.drop", "DropConfig", "a new build without some episodes, as for a takedown request"),
    "status": Command(
        "preprocess.status", "StatusConfig", "how far a preprocessing run is, or was when it stopped", first="build"
    ),
    "audit": Command(
        "audit.audit",
        "AuditConfig",
        "prove from a build's bytes that no input holds anything of the future",
        first="build",
    ),
    "verify": Command(
        "audit.verify",
        "VerifyConfig",
        "check that a build is the one that was audited, and who signed it",
        first="build",
    ),
    "probe": Command(
        "audit.probe",
        "ProbeConfig",
        "which later frames move the context that another pipeline makes",
        first="function",
    ),
    "train": Command("training.train", "TrainConfig", "train on audited builds"),
    "report": Command(
        "report.report", "ReportConfig", "a training run as one page: curves, held-out numbers, latents", first="run"
    ),
    "estimate": Command("training.estimate", "EstimateConfig", "memory and FLOPs of a training step at any batch size"),
    "evaluate": Command(
        "closed_loop.evaluate.evaluate", "EvaluateConfig", "success rates of a policy in LIBERO or SimplerEnv"
    ),
    "collect": Command(
        "closed_loop.collect.collect", "CollectConfig", "scripted demonstrations in LIBERO, as LeRobot and HDF5"
    ),
    "serve": Command("serving.serve", "ServeConfig", "a checkpoint as a policy server for robots and evaluators"),
    "import": Command(
        "training.import_checkpoint", "ImportConfig", "a checkpoint from the reference's .pt or a LeRobot folder"
    ),
    "export": Command(
        "training.export_checkpoint", "ExportConfig", "a checkpoint as a LeRobot folder or the reference's .pt"
    ),
    "sample-data": Command(
        "datasets.sample_data", "SampleDataConfig", "a small tabletop world as SSv2 and LeRobot folders"
    ),
    "probe-latents": Command(
        "probes.probe_latents", "ProbeLatentsConfig", "what a run's latent actions hold, by linear probes", first="run"
    ),
    "demo": Command("demos.demo", "DemoConfig", "sample data to trained checkpoint, with a summary at the end"),
    "demo-steering": Command(
        "demos.demo_steering",
        "DemoSteeringConfig",
        "what demo's latent actions are worth, beside baselines",
    ),
    "demo-pretraining": Command(
        "demos.pretraining.demo_pretraining",
        "DemoPretrainingConfig",
        "what a world model pretrained without actions is worth to a policy",
    ),
    "demo-libero": Command(
        "demos.demo_libero", "DemoLiberoConfig", "demonstrations in LIBERO to an evaluated policy, with a report"
    ),
    "demo-leak": Command(
        "demos.demo_leak",
        "DemoLeakConfig",
        "what the future leaves in the context, by the reference's encoding and ours",
    ),
}
CONFIGS = str(Path(__file__).parent / "conf")

HYDRA_FLAGS = (
    "cfg",
    "config-dir",
    "config-name",
    "config-path",
    "experimental-rerun",
    "help",
    "hydra-help",
    "info",
    "multirun",
    "package",
    "resolve",
    "run",
    "shell-completion",
    "version",
)
"""Flags of Hydra; any other `--name value` means the setting `name=value`."""

USAGE = """usage: vlajepa COMMAND [setting=value …]

{commands}

vlajepa COMMAND --help shows its settings, --cfg job prints the configuration it would run with.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:{width}}  {command.text}" for name, command in COMMANDS.items()]
        sys.stdout.write(USAGE.format(commands="\n".join(lines)))
        raise SystemExit(0 if words else 2)
    name, *overrides = words
    overrides = _flags_to_settings(overrides)
    if name not in COMMANDS:
        _fail(f"no command {name!r}{_nearest(name, COMMANDS)}; there are {', '.join(COMMANDS)}")
    command = COMMANDS[name]
    if name == "drop":
        overrides = _joined(overrides, "episode", "episodes")
    if command.first and overrides and not is_setting(overrides[0]) and not overrides[0].startswith("-"):
        overrides[0] = f"{command.first}={overrides[0]}"
    for before, word in zip([name, *overrides], overrides, strict=False):
        if "=" not in word and not word.startswith(("-", "~")) and not before.startswith("-"):
            _fail(f"{word!r} is no setting; write key=value (see vlajepa {name} --help)")
    if command.reads_dataset:
        _offer_manifests(next((word.partition("=")[2] for word in overrides if word.startswith("source=")), None))
    register_defaults(command.config, command.settings_class())
    if not {"-m", "--multirun"} & set(overrides):  # where commas part the values of several runs
        overrides = _as_typed(command, overrides)
    given = [word for word in overrides if "=" in word and not word.startswith("-")]
    _check_overrides(command.config, given, secrets(command.settings_class()))
    sys.argv = [f"vlajepa {name}", *overrides]
    codes: list[int] = []
    try:
        hydra.main(version_base="1.3", config_path=CONFIGS, config_name=command.config)(_application(command, codes))()
    except SystemExit as end:
        if end.code == 1 and not codes:  # Hydra's own: it must not look like "a leak was found" either
            raise SystemExit(2) from end
        raise
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(2) from error


def _as_typed(command: Command, words: Sequence[str]) -> list[str]:
    sources: tuple[type[Any], ...] = ()
    if command.reads_dataset:
        from pipeline.sources.registry import SOURCES  # loads the readers

        sources = tuple(SOURCES.values())
    try:
        return as_typed((command.settings_class(), *sources), words)
    except RunError as error:
        _fail(error)


def _nearest(name: str, known: Iterable[str]) -> str:
    """ "; did you mean …?" if something known is like it."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {found[0]}?" if found else ""


def _fail(message: object, code: int = 2) -> NoReturn:
    sys.stderr.write("vlajepa: " + printable(message, keep="\n\t") + "\n")
    raise SystemExit(code)


def _offer_manifests(wanted: str | None) -> None:
    """Make the manifests choices of `source=`. An invalid one of the user stops the command only if it is wanted."""
    from jobs.datasets.manifests import find_manifests, register_manifests  # loads the readers

    try:
        manifests, wrong = find_manifests()
        if wanted in wrong:
            raise wrong[wanted]
        for error in wrong.values():
            sys.stderr.write(f"vlajepa: left out: {error}\n")
        register_manifests(manifests)
    except RunError as error:
        _fail(error, error.exit_code)


def _application(command: Command, codes: list[int]) -> Callable[[DictConfig], None]:
    """A command whose errors meant for people become one message and an exit code.

    The command's module is imported when it runs: --help and --cfg answer at once. Its exit code is added to `codes`.
    """

    def application(config: DictConfig) -> None:
        end_with_parent()
        try:
            with ended_like_interrupted():
                code = importlib.import_module(f"jobs.{command.module}").run(parse(command.settings_class(), config))
        except RunError as error:
            _fail(error, error.exit_code)
        except OSError as error:
            _fail(error)
        except Exception as error:  # a crash must never look like exit code 1, "a leak was found"
            traceback.print_exc()
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            _fail("interrupted; the same command continues from here", 130)
        if code:
            codes.append(code)
            raise SystemExit(code)

    return application


def _flags_to_settings(words: Sequence[str]) -> list[str]:
    """`--level source` and `--level=source` mean `level=source`."""
    result: list[str] = []
    rest = iter(words)
    for word in rest:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or name in HYDRA_FLAGS or not name:
            result.append(word)
        else:
            result.append(f"{name.replace('-', '_')}={value if equals else next(rest, '')}")
    return result


def _joined(words: Sequence[str], one: str, many: str) -> list[str]:
    """`one=A one=B` means `many=[A,B]`: of two values for a setting Hydra would take the last alone."""
    values = [quoted(word.partition("=")[2]) for word in words if word.startswith(f"{one}=")]
    if len(values) < 2:
        return list(words)
    rest = [word for word in words if not word.startswith((f"{one}=", f"{many}="))]
    lists = [word.partition("=")[2].strip("[]") for word in words if word.startswith(f"{many}=")]
    return [*rest, f"{many}=[{','.join([*values, *filter(None, lists)])}]"]


def _check_overrides(name: str, overrides: Sequence[str], secret: Sequence[str]) -> None:
    """Compose the configuration once ahead of Hydra, to name a wrong override with what is allowed in its place. What
    is secret is not repeated."""
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        error = _composition_error(name, overrides)
        if error is None:
            return
        for i, override in enumerate(overrides):
            one = _composition_error(name, overrides[: i + 1])
            if one is None:
                continue
            key = override.split("=")[0].lstrip("+~")
            if key in secret:
                _fail(unreadable_secret(key))
            _fail(_explain(name, overrides[:i], override, one))
        _fail(error)


def _composition_error(name: str, overrides: Sequence[str]) -> HydraException | None:
    try:
        compose(name, list(overrides))
    except HydraException as error:
        return error
    return None


def _explain(name: str, good: Sequence[str], override: str, error: Exception) -> str:
    key = override.split("=")[0].lstrip("+~")
    root = compose(name, list(good))
    parent, _, leaf = key.rpartition(".")
    node: Any = OmegaConf.select(root, parent) if parent else root
    group = Path(CONFIGS) / key
    if group.is_dir() and (key in root or key == "experiment"):
        stored = ConfigStore.instance().list(key) if key == "source" else []
        choices = {path.stem for path in group.glob("*.yaml")} | {Path(file).stem for file in stored}
        allowed = f"; there are {', '.join(sorted(choices))}"
    else:
        known = [str(name) for name in node] if isinstance(node, DictConfig) else []
        allowed = (
            f"{_nearest(leaf, known) if leaf not in known else ''}; allowed here: {', '.join(known)}" if known else ""
        )
    cause = str(error.__cause__ or error).strip().splitlines()[0]
    return f"{override!r} cannot be applied: {cause}{allowed}"


if __name__ == "__main__":
    main()
