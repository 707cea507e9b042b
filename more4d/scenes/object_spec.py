"""What a builder hands over: the model of one object with what a story needs to know of it."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from more4d.scenes.modelling import Model

Category = Literal["creature", "person", "flyer", "vehicle", "ball", "thing", "floater", "plant", "flag"]


@dataclass(frozen=True, kw_only=True)
class ObjectSpec:
    """An object before it is placed.

    Attributes:
        model: its parts and joints.
        noun: what a caption calls it.
        colour: name of its main colour.
        category: which motions suit it.
        height_m: from the ground to its top.
        radius_m: of the ball, or of the wheels; 0 for others.
        size: factor on the model; height and radius hold it already.
    """

    model: Model
    noun: str
    colour: str
    category: Category
    height_m: float
    radius_m: float = 0.0
    size: float = 1.0

    @property
    def roles(self) -> frozenset[str]:
        """Names of the joints that can be driven."""
        return frozenset(joint.role for joint in self.model.joints)

    @property
    def reach_m(self) -> float:
        """Radius of the ground it covers, in metres."""
        rests = [part.rest for part in self.model.parts]
        return max(
            float(np.abs(rest[[0, 2], :3]).sum(1).max() + np.abs(rest[[0, 2], 3]).max()) for rest in rests
        )

    def resized(self, factor: float) -> "ObjectSpec":
        """A larger or smaller one."""
        return replace(
            self, height_m=self.height_m * factor, radius_m=self.radius_m * factor, size=self.size * factor
        )
