"""Choices of the performance layer: memory modes, attention kernels and step caches. Imports no torch.

The command line and presets check these values before torch is imported, which takes seconds. Four step
caches reuse what an earlier sampling step computed, all around the blocks of the transformer:

* "first-block" (diffusers): compute the first block; if its residual is near the last one, reuse the rest.
* "teacache" (Liu et al. 2024, arXiv 2411.19108): a polynomial of the change of the time modulation predicts
  the change of the result; predicted changes add up until the threshold, then a step is computed.
* "magcache" (diffusers): as before, predicted by ratios of magnitudes that were measured once.
* "taylorseer" (diffusers, lite): compute every n-th step; extrapolate the result by its differences in
  between.
"""

import math
from dataclasses import dataclass, fields
from typing import Literal, Protocol, runtime_checkable

from more4d.foundation.errors import ConfigError
from more4d.networks.wan_config import WanConfig

Memory = Literal["full", "model", "group", "fp8", "sequential"]
MEMORY_MODES: tuple[Memory, ...] = ("full", "model", "group", "fp8", "sequential")

ATTENTION = ("best", "math", "efficient", "flash", "cudnn")
"""Attention kernels; `best` lets torch choose, the others are torch's own by name."""

NOT_COMPILED = "compile does not go with memory sequential; take memory group, or leave compile out"

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
        threshold: change up to which a step is reused; 0 computes every step. None: the default of the kind.
            Not for "taylorseer".
        interval: "taylorseer" computes every so many steps; 1 computes all.
        warmup_steps: steps at the start that are always computed. None: the default of the kind. Not for
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


@runtime_checkable
class PerformanceSettings(Protocol):
    """What `performance.prepare` reads from the sampling settings of a preset.

    Attributes:
        attention: a name of `ATTENTION`.
        compile: whether torch.compile compiles the blocks.
        cache: the step cache, if any.
    """

    attention: str
    compile: bool
    cache: StepCacheConfig | None


def check_guidance(cache: StepCacheConfig, *, batched_cfg: bool, guidance_skip: float) -> None:
    """Refuse a step cache where the batch changes its size in the middle of a sample.

    Raises:
        ConfigError: guidance doubles the batch, and ends before the last step.
    """
    if batched_cfg and 0 < guidance_skip < 1:
        raise ConfigError(
            f"step cache '{cache.kind}' does not go with batched_cfg and guidance_skip {guidance_skip} "
            "together: set batched_cfg: false, or guidance_skip: 0"
        )


def check_context_parallel(settings: PerformanceSettings) -> None:
    """Refuse settings that do not go with a sample that several processes share.

    Raises:
        ConfigError: they do not.
    """
    if settings.cache is not None and settings.cache.kind == "first-block":
        raise ConfigError(
            "first-block does not go with context parallelism: processes that see other tokens could skip "
            "other steps; take teacache, magcache or taylorseer"
        )


def check_step_cache(wan: WanConfig, config: StepCacheConfig) -> None:
    """Refuse a step cache that a transformer of this configuration cannot have.

    Raises:
        ConfigError: it has too few blocks, or no coefficients were measured for its size.
    """
    if wan.layers < 2:
        raise ConfigError(f"a step cache needs at least 2 blocks, the transformer has {wan.layers}")
    if config.kind == "teacache":
        teacache_coefficients(wan, config)


def teacache_coefficients(wan: WanConfig, config: StepCacheConfig) -> tuple[float, ...]:
    """The polynomial of `config`, or else the one measured for a transformer of this size.

    Raises:
        ConfigError: none was measured.
    """
    if config.coefficients:
        return config.coefficients
    fourteen = "t2v-14b" if wan.image_dim is None else "fun-14b"
    name = config.coefficients_of or {(1536, 30): "1.3b", (5120, 40): fourteen}.get((wan.dim, wan.layers))
    if name is None:
        raise ConfigError(
            f"there are no TeaCache coefficients for {wan.layers} layers of width {wan.dim}, only for "
            f"{', '.join(COEFFICIENTS)}; take first-block or taylorseer, or write cache.coefficients "
            f"(measured with {CALIBRATE}) or cache.coefficients_of into the preset"
        )
    return COEFFICIENTS[name]
