"""Sampling steps that reuse what an earlier step computed; see `performance.config` for the four caches.

Imports diffusers, whose hooks the caches are, and is itself imported only where a cache is asked for. What a
cache keeps belongs to one branch (conditional, unconditional) of one sample and never outlives the sample.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
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
from diffusers.models.cache_utils import CacheMixin
from torch import Tensor, nn

from more4d.networks.wan import BlockContext, WanBlock, WanTransformer
from more4d.performance.config import StepCacheConfig, check_step_cache, teacache_coefficients

Branch = Callable[[str], AbstractContextManager[Any]]
"""Opens a branch of a sample by its name; the transformer is called inside."""


@contextmanager
def step_cache(transformer: WanTransformer, config: StepCacheConfig, *, calls: int) -> Iterator[Branch]:
    """Cache the steps of one sample. Every call of the transformer inside belongs to a branch:

        with step_cache(transformer, config, calls=20) as branch:
            with branch("cond"):
                transformer(...)

    At the end everything kept is dropped and the transformer is as before.

    Args:
        calls: of the transformer in each branch.

    Raises:
        ConfigError: no cache of this kind is known for a transformer of this size.
    """
    check_step_cache(transformer.wan_config, config)
    target = _CacheTarget(transformer)
    if config.kind == "teacache":
        _add_teacache(target, teacache_coefficients(transformer.wan_config, config), config)
    else:
        TransformerBlockRegistry.register(WanBlock, _BlockMetadata())
        target.enable_cache(_diffusers_config(config, calls))
    try:
        yield target.cache_context
    finally:
        if config.kind == "teacache":
            registry = HookRegistry.check_if_exists_or_initialize(target)
            registry.remove_hook(TEACACHE_HOOK, recurse=True)
            registry.invalidate_child_registries_cache()
        else:
            target.disable_cache()


class _CacheTarget(nn.Module, CacheMixin):
    """The children of a transformer under the interface that diffusers' caches are applied through."""

    def __init__(self, transformer: WanTransformer) -> None:
        super().__init__()
        for name, child in transformer.named_children():
            self.add_module(name, child)


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
    """Where diffusers' caches find a block's tokens: the first argument, under whatever name they ask."""

    hidden_states_argument_name = "tokens"
    return_hidden_states_index = None
    return_encoder_hidden_states_index = None

    def _get_parameter_from_args_kwargs(
        self, identifier: str, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return args[0] if args else (kwargs or {})[self.hidden_states_argument_name]


class _TeaState(BaseState):
    """What one branch remembers."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.calls, self.predicted, self.reusing = 0, 0.0, False
        self.modulation = self.input_tokens = self.residual = None


TEACACHE_HOOK = "more4d_teacache"


class _TeaHook(ModelHook):
    """The hook of one block: the first decides, all are skipped together, the last keeps the residual."""

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


def _add_teacache(target: _CacheTarget, coefficients: Sequence[float], config: StepCacheConfig) -> None:
    """Add a hook to every block."""

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

    states, last = StateManager(_TeaState), len(target.blocks) - 1
    for index, block in enumerate(target.blocks):
        place = "first" if index == 0 else "last" if index == last else "between"
        hook = _TeaHook(states, place, decide)
        HookRegistry.check_if_exists_or_initialize(block).register_hook(hook, TEACACHE_HOOK)
    HookRegistry.check_if_exists_or_initialize(target).invalidate_child_registries_cache()


def relative_change(now: Tensor, before: Tensor) -> float:
    """Mean absolute difference over the mean absolute value before: the relative L1 distance of TeaCache."""
    difference = (now.float() - before.float()).abs().mean()
    return float(difference / before.float().abs().mean().clamp(min=1e-12))


def predicted_change(change: float, coefficients: Sequence[float]) -> float:
    """The polynomial at `change`; at least 0, below which it may fall outside the range it was fitted in."""
    value = 0.0
    for coefficient in coefficients:
        value = value * change + coefficient
    return max(value, 0.0)
