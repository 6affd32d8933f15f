"""A control for what images are worth to a policy: what it sees in their place, in training and in the closed loop."""

from __future__ import annotations

from enum import StrEnum


class ImageAblation(StrEnum):
    """`GREY`: every pixel is `model.student.images.GREY`, so that a policy has its state and instruction alone."""

    NONE = "none"
    GREY = "grey"
