"""`vlajepa serve`: a checkpoint over WebSocket, for evaluators and robots that speak openpi's protocol."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from jobs.common.policy.robot_interface import Policy
from jobs.common.text import duration_text
from jobs.serving.health import own_question
from jobs.serving.limits import InputLimits
from jobs.serving.log_lines import LONGEST
from jobs.serving.server import PolicyServer
from jobs.serving.settings import ServeConfig, ServerSettings
from model.checkpoint.folders import find_checkpoint
from model.checkpoint.vouched import VOUCHED, Voucher, as_json
from pipeline.format.text.printable import printable

if TYPE_CHECKING:
    from jobs.common.policy.checkpoint_policy import CheckpointPolicy

_log = partial(print, flush=True)


def run(settings: ServeConfig) -> None:
    checkpoint = find_checkpoint(settings.policy)
    from jobs.common.policy.checkpoint_policy import CheckpointPolicy  # PyTorch, which no refusal needs

    policy = CheckpointPolicy(checkpoint, settings.device, settings.cuda_graphs)
    server = PolicyServer(policy, settings, identity(policy), _log, policy.trained_states, policy.trained_actions)
    _log(f"{policy.checkpoint} on {policy.device}: a first query took {duration_text(warm_up(policy, server.limits))}")
    asyncio.run(serve_until_signal(server, lambda port: _log(welcome(server, settings, port))))


def identity(policy: CheckpointPolicy) -> dict[str, Any]:
    """What clients are told of a policy beside its interface."""
    run_name = policy.checkpoint.resolve().parent.parent.name
    return {
        "checkpoint": f"{run_name}/{policy.checkpoint.name}",
        "step": policy.step,
        "sha256": policy.sha256,
        "weights": policy.weights,
        "uses_state": bool(policy.model.state_width),
        VOUCHED: as_json(policy.vouchers),
    }


def warm_up(policy: Policy, limits: InputLimits) -> float:
    """Seconds of the server's own question: what is slow or fails the first time does so before clients connect."""
    question = own_question(policy.interface, limits)
    started = time.monotonic()
    policy.act([question], [0])
    return time.monotonic() - started


async def serve_until_signal(server: PolicyServer, started: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once. started: see `PolicyServer.run`."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)

    def stop(number: signal.Signals) -> None:
        _log(f"{number.name}: the running queries are answered, then the server ends")
        for each in signals:
            loop.remove_signal_handler(each)
        server.stop()

    for each in signals:
        loop.add_signal_handler(each, stop, each)
    await server.run(started)
    _log("stopped")


def welcome(server: PolicyServer, settings: ServerSettings, port: int) -> str:
    """What to know for starting a client."""
    keys = server.metadata["keys"]
    unused = "" if server.metadata.get("uses_state", True) else " (this policy does not read it)"
    lines = [
        f"serving {server.metadata['checkpoint']} (step {server.metadata['step']}) at ws://{settings.host}:{port}",
        *(f"  image {view}: {' or '.join(names)}" for view, names in keys["images"].items()),
        *(f"  trained on {Voucher(**entry).text}" for entry in server.metadata.get(VOUCHED, ())),
        f"  {_contract_text(server.metadata['contract'])}",
        f"  state{unused}: {' or '.join(keys['state'])};  instruction: {' or '.join(keys['prompt'])}",
    ]
    if server.metrics_port is not None:
        lines.append(f"  Prometheus: http://{settings.metrics_host}:{server.metrics_port}/metrics")
    if settings.api_key is None:
        local = settings.host in ("localhost", "::1") or settings.host.startswith("127.")
        reach = "every user of this machine" if local else "EVERYBODY WHO REACHES THE PORT"
        lines.append(f"  no authentication (api_key=) and no encryption: {reach} may use it")
    return "\n".join(printable(line)[:LONGEST] for line in lines)


def _contract_text(contract: Mapping[str, Any]) -> str:
    """Rate, chunk, statistics and the names of the channels."""
    named = [
        f"{kind} {', '.join(channel['name'] for channel in contract[kind])}"
        for kind in ("state", "action")
        if contract[kind] is not None
    ]
    about = f"{contract['control_hz']:g} Hz, {contract['chunk']} actions a chunk"
    return "; ".join([about, f"statistics {(contract['statistics'] or 'unknown')[:12]}", *named])
