"""SimplerEnv's own evaluator, run with actions that were written down: what the adapter is compared with.

`python oracle.py protocol OUT` lists every episode of SimplerEnv's evaluation scripts. `python oracle.py episode OUT
SCRIPT ENVIRONMENT ACTIONS` plays the first one of a script in that environment. Both with the rig's Python.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

quiet = ModuleType("simpler_env.utils.visualization")  # of matplotlib and mediapy; nothing is drawn here
quiet.write_video = lambda *_, **__: None  # type: ignore[attr-defined]
sys.modules["simpler_env.utils.visualization"] = quiet

import simpler_env  # noqa: E402
from plain import plain  # noqa: E402  beside this script
from simpler_env.evaluation import argparse as arguments  # noqa: E402
from simpler_env.evaluation import maniskill2_evaluator as evaluator  # noqa: E402
from simpler_env.utils.env import env_builder  # noqa: E402

CHECKOUT = Path(simpler_env.__file__).parents[1]


class Policy:
    """Plays actions float64 [n, 7] of the controller, the last one for ever; keeps the images that it was shown."""

    def __init__(self, actions: Any) -> None:
        self.actions, self.images, self.last = np.asarray(actions, np.float64), [], None

    def reset(self, text: str) -> None:
        """Of no concern."""

    def step(self, image: np.ndarray, text: str) -> tuple[dict, dict]:
        """One action, in SimplerEnv's parts."""
        action = self.actions[min(len(self.images), len(self.actions) - 1)]
        self.images.append(image)
        parts = {"world_vector": action[:3], "rot_axangle": action[3:6], "gripper": action[6:]}
        return {}, {**parts, "terminate_episode": np.zeros(1)}

    def visualize_epoch(self, *_: Any, **__: Any) -> None:
        """Of no concern."""


class Recorder:
    """An environment that ends after one step, and what it was made and reset with."""

    def __init__(self, found: list[dict], name: str, **made: Any) -> None:
        self.found, self.made = found, {"name": name, **made}

    def reset(self, options: dict) -> tuple[dict, dict]:
        """Write down the episode."""
        self.found.append(plain({**self.made, **options["robot_init_options"], "objects": options["obj_init_options"]}))
        return {"image": {name: {"rgb": None} for name in ("overhead_camera", "3rd_view_camera")}}, {}

    def step(self, _: Any) -> tuple:
        """The end."""
        return {"image": {name: {"rgb": None} for name in ("overhead_camera", "3rd_view_camera")}}, 0, False, True, {}

    def __getattr__(self, name: str) -> Any:
        return {"robot_uid": self.made["robot"]}.get(name, lambda: "")


def commands(script: Path) -> list[list[str]]:
    """The arguments of every evaluation that a shell script starts, once each."""
    with tempfile.TemporaryDirectory() as folder:
        fake = Path(folder, "python")
        fake.write_text(f'#!/bin/bash\nprintf "%s\\t" "${{@:2}}" >> {folder}/said\necho >> {folder}/said\n')
        fake.chmod(0o755)
        path = {"PATH": f"{folder}:{os.environ.get('PATH', '/usr/bin:/bin')}"}
        subprocess.run(["bash", str(script)], env=path, check=True, stdout=subprocess.DEVNULL, cwd=CHECKOUT)
        lines = Path(folder, "said").read_text().splitlines()
    return [line.rstrip("\t").split("\t") for line in dict.fromkeys(lines)]


def evaluate(command: list[str], policy: Policy) -> list[bool]:
    """SimplerEnv's `main_inference.py` with this policy; success of every episode."""
    sys.argv = ["main_inference.py", *command]
    return list(evaluator.maniskill2_evaluator(policy, arguments.get_args()))


def protocol() -> dict[str, list[dict]]:
    """What every script's environments are made and reset with, in the scripts' order, by the name of the script."""
    found: dict[str, list[dict]] = {}
    for script in sorted((CHECKOUT / "scripts").glob("octo_*.sh")):
        episodes = found[script.stem] = []
        env_builder.gym = SimpleNamespace(make=lambda name, e=episodes, **made: Recorder(e, name, **made))
        for command in commands(script):
            evaluate(command, Policy(np.zeros((1, 7))))
    return found


def episode(script: str, environment: str, actions: list[list[float]]) -> dict[str, Any]:
    """The first episode: images uint8 [n + 1, H, W, 3] and success of n actions."""
    from mani_skill2_real2sim import ASSET_DIR

    command = next(each for each in commands(CHECKOUT / "scripts" / f"{script}.sh") if environment in each)
    policy, build, play = Policy(actions), evaluator.build_maniskill2_env, evaluator.run_maniskill2_eval_single_episode
    found: list[bool] = []

    def built(*names: str, **made: Any) -> Any:
        if made.get("rgb_overlay_path"):
            made["rgb_overlay_path"] = str(ASSET_DIR / "real_inpainting" / Path(made["rgb_overlay_path"]).name)
        made["max_episode_steps"] = len(actions)
        environment = build(*names, **made)
        step = environment.step

        def kept(action: np.ndarray) -> tuple:
            answer = step(action)
            policy.last = evaluator.get_image_from_maniskill2_obs_dict(environment.unwrapped, answer[0])
            return answer

        environment.step = kept
        return environment

    def played(**arguments: Any) -> bool:
        found.append(play(**arguments))
        raise StopIteration  # after the first one

    evaluator.build_maniskill2_env, evaluator.run_maniskill2_eval_single_episode = built, played
    with contextlib.suppress(StopIteration):
        evaluate(command, policy)
    return {"images": np.stack([*policy.images, policy.last]), "success": np.array(found)}


def main() -> None:
    """See the module."""
    what, out = sys.argv[1:3]
    if what == "protocol":
        Path(out).write_text(json.dumps(protocol()))
    else:
        script, environment, actions = sys.argv[3:6]
        np.savez(out, **episode(script, environment, json.loads(actions)))


if __name__ == "__main__":
    main()
