"""Points of a picture with a description of their surroundings that survives turning, scaling and cropping (SIFT).

Lowe, "Distinctive image features from scale-invariant keypoints" (2004); Arandjelovic and Zisserman, "Three things
everyone should know to improve object retrieval" (2012), for the square root.

P points of a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MOST_POINTS = 200
"""Points of one picture: those of the strongest contrast."""

LENGTH = 128
"""Of a description: 4 x 4 cells of a grid that is turned to the point's direction, 8 directions of gradient each."""


@dataclass(frozen=True)
class Variant:
    """A change that a description does not survive, but that only permutes its values."""

    mirrored: bool
    negative: bool

    @property
    def name(self) -> str:
        """In words; "" for no change."""
        return " and ".join(word for word, yes in (("mirrored", self.mirrored), ("negative", self.negative)) if yes)


VARIANTS = tuple(Variant(mirrored, negative) for negative in (False, True) for mirrored in (False, True))


@dataclass(frozen=True)
class Points:
    """places float32 [P, 2], x and y in pixels; descriptions float32 [P, 128] of length 1."""

    places: NDArray[np.float32]
    descriptions: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.places)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Points:
        """Some of them."""
        return Points(self.places[chosen], self.descriptions[chosen])


def find_points(picture: NDArray[np.uint8], most: int = MOST_POINTS) -> Points:
    """The points of a grey picture, uint8 [H, W], the strongest first."""
    sift = cv2.SIFT.create(nfeatures=most, contrastThreshold=0.02)
    found, raw = sift.detectAndCompute(picture, None)
    if not found or raw is None:
        return Points(np.zeros((0, 2), np.float32), np.zeros((0, LENGTH), np.float32))
    order = np.argsort([-point.response for point in found], kind="stable")[:most]
    places = np.array([point.pt for point in found], np.float32)[order]
    values = np.sqrt(raw[order] / np.maximum(raw[order].sum(axis=1, keepdims=True), 1e-6))
    return Points(places, values.astype(np.float32))


def permutation(variant: Variant) -> NDArray[np.int64]:
    """Where each value of a description comes from when the picture is changed, int64 [128]."""
    row, column, direction = np.meshgrid(np.arange(4), np.arange(4), np.arange(8), indexing="ij")
    if variant.negative:  # the gradient points the other way, and the grid is turned with it
        row, column = 3 - row, 3 - column
    if variant.mirrored:
        row, direction = 3 - row, -direction % 8
    return (row * 32 + column * 8 + direction).ravel()


def varied_points(points: Points, variant: Variant, width: int) -> Points:
    """The points of a picture `width` pixels wide after such a change."""
    places = points.places.copy()
    if variant.mirrored:
        places[:, 0] = width - 1 - places[:, 0]
    return Points(places, points.descriptions[:, permutation(variant)])


def varied_pictures(pictures: NDArray[np.uint8], variant: Variant) -> NDArray[np.uint8]:
    """The pictures themselves after such a change, uint8 [..., H, W]."""
    changed = pictures[..., ::-1] if variant.mirrored else pictures
    return np.ascontiguousarray(255 - changed if variant.negative else changed)
