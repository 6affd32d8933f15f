"""Commands called from Python: their results as objects, their refusals as exceptions, their words as values."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vlajepa
from jobs.audit.compare import BuildsCompared
from jobs.command_line.commands import COMMANDS
from jobs.command_line.python_values import words_of
from jobs.training.ended import TrainedRun
from pipeline.audit.verdicts.verdict import Verdict
from pipeline.format.build import Build
from pipeline.format.enums import AuditLevel
from tests.conftest import SampleData
from tests.jobs.runs import TRAINER

TINY = {"encoder": "tiny", "inputs.image_size": 64, "window": {"interval": 2}}


def plan_words(data: SampleData, out: Path) -> dict[str, Any]:
    return {"source": "ssv2", "source.root": data.ssv2, **TINY, "out": out}


def test_importing_it_loads_next_to_nothing() -> None:
    code = (
        "import sys, vlajepa; assert dir(vlajepa); print({m.split('.')[0] for m in sys.modules} & "
        "{'torch', 'numpy', 'hydra', 'jobs', 'pipeline', 'model', 'ray'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_every_public_name_is_there() -> None:
    assert all(getattr(vlajepa, name) is not None for name in vlajepa.__all__)
    assert set(vlajepa.__all__) <= set(dir(vlajepa))
    with pytest.raises(AttributeError, match="there are AuditRefusedError, Batches"):
        vlajepa.nothing  # noqa: B018


def test_a_plan(sample_data: SampleData, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a,b (1)=c # d's"
    made = vlajepa.run("plan", plan_words(sample_data, out))
    assert (out / "plan.json").exists()
    assert made.plan.name == "ssv2"
    assert made.plan.content["inputs"]["image_size"] == 64
    assert made.plan.content["window"]["interval"] == 2
    assert "planned in" in capsys.readouterr().out


def test_a_verdict(robot_build: Build, video_build: Build) -> None:
    found = vlajepa.run("audit", {"build": robot_build.path, "level": AuditLevel.SHARDS})
    assert isinstance(found, Verdict)
    assert (found.status, found.exit_code) == ("clean", 0)
    both = vlajepa.run("audit", {"builds": [robot_build.path, video_build.path]})
    assert isinstance(both, BuildsCompared)
    assert both.exit_code == 0
    assert vlajepa.run("verify", {"build": robot_build.path}).exit_code == 0
    assert vlajepa.run("status", {"build": robot_build.path}).state == "finished"


def test_what_is_found_is_a_result_and_not_an_error(robot_build: Build, tmp_path: Path) -> None:
    path = Path(shutil.copytree(robot_build.path, tmp_path / "build"))
    (path / "stats.json").write_bytes((path / "stats.json").read_bytes() + b" ")
    found = vlajepa.run("verify", {"build": path})
    assert found.exit_code == 1
    assert found.problem is not None
    assert "stats.json" in found.problem


def test_a_training_and_its_page(robot_build: Build, tmp_path: Path) -> None:
    trainer = {name: getattr(TRAINER, name) for name in ("batch_size", "eval_every", "eval_samples", "count_flops")}
    words = {"builds": [robot_build.path], "out": tmp_path / "run", "model": "tiny"}
    words |= {"trainer": {**trainer, "steps": 2, "warmup_steps": 1}}
    run = vlajepa.run("train", words)
    assert (run.reason, run.step, run.checkpoint.name) == ("finished", 2, "step-00000002")
    stored = json.loads((tmp_path / "run" / "held_out.json").read_bytes())
    assert run.held_out["robot"].model == stored["robot"]["model"]
    assert vlajepa.run("report", {"run": run.out, "samples": 0}) == tmp_path / "run" / "report.html"
    (run.out / "ended.json").write_text("{}")
    with pytest.raises(vlajepa.RunError, match="not what a training writes"):
        TrainedRun(run.out).reason  # noqa: B018


REFUSED = [
    ("plann", {}, "no command 'plann'; did you mean plan?"),
    ("serve", {"policy": "/x"}, "start vlajepa serve in a shell"),
    ("plan", {"source": "ssv2", "source.rooot": "/x"}, r"did you mean root\?"),
    ("plan", {"source": ["ssv2"]}, "source must be the name of a choice"),
    ("audit", {"build": ""}, "build= is empty; give a path"),
    ("audit", {"build": object()}, "build must be a text, path, number"),
    ("audit", {"build": "/nowhere", "level": "deep"}, "level"),
    ("audit", {"build": "/nowhere"}, "/nowhere: no such folder"),
    ("train", {"builds": ["/nowhere"]}, "out is not set"),
]


@pytest.mark.parametrize(("command", "settings", "message"), REFUSED)
def test_what_a_shell_would_refuse_is_raised(command: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(vlajepa.RunError, match=message):
        vlajepa.run(command, settings)


def test_values_become_words() -> None:
    settings = {
        "source.root": Path("/data/set(1)"),
        "source": "ssv2",
        "trainer": {"lr_rest": 1e-3, "bf16": True, "wandb": None},
        "cameras": ["a,b", "operator's face"],
        "level": AuditLevel.SOURCE,
        "keys": {},
    }
    assert words_of(settings, {"source"}) == [
        "source=ssv2",
        "source.root='/data/set(1)'",
        "trainer.lr_rest=0.001",
        "trainer.bf16=true",
        "trainer.wandb=null",
        r"cameras=['a,b','operator\'s face']",
        "level='source'",
        "keys={}",
    ]
    assert words_of({"out": "~/x"}) == [f"out='{Path.home()}/x'"]


def test_every_command_has_a_typed_result() -> None:
    """The overloads of `run` name every command but those that end when they are told to."""
    text = (Path(vlajepa.__file__).parent / "commands.py").read_text()
    named = {name for name in COMMANDS if f'"{name}"' in text[: text.index("def run(command: str,")]}
    assert named == set(COMMANDS)
