"""The commands of `vlajepa`, called from Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from jobs.command_line.commands import COMMANDS
from jobs.command_line.config_groups import config_groups
from jobs.command_line.python_values import words_of
from jobs.command_line.refusal import nearest
from pipeline.errors import SettingsError

if TYPE_CHECKING:
    from jobs.audit.compare import BuildsCompared
    from jobs.audit.verify import Verification
    from jobs.closed_loop.evaluate.report import EvaluationReport
    from jobs.datasets.inspect import Inspected
    from jobs.datasets.manifests import DatasetManifest
    from jobs.latent_probes.probe_latents import Probe
    from jobs.preprocess.plan import Preparation
    from jobs.preprocess.status import Status
    from jobs.sharing.contents import Pushed
    from jobs.training.ended import TrainedRun
    from model.estimate import StepEstimate
    from pipeline.audit.probe.result import ProbeResult
    from pipeline.audit.verdicts.verdict import Verdict
    from pipeline.format.build import Build

Settings = Mapping[str, Any]

_SERVERS = ("serve",)
"""Commands that end when they are told to."""


@overload
def run(command: Literal["sources"], settings: Settings = ...) -> tuple[DatasetManifest, ...]: ...
@overload
def run(command: Literal["inspect"], settings: Settings = ...) -> Inspected: ...
@overload
def run(command: Literal["plan"], settings: Settings = ...) -> Preparation: ...
@overload
def run(command: Literal["preprocess", "merge", "drop"], settings: Settings = ...) -> Build: ...
@overload
def run(command: Literal["extend"], settings: Settings = ...) -> Build | None: ...
@overload
def run(command: Literal["status"], settings: Settings = ...) -> Status: ...
@overload
def run(command: Literal["audit"], settings: Settings = ...) -> Verdict | BuildsCompared: ...
@overload
def run(command: Literal["verify"], settings: Settings = ...) -> Verification: ...
@overload
def run(command: Literal["probe"], settings: Settings = ...) -> ProbeResult: ...
@overload
def run(command: Literal["push"], settings: Settings = ...) -> Pushed: ...
@overload
def run(command: Literal["train"], settings: Settings = ...) -> TrainedRun: ...
@overload
def run(command: Literal["estimate"], settings: Settings = ...) -> StepEstimate: ...
@overload
def run(command: Literal["evaluate"], settings: Settings = ...) -> EvaluationReport: ...
@overload
def run(command: Literal["collect"], settings: Settings = ...) -> dict[str, Any]: ...
@overload
def run(command: Literal["report", "import", "export", "view"], settings: Settings = ...) -> Path: ...
@overload
def run(command: Literal["sample-data"], settings: Settings = ...) -> tuple[Path, Path]: ...
@overload
def run(command: Literal["probe-latents"], settings: Settings = ...) -> list[Probe]: ...
@overload
def run(
    command: Literal[
        "demo", "demo-steering", "demo-pretraining", "demo-libero", "demo-libero-pretraining", "demo-leak"
    ],
    settings: Settings = ...,
) -> Path: ...


def run(command: str, settings: Settings | None = None) -> Any:
    """Run a command in this process; it prints what it prints in a shell.

    Args:
        command: its name, as in `vlajepa --help`.
        settings: by name with dots, or nested; see `jobs.command_line.python_values.words_of`. A text means what it
            says, whatever characters are in it; `~` at its beginning is the home folder.

    Returns:
        What the command made. Where the exit code in a shell says what was found (audit, verify, inspect, probe), it is
        the result's `exit_code`.

    Raises:
        RunError: what a shell would show with exit code 2; SettingsError where a setting is wrong.
    """
    if command not in COMMANDS:
        raise SettingsError(f"no command {command!r}{nearest(command, COMMANDS)}; there are {', '.join(COMMANDS)}")
    if command in _SERVERS:
        raise SettingsError(f"{command} runs until it is stopped: start vlajepa {command} in a shell")
    from jobs.command_line.hydra_application import call_command  # a second of imports

    chosen = COMMANDS[command]
    choices = {*config_groups(chosen.config), "experiment"}
    return call_command(chosen, words_of(settings or {}, choices))
