"""A control for what images are worth to a policy: what it sees in their place, in training and in the closed loop."""

from __future__ import annotations

from enum import StrEnum

GREY_LEVEL = 128
"""Every pixel of an image without content, near the mean that the student subtracts."""


class ImageAblation(StrEnum):
    """`GREY`: every pixel is `GREY_LEVEL`, so that a policy has its state and instruction alone."""

    NONE = "none"
    GREY = "grey"
