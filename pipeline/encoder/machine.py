"""The machine that an encoder runs on."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

from pipeline.format.machine import Machine


def machine_of(device: torch.device) -> Machine:
    """The model of a device, and the versions below PyTorch that its results depend on."""
    precision = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        return Machine(name, str(torch.version.cuda), str(torch.backends.cudnn.version()), precision)
    return Machine(f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})", "", "", precision)


def _processor() -> str:
    """The processor's model by Linux, elsewhere by Python."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
