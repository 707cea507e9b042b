"""Sampling steps that reuse what an earlier step computed, instead of asking every block again.

Neighbouring steps ask a transformer almost the same question. Four ways to notice, all around the blocks:

* "first-block" (diffusers): compute the first block; if its residual is near the last one, reuse the rest.
* "teacache" (Liu et al. 2024, arXiv 2411.19108): a polynomial of the change of the time modulation foretells
  the change of the result; the foretold changes add up to the threshold, then a step is computed.
* "magcache" (diffusers): as before, foretold by ratios of magnitudes that were measured once.
* "taylorseer" (diffusers, lite): compute every n-th step; extend the result by its differences in between.

What is kept belongs to one pass (conditional, unconditional) of one sample and never outlives it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch
from diffusers.hooks import (
    FirstBlockCacheConfig,
    HookRegistry,
    MagCacheConfig,
    ModelHook,
    TaylorSeerCacheConfig,
)
from diffusers.hooks._helpers import TransformerBlockRegistry
from diffusers.hooks.hooks import BaseState, StateManager
from torch import Tensor, nn

from more4d.foundation.errors import ConfigError
from more4d.networks.wan import BlockContext, WanBlock, WanTransformer
from more4d.networks.wan_config import WanConfig
from more4d.performance.config import CALIBRATE, COEFFICIENTS, StepCacheConfig


@contextmanager
def step_cache(
    transformer: WanTransformer, config: StepCacheConfig, *, calls: int
) -> Iterator["ActiveCacheContexts"]:
    """Cache the steps of one sample. Every call of the transformer inside belongs into a pass:

        with step_cache(transformer, config, calls=20) as passes:
            with passes.enter("conditional"):
                transformer(...)

    At the end everything kept is dropped and the transformer is as before.

    Args:
        calls: of the transformer in each pass.

    Raises:
        ConfigError: the cache knows nothing about a transformer of this size.
    """
    check_step_cache(transformer.wan_config, config)
    if config.kind == "teacache":
        remove = _add_teacache(transformer, config)
    else:
        _register_block()
        transformer.enable_cache(_diffusers_config(config, calls))
        remove = transformer.disable_cache
    try:
        yield ActiveCacheContexts(transformer)
    finally:
        remove()


def check_step_cache(wan: WanConfig, config: StepCacheConfig) -> None:
    """Refuse what `step_cache` would refuse for a transformer of these numbers.

    Raises:
        ConfigError: it has too few blocks, or the cache knows nothing about one of this size.
    """
    if wan.layers < 2:
        raise ConfigError(f"a step cache needs at least 2 blocks, the transformer has {wan.layers}")
    if config.kind == "teacache":
        teacache_coefficients(wan, config)


class CacheContexts:
    """CacheContexts that keep nothing."""

    def enter(self, name: str) -> AbstractContextManager[Any]:
        """Open the pass of a name, in which the transformer is then called."""
        return nullcontext()

    def slice_cond_half(self, name: str, batch: int) -> None:
        """Let a pass whose calls had `batch` samples go on with the second half of them."""


class ActiveCacheContexts(CacheContexts):
    """CacheContexts each of which keeps what its steps may reuse."""

    def __init__(self, transformer: WanTransformer) -> None:
        self._transformer = transformer

    def enter(self, name: str) -> AbstractContextManager[Any]:
        return self._transformer.cache_context(name)

    def slice_cond_half(self, name: str, batch: int) -> None:
        with self.enter(name):
            for module in self._transformer.modules():
                registry = vars(module).get("_diffusers_hook")
                for hook in registry.hooks.values() if registry is not None else ():
                    for states in vars(hook).values():
                        if isinstance(states, StateManager):
                            kept = vars(states.get_state())
                            kept.update(
                                {key: _slice_second_half(value, batch) for key, value in kept.items()}
                            )


def _slice_second_half(kept: Any, batch: int) -> Any:
    """What is kept of the second half of the samples; what is not of `batch` samples stays."""
    if isinstance(kept, Tensor):
        return kept[batch // 2 :].clone() if kept.ndim and len(kept) == batch else kept
    if isinstance(kept, torch.Size):
        return torch.Size((batch // 2, *kept[1:])) if kept and kept[0] == batch else kept
    if isinstance(kept, dict):
        return {key: _slice_second_half(value, batch) for key, value in kept.items()}
    if isinstance(kept, (list, tuple)):
        return type(kept)(_slice_second_half(value, batch) for value in kept)
    return kept


def _register_block() -> None:
    """Tell diffusers' caches about our blocks, once."""
    try:
        TransformerBlockRegistry.get(WanBlock)
    except ValueError:
        TransformerBlockRegistry.register(WanBlock, _BlockMetadata())


def teacache_coefficients(wan: WanConfig, config: StepCacheConfig) -> tuple[float, ...]:
    """The polynomial of `config`, or else the one measured for a transformer of this size.

    Raises:
        ConfigError: nobody has measured one.
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


def _diffusers_config(
    config: StepCacheConfig, calls: int
) -> FirstBlockCacheConfig | MagCacheConfig | TaylorSeerCacheConfig:
    """What diffusers calls this cache."""
    if config.kind == "first-block":
        return FirstBlockCacheConfig(threshold=config.effective_threshold)
    if config.kind == "magcache":
        return MagCacheConfig(
            threshold=config.effective_threshold,
            max_skip_steps=3 if config.effective_threshold else 0,
            retention_ratio=min(config.effective_warmup_steps / calls, 1.0),
            num_inference_steps=calls,
            mag_ratios=list(config.ratios),
        )
    # Lite: only what leaves the transformer is kept and extended. Every attention would be 17 GB at 14B.
    return TaylorSeerCacheConfig(
        cache_interval=config.interval,
        disable_cache_before_step=config.effective_warmup_steps,
        taylor_factors_dtype=torch.float32,
        use_lite_mode=True,
    )


class _BlockMetadata:
    """Tells diffusers' caches where a block finds its tokens: first, by whatever name they ask for them."""

    hidden_states_argument_name = "tokens"
    return_hidden_states_index = None
    return_encoder_hidden_states_index = None

    def _get_parameter_from_args_kwargs(
        self, identifier: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if args else (kwargs or {})[self.hidden_states_argument_name]


class _TeaState(BaseState):
    """What one pass remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.calls, self.predicted = 0, 0.0
        self.modulation: Tensor | None = None
        self.input_tokens: Tensor | None = None
        self.residual: Tensor | None = None
        self.reusing = False


TEACACHE_HOOK = "more4d_teacache"


class _TeaHook(ModelHook):
    """One block's part: the first decides, all are skipped together, the last keeps the blocks' residual."""

    _is_stateful = True

    def __init__(
        self, states: StateManager, place: Literal["first", "between", "last"], decide: Callable[..., bool]
    ) -> None:
        super().__init__()
        self.states, self.place, self.decide = states, place, decide

    def new_forward(self, module: nn.Module, tokens: Tensor, context: BlockContext) -> Tensor:
        state = self.states.get_state()
        if self.place == "first":
            state.reusing = self.decide(state, context.modulation)
            state.input_tokens = tokens
        if state.reusing:
            return tokens + state.residual if self.place == "last" else tokens
        tokens = self.fn_ref.original_forward(tokens, context)
        if self.place == "last":
            state.residual = tokens - state.input_tokens
        return tokens

    def reset_state(self, module: nn.Module) -> nn.Module:
        self.states.reset()
        return module


def _add_teacache(transformer: WanTransformer, config: StepCacheConfig) -> Callable[[], None]:
    """Add the hooks; the result takes them away again."""
    coefficients = teacache_coefficients(transformer.wan_config, config)

    def decide(state: _TeaState, modulation: Tensor) -> bool:
        before, state.modulation = state.modulation, modulation
        state.calls += 1
        if before is None or state.calls <= config.effective_warmup_steps:
            return False
        state.predicted += predicted_change(relative_change(modulation, before), coefficients)
        if state.residual is not None and state.predicted < config.effective_threshold:
            return True
        state.predicted = 0.0
        return False

    states, last = StateManager(_TeaState), len(transformer.blocks) - 1
    for index, block in enumerate(transformer.blocks):
        place = "first" if index == 0 else "last" if index == last else "between"
        hook = _TeaHook(states, place, decide)
        HookRegistry.check_if_exists_or_initialize(block).register_hook(hook, TEACACHE_HOOK)
    registry = HookRegistry.check_if_exists_or_initialize(transformer)
    registry.invalidate_child_registries_cache()

    def remove() -> None:
        registry.remove_hook(TEACACHE_HOOK, recurse=True)
        registry.invalidate_child_registries_cache()

    return remove


def relative_change(now: Tensor, before: Tensor) -> float:
    """Mean absolute difference, in mean absolute values of what was before."""
    difference = (now.float() - before.float()).abs().mean()
    return float(difference / before.float().abs().mean().clamp(min=1e-12))


def predicted_change(change: float, coefficients: Sequence[float]) -> float:
    """The polynomial at `change`; at least 0, below which it may fall outside the range it was fitted in."""
    value = 0.0
    for coefficient in coefficients:
        value = value * change + coefficient
    return max(value, 0.0)
