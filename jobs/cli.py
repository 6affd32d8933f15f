"""`vlajepa COMMAND`: picks the command; each one is a Hydra application of its own.

Exit codes: 0 success, 1 a leak was found (audit) or a build is not the audited one (verify), 2 the run could not be
done, 130 interrupted.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from pipeline.errors import RunError

COMMANDS = {
    "sources": "list the datasets there are manifests for, or all that is known about one",
    "inspect": "what a dataset folder really holds, beside its manifest, with a contact sheet",
    "plan": "list a dataset's shards, samples, bytes and encoder FLOPs before anything runs",
    "preprocess": "make the shards on a Ray cluster; run again to continue after an interruption",
    "extend": "a new build: a finished one and the episodes that its dataset has gained since",
    "merge": "a new build of several that were made in parts, with the same settings",
    "drop": "a new build without some episodes of a finished one, as for a takedown request",
    "status": "how far a preprocessing run is, while it runs or after it was killed",
    "audit": "prove from a build's bytes that nothing of the future reached an input",
    "verify": "check that a build is the one whose verdict was clean, and who signed it",
    "train": "train on audited builds",
    "report": "a training run as one page: curves, held-out numbers, predicted latents",
    "estimate": "memory and FLOPs of a training step at any batch size, before anything runs",
    "evaluate": "success rates of a policy in the closed loop of LIBERO, with intervals and videos",
    "collect": "scripted demonstrations in LIBERO as a LeRobot and an HDF5 dataset",
    "serve": "a checkpoint as a policy server that robots and other evaluators ask over WebSocket",
    "import": "make a checkpoint of a released one: the reference's .pt or a LeRobot vla_jepa folder",
    "export": "write a checkpoint as a LeRobot vla_jepa folder or the reference's .pt",
    "sample-data": "write a small tabletop world as an SSv2 folder and a LeRobot folder",
    "demo": "sample data to trained checkpoint, with a summary at the end",
    "demo-libero": "demonstrations in LIBERO to a policy in its closed loop, with controls and a report",
    "demo-leak": "what the future leaves in the context: the reference's encoding beside ours, with plots",
}
CONFIGS = str(Path(__file__).parent / "conf")

MODULES = {"import": "import_checkpoint", "export": "export_checkpoint", "inspect": "inspect_dataset"}
"""Module and configuration of a command, where it cannot be named like the command (`import` is a word of Python)."""

READS_DATASETS = ("inspect", "plan", "preprocess", "extend")
"""Commands with `source=`, for which the manifests have to be choices."""

HYDRA_FLAGS = (
    "cfg", "config-dir", "config-name", "config-path", "experimental-rerun", "help", "hydra-help", "info", "multirun",
    "package", "resolve", "run", "shell-completion", "version",
)  # fmt: skip
"""Flags that Hydra answers itself; any other `--name value` stands for the setting `name=value`."""

POSITIONAL = {"audit": "build", "status": "build", "verify": "build", "sources": "name", "report": "run"}
"""Setting that a first argument without `=` stands for."""

USAGE = """usage: vlajepa COMMAND [setting=value …]

{commands}

vlajepa COMMAND --help shows its settings, --cfg job prints the configuration it would run with.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        width = max(map(len, COMMANDS))
        lines = [f"  {name:{width}}  {text}" for name, text in COMMANDS.items()]
        sys.stdout.write(USAGE.format(commands="\n".join(lines)))
        raise SystemExit(0 if words else 2)
    command, *overrides = words
    overrides = _flags_to_settings(overrides)
    if command not in COMMANDS:
        sys.stderr.write(f"vlajepa: no command {command!r}; there are {', '.join(COMMANDS)}\n")
        raise SystemExit(2)
    if command == "drop":
        overrides = _joined(overrides, "episode", "episodes")
    if command in POSITIONAL and overrides and "=" not in overrides[0] and not overrides[0].startswith("-"):
        overrides[0] = f"{POSITIONAL[command]}={overrides[0]}"
    name = MODULES.get(command, command.replace("-", "_"))
    for before, word in zip([command, *overrides], overrides, strict=False):
        if "=" not in word and not word.startswith(("-", "~")) and not before.startswith("-"):
            sys.stderr.write(f"vlajepa: {word!r} is no setting; write key=value (see vlajepa {command} --help)\n")
            raise SystemExit(2)
    if command in READS_DATASETS:
        _offer_manifests(next((word.partition("=")[2] for word in overrides if word.startswith("source=")), None))
    _check_overrides(name, [word for word in overrides if "=" in word and not word.startswith("-")])
    sys.argv = [f"vlajepa {command}", *overrides]
    hydra.main(version_base="1.3", config_path=CONFIGS, config_name=name)(_command(name))()


def _offer_manifests(wanted: str | None) -> None:
    """Make the manifests choices of `source=`. A wrong one of the user's stops only who wants it."""
    from jobs.manifests import find_manifests, register_manifests  # loads the readers, which other commands do without

    try:
        manifests, wrong = find_manifests()
        if wanted in wrong:
            raise wrong[wanted]
        for error in wrong.values():
            sys.stderr.write(f"vlajepa: left out: {error}\n")
        register_manifests(manifests)
    except RunError as error:
        sys.stderr.write(f"vlajepa: {error}\n")
        raise SystemExit(error.exit_code) from error


def _command(name: str) -> Callable[[DictConfig], None]:
    """A command whose errors meant for people become one message and an exit code.

    The command's module is imported when it runs: --help and --cfg answer at once.
    """

    def command(config: DictConfig) -> None:
        try:
            code = importlib.import_module(f"jobs.{name}").run(config)
        except RunError as error:
            sys.stderr.write(f"vlajepa: {error}\n")
            raise SystemExit(error.exit_code) from error
        except OSError as error:
            sys.stderr.write(f"vlajepa: {error}\n")
            raise SystemExit(2) from error
        except Exception as error:  # a crash must never pass for exit code 1, "a leak was found"
            traceback.print_exc()
            raise SystemExit(2) from error
        except KeyboardInterrupt as error:
            sys.stderr.write("vlajepa: interrupted; the same command continues from here\n")
            raise SystemExit(130) from error
        if code:
            raise SystemExit(code)

    return command


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
    """`one=A one=B` means `many=[A,B]`: of two values for a setting Hydra would take the last and forget the first."""
    values = [word.partition("=")[2] for word in words if word.startswith(f"{one}=")]
    if len(values) < 2:
        return list(words)
    rest = [word for word in words if not word.startswith((f"{one}=", f"{many}="))]
    lists = [word.partition("=")[2].strip("[]") for word in words if word.startswith(f"{many}=")]
    return [*rest, f"{many}=[{','.join([*values, *filter(None, lists)])}]"]


def _check_overrides(name: str, overrides: Sequence[str]) -> None:
    """Compose the configuration once ahead of Hydra, to name a wrong override with what is allowed in its place."""
    with initialize_config_dir(CONFIGS, version_base="1.3"):
        error = _composition_error(name, overrides)
        if error is None:
            return
        for i, override in enumerate(overrides):
            one = _composition_error(name, overrides[: i + 1])
            if one is not None:
                sys.stderr.write(f"vlajepa: {_explain(name, overrides[:i], override, one)}\n")
                break
        else:
            sys.stderr.write(f"vlajepa: {error}\n")
    raise SystemExit(2)


def _composition_error(name: str, overrides: Sequence[str]) -> HydraException | None:
    try:
        compose(name, list(overrides))
    except HydraException as error:
        return error
    return None


def _explain(name: str, good: Sequence[str], override: str, error: Exception) -> str:
    key = override.split("=")[0].lstrip("+~")
    root = compose(name, list(good))
    parent, _, _leaf = key.rpartition(".")
    node: Any = OmegaConf.select(root, parent) if parent else root
    group = Path(CONFIGS) / key
    if group.is_dir() and (key in root or key == "experiment"):
        stored = ConfigStore.instance().list(key) if key == "source" else []
        choices = {path.stem for path in group.glob("*.yaml")} | {Path(file).stem for file in stored}
        allowed = f"; there are {', '.join(sorted(choices))}"
    else:
        allowed = f"; allowed here: {', '.join(map(str, node))}" if isinstance(node, DictConfig) else ""
    cause = str(error.__cause__ or error).strip().splitlines()[0]
    return f"{override!r} cannot be applied: {cause}{allowed} (jobs/conf/{name}.yaml and its groups)"


if __name__ == "__main__":
    main()
