"""A command as a Hydra application: its configuration composed, checked and handed over, its errors as messages."""

from __future__ import annotations

import importlib
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from jobs.command_line.commands import Command
from jobs.command_line.refusal import nearest, refuse
from jobs.command_line.typed_values import as_typed
from jobs.common.config import FOLDER, parse, register_defaults, secrets, unreadable_secret
from jobs.common.escaped import escaped_output
from jobs.common.processes.child import end_with_parent
from jobs.common.processes.signals import ended_like_interrupted
from pipeline.errors import RunError, SettingsError
from pipeline.format.text.printable import printable


def run_command(name: str, command: Command, overrides: Sequence[str]) -> None:
    """Run a command with these words. Raises SystemExit with its exit code when that is not 0."""
    try:
        words = checked_words(command, overrides)
    except RunError as error:
        refuse(error, error.exit_code)
    sys.argv = [f"vlajepa {name}", *words]
    codes: list[int] = []
    try:
        hydra.main(version_base="1.3", config_path=str(FOLDER), config_name=command.config)(
            _application(command, codes)
        )()
    except SystemExit as end:
        if end.code == 1 and not codes:  # Hydra's own: it must not look like "a leak was found" either
            raise SystemExit(2) from end
        raise
    except Exception as error:
        traceback.print_exc()
        raise SystemExit(2) from error


def checked_words(command: Command, overrides: Sequence[str]) -> list[str]:
    """The words of a command for Hydra, which has then been told the command's defaults and choices.

    Raises:
        RunError: a setting has a wrong name or value, which is named with what is allowed; or a manifest is wrong.
    """
    words = list(overrides)
    if {"-m", "--multirun"} & set(words):
        raise SettingsError(
            "-m (several runs of one line) is not offered, as each needs an out= of its own; in a shell: "
            "for lr in 1e-3 3e-3; do vlajepa train … trainer.lr_rest=$lr out=/runs/lr-$lr; done"
        )
    if command.reads_dataset:
        offer_manifests(next((word.partition("=")[2] for word in words if word.startswith("source=")), None))
    register_defaults(command.config, command.settings_class())
    words = _as_typed(command, words)
    given = [word for word in words if "=" in word and not word.startswith("-")]
    _check_overrides(command.config, given, secrets(command.settings_class()))
    return words


_CALLS = threading.Lock()
"""Hydra's state and standard output are the process's."""


def call_command(command: Command, overrides: Sequence[str]) -> Any:
    """Run a command in this process. Returns its result.

    Raises:
        RunError: the message that the command line would print.
        OSError: likewise.
    """
    if not _CALLS.acquire(blocking=False):
        raise RunError("another command is at work in this process; call them one after the other")
    try:
        words = checked_words(command, overrides)
        with initialize_config_dir(str(FOLDER), version_base="1.3"):
            HydraConfig.instance().set_config(compose(command.config, words, return_hydra_config=True))
            settings = parse(command.settings_class(), compose(command.config, words))
            with escaped_output():
                return importlib.import_module(f"jobs.{command.module}").run(settings)
    finally:
        _CALLS.release()


def _as_typed(command: Command, words: Sequence[str]) -> list[str]:
    sources: tuple[type[Any], ...] = ()
    if command.reads_dataset:
        from pipeline.sources.registry import SOURCES  # loads the readers

        sources = tuple(SOURCES.values())
    return as_typed((command.settings_class(), *sources), words)


def offer_manifests(wanted: str | None) -> None:
    """Make the manifests choices of `source=`. An invalid one of the user raises RunError only if it is wanted."""
    from jobs.datasets.manifests import find_manifests, register_manifests  # loads the readers

    manifests, wrong = find_manifests()
    if wanted in wrong:
        raise wrong[wanted]
    for error in wrong.values():
        sys.stderr.write(f"vlajepa: left out: {error}\n")
    register_manifests(manifests)


def _application(command: Command, codes: list[int]) -> Callable[[DictConfig], None]:
    """A command whose errors meant for people become one message and an exit code.

    The command's module is imported when it runs: --help and --cfg answer at once. The exit code of its result, where
    that has one, is added to `codes`.
    """

    def application(config: DictConfig) -> None:
        end_with_parent()
        try:
            with escaped_output() as output, ended_like_interrupted():
                result = importlib.import_module(f"jobs.{command.module}").run(parse(command.settings_class(), config))
            code = getattr(result, "exit_code", 0)
            if output.error is not None and not code:
                refuse(f"done, but what it says could not be printed: {output.error.strerror}")
        except RunError as error:
            refuse(error, error.exit_code)
        except OSError as error:
            refuse(error)
        except Exception as error:  # a crash must never look like exit code 1, "a leak was found"
            sys.stderr.write(printable(traceback.format_exc(), keep="\n\t"))
            raise SystemExit(2) from error
        except KeyboardInterrupt:
            refuse("interrupted; the same command continues from here", 130)
        if code:
            codes.append(code)
            raise SystemExit(code)

    return application


def _check_overrides(name: str, overrides: Sequence[str], secret: Sequence[str]) -> None:
    """Compose the configuration once ahead of Hydra, to name a wrong override with what is allowed in its place. What
    is secret is not repeated. Raises SettingsError."""
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        error = _composition_error(name, overrides)
        if error is None:
            return
        for i, override in enumerate(overrides):
            one = _composition_error(name, overrides[: i + 1])
            if one is None:
                continue
            key = override.split("=")[0].lstrip("+~")
            raise SettingsError(
                unreadable_secret(key) if key in secret else _explain(name, overrides[:i], override, one)
            ) from None
        raise SettingsError(str(error)) from None


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
    group = FOLDER / key
    if group.is_dir() and (key in root or key == "experiment"):
        stored = ConfigStore.instance().list(key) if key == "source" else []
        choices = {path.stem for path in group.glob("*.yaml")} | {Path(file).stem for file in stored}
        allowed = f"; there are {', '.join(sorted(choices))}"
    else:
        known = [str(each) for each in node] if isinstance(node, DictConfig) else []
        if known and leaf not in known:
            what = f"{name} has no setting {key!r}{nearest(leaf, known)}"
            return f"{what}; {parent or 'it'} has {', '.join(known)}"
        allowed = f"; allowed here: {', '.join(known)}" if known else ""
    cause = str(error.__cause__ or error).strip().splitlines()[0]
    return f"{override!r} cannot be applied: {cause}{allowed}"
