"""Commands that need each other's results: order, how many at a time, failures and stops, with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.demos.command_runner import Command, run_commands
from pipeline.errors import RunError

SCRIPT = """
import os, signal, sys, time
from pathlib import Path

out, name, does = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def note(what):
    with open(out / "events.txt", "a") as file:
        file.write(f"{what} {name}\\n")
note("start")
print("threads", os.environ.get("OMP_NUM_THREADS"), flush=True)
if does == "fail":
    print("the reason")
    sys.exit(3)
if does == "wait":
    def stop(*_):
        note("asked")
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    (out / "waits").touch()
    time.sleep(60)
while does == "meet" and not (out / "waits").exists():
    time.sleep(0.05)
if does.startswith("sleep"):
    time.sleep(float(does[5:]))
note("end")
if does != "nothing":
    (out / f"{name}.json").write_text("{}")
if does == "late":
    time.sleep(1)
    sys.exit(1)
"""


class _Stage:
    """Commands of the script above, in a folder."""

    def __init__(self, out: Path) -> None:
        self.out, self.ended = out, list[str]()
        self.program = (sys.executable, "-c", SCRIPT, str(out))

    def command(self, name: str, does: str = "work", needs: tuple[str, ...] = ()) -> Command:
        return Command(name, (name, does), f"{name}.json", tuple(f"{need}.json" for need in needs))

    def run(self, *commands: Command, at_a_time: int = 2) -> None:
        run_commands(commands, self.out, at_a_time, lambda command, _: self.ended.append(command.name), self.program)

    @property
    def events(self) -> list[str]:
        return (self.out / "events.txt").read_text().splitlines()


@pytest.fixture
def stage(tmp_path: Path) -> _Stage:
    return _Stage(tmp_path)


def test_a_command_starts_when_what_it_needs_is_there(stage: _Stage) -> None:
    stage.run(
        stage.command("last", needs=("first", "second")),
        stage.command("second", "sleep0.5", needs=("first",)),
        stage.command("first"),
        at_a_time=3,
    )
    assert stage.events == ["start first", "end first", "start second", "end second", "start last", "end last"]
    assert stage.ended == ["first", "second", "last"]


def test_as_many_at_a_time_as_asked_for(stage: _Stage) -> None:
    stage.run(*(stage.command(name, "sleep1.5") for name in "abc"))
    begun = [event.split()[0] for event in stage.events[:3]]
    assert begun == ["start", "start", "end"]


def test_one_at_a_time_in_the_order_given(stage: _Stage) -> None:
    stage.run(*(stage.command(name) for name in "bac"), at_a_time=1)
    assert stage.events == ["start b", "end b", "start a", "end a", "start c", "end c"]


def test_what_came_to_its_end_is_not_run_again(stage: _Stage) -> None:
    stage.run(stage.command("first"))
    stage.run(stage.command("first"), stage.command("second", needs=("first",)))
    assert stage.ended == ["first", "second"]
    (stage.out / "first.json").unlink()
    stage.run(stage.command("first"), stage.command("second", needs=("first",)))
    assert stage.ended == ["first", "second", "first"]


def test_a_result_of_a_command_that_fails_after_it_counts_for_nothing(stage: _Stage) -> None:
    for _ in range(2):
        with pytest.raises(RunError, match="vlajepa audit late ended with exit code 1"):
            stage.run(stage.command("audit", "late"), stage.command("train", needs=("audit",)))
        assert (stage.out / "audit.json").exists()
    assert stage.events == ["start audit", "end audit"] * 2
    stage.run(stage.command("audit"), stage.command("train", needs=("audit",)))
    assert stage.ended == ["audit", "train"]
    (stage.out / "audit.json").unlink()  # an end of before says nothing of a failure since
    for _ in range(2):
        with pytest.raises(RunError, match="vlajepa audit late ended with exit code 1"):
            stage.run(stage.command("audit", "late"))


def test_the_cores_are_divided_unless_the_user_said_how_many(stage: _Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    cores = len(os.sched_getaffinity(0))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stage.run(stage.command("one"), at_a_time=1)
    stage.run(stage.command("many"), at_a_time=10 * cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    stage.run(stage.command("own"))
    found = [(stage.out / "logs" / f"{name}.txt").read_text() for name in ("one", "many", "own")]
    assert found == [f"threads {cores}\n", "threads 1\n", "threads 7\n"]


def test_a_failure_says_why_and_the_others_are_asked_to_end(stage: _Stage) -> None:
    with pytest.raises(
        RunError, match=r"(?s)vlajepa bad fail ended with exit code 3; .*bad\.txt ends with:\n.*the reason"
    ):
        stage.run(
            stage.command("long", "wait"), stage.command("first", "meet"), stage.command("bad", "fail", ("first",))
        )
    assert stage.events[-1] == "asked long"
    assert stage.ended == ["first"]
    assert not (stage.out / "long.json").exists()


def test_a_failure_is_not_explained_by_an_earlier_one(stage: _Stage) -> None:
    with pytest.raises(RunError, match="the reason"):
        stage.run(stage.command("bad", "fail"))
    silent = (sys.executable, "-c", "import sys; sys.exit(4)")
    with pytest.raises(RunError, match=r"exit code 4; .*ends with:\n\(it printed nothing\)$"):
        run_commands([stage.command("bad")], stage.out, 1, lambda *_: None, silent)


def test_a_command_that_ends_without_its_result_was_stopped(stage: _Stage) -> None:
    with pytest.raises(RunError, match="vlajepa quiet nothing was stopped before its end; the same command continues"):
        stage.run(stage.command("quiet", "nothing"))
    assert stage.ended == []


def test_a_need_that_no_command_makes(stage: _Stage) -> None:
    with pytest.raises(ValueError, match="no command makes what these need: second"):
        stage.run(stage.command("second", needs=("first",)))


def test_commands_that_wait_for_each_other(stage: _Stage) -> None:
    with pytest.raises(ValueError, match="no command makes what these need: chicken, egg"):
        stage.run(stage.command("chicken", needs=("egg",)), stage.command("egg", needs=("chicken",)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stop_is_passed_on_and_waited_for(stage: _Stage, number: signal.Signals) -> None:
    driver = f"""
import signal
from pathlib import Path
from jobs.common.processes.signals import ended_like_interrupted
from jobs.demos.command_runner import Command, run_commands
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where the tests run under nohup
signal.signal(signal.SIGINT, signal.default_int_handler)  # and in the background
with ended_like_interrupted():
    command = Command("long", ("long", "wait"), "long.json")
    run_commands([command], Path({str(stage.out)!r}), 1, print, {stage.program!r})
"""
    process = subprocess.Popen([sys.executable, "-c", driver], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (stage.out / "waits").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert stage.events == ["start long", "asked long"]
