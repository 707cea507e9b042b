"""Choices of the performance layer: memory modes, attention kernels and step caches. Imports no torch.

The command line and presets check these values before torch is imported, which takes seconds.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal

from more4d.foundation.errors import ConfigError

Memory = Literal["full", "model", "group", "fp8", "sequential"]
MEMORY_MODES: tuple[Memory, ...] = ("full", "model", "group", "fp8", "sequential")

ATTENTION = ("best", "math", "efficient", "flash", "cudnn")
"""Attention kernels; `best` lets torch choose, the others are torch's own by name."""

COEFFICIENTS: dict[str, tuple[float, ...]] = {
    "1.3b": (-5.21862437e4, 9.23041404e3, -5.28275948e2, 1.36987616e1, -4.99875664e-2),
    "t2v-14b": (-3.03318725e5, 4.90537029e4, -2.65530556e3, 58.7365115, -0.315583525),
    "i2v-14b-480p": (2.57151496e5, -3.54229917e4, 1402.86849, -13.5890334, 0.132517977),
    "fun-14b": (8107.0546, 2133.93892, -372.934672, 16.6203073, -0.0417769401),
}
"""Polynomials of TeaCache for published transformers, highest power first; "fun-14b" is I2V at 720p, too."""

DEFAULT_THRESHOLDS = {"first-block": 0.05, "teacache": 0.10, "magcache": 0.06, "taylorseer": 0.0}
DEFAULT_WARMUP_STEPS = {"first-block": 1, "teacache": 5, "magcache": 4, "taylorseer": 3}
FIELDS_BY_KIND = {
    "first-block": ("threshold",),
    "teacache": ("threshold", "warmup_steps", "coefficients", "coefficients_of"),
    "magcache": ("threshold", "warmup_steps", "ratios"),
    "taylorseer": ("interval", "warmup_steps"),
}
"""Fields of `StepCacheConfig` that each kind knows."""
CALIBRATE = "python benchmarks/step_caches.py --calibrate"

Kind = Literal["first-block", "teacache", "magcache", "taylorseer"]


@dataclass(frozen=True, kw_only=True)
class StepCacheConfig:
    """Which steps are reused.

    Attributes:
        kind: see the module.
        threshold: change that is let pass; 0 computes every step. None: what is usual for the kind.
            Not for "taylorseer".
        interval: "taylorseer" computes every so many steps; 1 computes all.
        warmup_steps: steps at the start that are always computed. None: what is usual for the kind. Not for
            "first-block", which always computes the first.
        coefficients: of "teacache", highest power first; by default those of the transformer's size.
        coefficients_of: name in `COEFFICIENTS`, for a transformer of another size or kind.
        ratios: of "magcache": how the magnitude of the blocks' residual changes from step to step.
    """

    kind: Kind
    threshold: float | None = None
    interval: int = 3
    warmup_steps: int | None = None
    coefficients: tuple[float, ...] = ()
    coefficients_of: str | None = None
    ratios: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        used = FIELDS_BY_KIND[self.kind]
        for field in fields(self):
            given = field.name != "kind" and getattr(self, field.name) != field.default
            if given and field.name not in used:
                raise ConfigError(
                    f"step cache '{self.kind}' does not know {field.name}; it takes {', '.join(used)}"
                )
        if self.threshold is not None and not 0 <= self.threshold < math.inf:
            raise ConfigError(
                f"the threshold of a step cache must be finite and at least 0, got {self.threshold}"
            )
        if self.interval < 1:
            raise ConfigError(f"the interval of a step cache must be at least 1, got {self.interval}")
        if self.warmup_steps is not None and self.warmup_steps < 0:
            raise ConfigError(f"the first steps of a step cache must be at least 0, got {self.warmup_steps}")
        if self.coefficients_of is not None and self.coefficients_of not in COEFFICIENTS:
            raise ConfigError(
                f"no TeaCache coefficients of '{self.coefficients_of}'; known: {', '.join(COEFFICIENTS)}"
            )
        if self.kind == "magcache" and not self.ratios:
            raise ConfigError(f"magcache needs cache.ratios of the network; measure them with {CALIBRATE}")

    @property
    def effective_threshold(self) -> float:
        return DEFAULT_THRESHOLDS[self.kind] if self.threshold is None else self.threshold

    @property
    def effective_warmup_steps(self) -> int:
        return DEFAULT_WARMUP_STEPS[self.kind] if self.warmup_steps is None else self.warmup_steps
