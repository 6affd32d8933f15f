"""`vlajepa view`: samples of a build with the audit's findings, or the rollouts of an evaluation, as a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jobs.common.escaped import escaped_errors
from jobs.viewing.recorder import recording, require_rerun
from jobs.viewing.settings import ViewConfig
from pipeline.errors import SettingsError
from pipeline.format.build import load_build


def run(settings: ViewConfig) -> Path:
    """The recording."""
    rerun = require_rerun()
    from jobs.viewing.rollout_recording import is_evaluation, record_rollouts

    what = settings.what.expanduser()
    if is_evaluation(what):
        if settings.key is not None:
            raise SettingsError(f"{what} is an evaluation, which has no samples; leave key out")
        with escaped_errors(), recording(rerun, settings.out, what.name) as stream:
            episodes, films = record_rollouts(rerun, stream, what)
        print(f"{episodes:,} episodes, {films:,} films")
    else:
        with escaped_errors():
            _view_build(rerun, what, settings)
    print(f"wrote {settings.out}; open it with: rerun {settings.out}")
    return settings.out


def _view_build(rerun: Any, what: Path, settings: ViewConfig) -> None:
    build = load_build(what)
    from jobs.viewing.findings import read_findings, record_findings
    from jobs.viewing.sample_recording import SampleRecorder

    findings = read_findings(what)
    with recording(rerun, settings.out, build.fingerprint) as stream:
        recorder = SampleRecorder(rerun, stream, build)
        record_findings(rerun, stream, findings)
        named = [one.sample for one in findings.told if one.sample in set(recorder.keys)]
        keys = list(dict.fromkeys([*named, *recorder.first_keys()]))[: settings.samples]
        for key in keys if settings.key is None else [settings.key]:
            recorder.record(key)
    print(f"{build.name}: {findings.status}, {len(findings.told):,} findings")
