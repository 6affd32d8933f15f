"""Makes `import torchvision` work beside a CPU build of PyTorch.

Wheels of torchvision on PyPI are built for CUDA. Beside a CPU build their compiled part does not load, and the import
then stops at "operator torchvision::nms does not exist". The peers import torchvision without calling that part.
"""

from __future__ import annotations

from functools import cache

import torch

_NMS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@cache
def define_operators() -> torch.library.Library | None:
    """Declare what torchvision's Python code wants to find; None where torchvision loads by itself. Call it before
    importing a library that imports torchvision. The declaration lives as long as the value, which is cached."""
    try:
        import torchvision  # noqa: F401
    except ModuleNotFoundError:
        return None  # whoever needs it says so
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + _NMS)
        return library
    return None
