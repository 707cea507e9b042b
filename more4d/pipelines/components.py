"""The networks of a preset: loaded when a stage needs them, placed as the memory mode says, and freed."""

import gc
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_configured_estimator, other_estimators
from more4d.files.atomic import fingerprint, path_fingerprint
from more4d.foundation.errors import InputError, WeightsError
from more4d.performance.offload import OFFLOAD_DEVICE, Memory, OffloadedModule
from more4d.pipelines.component_files import (
    Lora,
    all_loras,
    check_conditions,
    component_path,
    drop_unused_motion_features,
    inspect_component,
    warn_of_training,
)
from more4d.pipelines.preset import GUIDE, Preset, check_files, choose_preset
from more4d.pipelines.sampling import EncodedPrompts, SamplingRequest, check_settings, sample_latents
from more4d.raster.registry import needs_gpu, open_rasteriser
from more4d.weights.load import Checkpoint, load
from more4d.weights.lora.io import check_lora, read_lora
from more4d.weights.lora.merge import merge_loras
from more4d.weights.registry import ROLES, init_empty

ENCODERS = ("text", "clip", "motion_features")
"""Components that are needed for conditions only."""

# The two diffusion transformers: 4D-STraG and 4D-ViSM.
GENERATORS = ("strag", "vism")

# 512 x 4096 floats each, at most: half a gigabyte in all.
PROMPT_CACHE_SIZE = 64

Sampler = Callable[["Components", str, SamplingRequest], Tensor]
"""(components, component, request) -> clean latents; see `Components.sample`."""

DEPTH_ALTERNATIVES = {
    "": "give depth and intrinsics yourself (--depth FILE --intrinsics FX,FY,CX,CY)",
    "depth": "give the intrinsics, too (--intrinsics FX,FY,CX,CY), which are estimated otherwise",
    "intrinsics": "give the depth, too (--depth FILE), which is estimated otherwise",
    "nothing": "give depth in metres and without gaps (NaN or zero), and the intrinsics",
}
"""What makes the estimator unnecessary, by what is given already."""

_log = logging.getLogger(__name__)


def open_device(name: str | torch.device) -> torch.device:
    """A device that is there.

    Raises:
        InputError: there is none of this name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"'{name}' is no device; give cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {name}: torch sees {torch.cuda.device_count()} GPUs; take cpu")
    return device


class Components:
    """The networks of a preset by the name of their component (`preset.ComponentFiles`).

    A network is loaded when it is first needed. It computes inside `on_device`, and waits between uses where
    `preset.memory` says (`performance.offload`): in all modes but full, the GPU holds the networks of one
    such block and no others. `free` drops networks, unless the preset keeps them loaded.

    Attributes:
        preset: final: sizes, sampling settings, files, memory mode.
        folder: that the preset's files are relative to.
        device: where networks compute.
        loras: low-rank updates that are merged into each generator when it is loaded.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        device: str | torch.device = "cpu",
        loras: Mapping[str, Sequence[Lora]] | None = None,
        *,
        sampler: Sampler | None = None,
    ) -> None:
        self.folder, self.preset, self.device = folder, preset, open_device(device)
        self.loras = all_loras(folder, preset.loras, loras or {})
        self._sampler = sampler or sample_on_device
        self._loaded: dict[str, OffloadedModule] = {}
        self._depth: DepthEstimator | None = None
        self._prompts: dict[str, Tensor] = {}
        self._checkpoints: dict[str, Checkpoint] = {}
        self._fingerprints: dict[str, str] = {}

    @classmethod
    def open(
        cls,
        preset: Preset,
        folder: Path,
        device: str | torch.device = "cpu",
        *,
        loras: Mapping[str, Sequence[Lora]] | None = None,
        asked: str | None = None,
        sampler: Sampler | None = None,
    ) -> "Components":
        """Check the files of a preset, of which only the headers are read here.

        Args:
            preset: with everything that replaces its own values, see `choose_preset`.
            folder: that its files are relative to.
            loras: updates to merge into "strag", "vism" or both, after the preset's own.
            asked: how the user called the preset, for messages; None if its folder says which it is.
            sampler: samples in place of `sample_on_device`.

        Raises:
            WeightsError: a file is missing, truncated, or of another kind than its component needs.
            ConfigError: the preset sets an option that its network does not have.
            InputError, MissingPackageError: its rasteriser cannot run here.
        """
        # Before files are checked: a component that changes nothing may be missing.
        preset = drop_unused_motion_features(preset, folder, updated=bool(loras and loras.get("strag")))
        check_files(preset, folder, asked)
        components = cls(folder, preset, device, loras, sampler=sampler)
        components.check()
        return components

    @classmethod
    def from_pretrained(
        cls,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
        *,
        preset: str | None = None,
        components: Mapping[str, str] | None = None,
        loras: Mapping[str, Sequence[Lora]] | None = None,
        memory: Memory | None = None,
    ) -> "Components":
        """`choose_preset` and `open` in one.

        Raises:
            WeightsError, ConfigError: as those.
        """
        chosen, folder = choose_preset(preset, folder, components=components, memory=memory)
        return cls.open(chosen, folder, device, loras=loras, asked=preset)

    def reopened(
        self,
        *,
        device: torch.device | None = None,
        memory: Memory | None = None,
        size: str | None = None,
        fill: str | None = None,
        raster: str | None = None,
    ) -> "Components":
        """The same files for another device, memory mode or kind of films; nothing is loaded yet."""
        changed = {"memory": memory, "size": size, "fill": fill, "raster": raster}
        preset = replace(self.preset, **{key: value for key, value in changed.items() if value is not None})
        other = Components(self.folder, preset, device or self.device, sampler=self._sampler)
        # Headers that were inspected once are not read again.
        other.loras, other._checkpoints = self.loras, self._checkpoints
        return other

    def check(self) -> None:
        """Look at every file's header, and refuse a file that cannot be its component.

        Raises:
            WeightsError: one line about the first such file.
            ConfigError: as `check_conditions`.
            InputError, MissingPackageError: the preset's rasteriser cannot run here.
        """
        if needs_gpu(self.preset.raster):  # the others run anywhere, and some take a second to import
            open_rasteriser(self.preset.raster, self.device)
        for lora in (lora for each in self.loras.values() for lora in each):
            if not lora.path.exists():
                raise WeightsError(f"there is no LoRA file {lora.path}; training writes one when it is done")
        # Every header is inspected now, so that a bad file is refused before anything is computed.
        for component in ROLES:
            if self.has(component):
                self.checkpoint(component)
        check_conditions(self.preset, self.checkpoint("strag"))
        for component, loras in self.loras.items():
            # On the meta device: names and shapes without memory.
            network = init_empty(self.checkpoint(component).architecture, self.checkpoint(component).config)
            for lora in loras:
                check_lora(lora.path, network)
        strag, codec = self.checkpoint("strag"), self.checkpoint("trajectory_codec")
        warn_of_training(self.preset, self.folder, strag, codec, self.loras.get("strag", ()))

    def check_sampling(self, *, shared: bool = False) -> None:
        """Refuse sampling settings that do not go with the networks or the device; see `check_settings`.

        Raises:
            ConfigError: one line about the first of them.
        """
        for component, settings in (("strag", self.preset.tracks), ("vism", self.preset.views)):
            check_settings(
                settings,
                self.config(component).wan,
                device=self.device,
                memory=self.preset.memory,
                shared=shared,
            )

    def has(self, component: str) -> bool:
        """Whether the preset has this component."""
        return self.preset.components.get(component) is not None

    def checkpoint(self, component: str) -> Checkpoint:
        """What the file of a component is, by its header.

        Raises:
            WeightsError: it is truncated, its tensors do not fit together, or it is another network.
            ConfigError: the preset sets an option that its network does not have.
        """
        if component not in self._checkpoints:
            found = inspect_component(self.preset, self.folder, component)
            if found.problems:
                raise found.error()
            self._checkpoints[component] = found
        return self._checkpoints[component]

    def config(self, component: str) -> Any:
        """The configuration of the network `component`, without loading it.

        Raises:
            WeightsError, ConfigError: as `checkpoint`.
        """
        return self.checkpoint(component).config

    @contextmanager
    def on_device(self, *components: str) -> Iterator[tuple[Any, ...]]:
        """These networks, able to compute until the block ends; None for a component the preset has not.

        Raises:
            WeightsError: as `network`.
        """
        # In memory mode full this moves nothing.
        with ExitStack() as stack:
            yield tuple(
                stack.enter_context(self._load(component).on_device()) if self.has(component) else None
                for component in components
            )

    def sample(self, component: str, request: SamplingRequest) -> Float[Tensor, "b 16 f h w"]:
        """Clean latents from a generator, "strag" or "vism".

        Raises:
            WeightsError: as `network`.
            ConfigError: a sampling setting does not go with the network or its device.
        """
        return self._sampler(self, component, request)

    def encode_prompts(self, *prompts: str) -> EncodedPrompts:
        """The embeddings of these prompts. Each is encoded once, all that are new in one go.

        Raises:
            WeightsError: as `network`.
        """
        # An item is filmed along many cameras with one prompt.
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]:
            with self.on_device("text") as (text,), torch.inference_mode():
                self._prompts |= {prompt: text.encode_text([prompt]) for prompt in new}
            # The network is freed where nothing refers to it.
            del text
            self.free("text")
        found = {prompt: self._prompts[prompt] for prompt in prompts}
        while len(self._prompts) > PROMPT_CACHE_SIZE:
            del self._prompts[next(iter(self._prompts))]
        return EncodedPrompts(found)

    def network(self, component: str) -> Any:
        """The network `component`, behind the protocol of `networks.interface` that belongs to it.

        It can compute here in memory mode full only; in the others, inside `on_device`.

        Raises:
            WeightsError: its file is missing, truncated, of another kind, or does not fit its configuration.
        """
        return self._load(component).network

    def _load(self, component: str) -> OffloadedModule:
        if component not in self._loaded:
            if not self.preset.keep_loaded or self.preset.memory != "full":
                self._empty_cache()  # what was freed last may have been referred to until now
            _log.info("loading %s from %s", component, self._path(component))
            network = self._open(component)
            self._loaded[component] = OffloadedModule(
                network, self.preset.memory, device=self.device, dtype=self.dtype
            )
        return self._loaded[component]

    def _open(self, component: str) -> Any:
        # Straight to its place: weights exist once in memory.
        device = self.device if self.preset.memory == "full" else OFFLOAD_DEVICE
        network = load(self.checkpoint(component), device=device, dtype=self.dtype)
        loras = self.loras.get(component, ())
        for lora in loras:
            _log.info("merging %s into %s at strength %g", lora.path, component, lora.strength)
        updates = [(read_lora(lora.path), lora.strength) for lora in loras]
        if updates:  # before a memory mode changes how weights are stored
            merge_loras(network, updates)
        return network

    def depth_estimator(self, given: str = "") -> DepthEstimator:
        """The estimator of depth and field of view.

        Args:
            given: which of the two, "depth" or "intrinsics", it is not needed for, or "nothing"; for errors.

        Raises:
            WeightsError: its file is missing, truncated, or does not fit.
            MissingPackageError: the preset's estimator needs an optional package.
        """
        if self._depth is None:
            self._depth = self._open_depth(f"{DEPTH_ALTERNATIVES[given]}, or {other_estimators()}")
        return self._depth

    def _open_depth(self, instead: str) -> DepthEstimator:
        path = self._path("depth") if self.has("depth") else None
        return open_configured_estimator(
            self.preset.depth_estimator, path, device=self.device, guide=GUIDE, instead=instead
        )

    def fingerprint(self, *components: str) -> str:
        """A short name for the weights of these components; it changes with content and precision."""
        for component in components:
            if component not in self._fingerprints:
                self._fingerprints[component] = fingerprint(self._fingerprint_inputs(component))
        return fingerprint([self._fingerprints[component] for component in components])

    def _fingerprint_inputs(self, component: str) -> list[Any]:
        content = None
        if self.has(component) and (component != "depth" or self._path(component).exists()):
            content = path_fingerprint(self._path(component))
        # Everything that changes what a network computes, as plain JSON values.
        named = [component, content, self.preset.depth_estimator]
        if self.has(component) and (options := self.preset.components.get(component).options):
            named.append(options)
        for lora in self.loras.get(component, ()):
            named += [path_fingerprint(lora.path), lora.strength]
        # Left out at float32, so that older records stay valid.
        if self.dtype != torch.float32:
            named.append(str(self.dtype))
        if self.preset.memory == "fp8" and component in GENERATORS:  # no other mode changes a result
            named.append(self.preset.memory)
        return named

    @property
    def dtype(self) -> torch.dtype:
        """Precision the networks compute in."""
        return torch.float32 if self.device.type == "cpu" else getattr(torch, self.preset.dtype)

    @contextmanager
    def free_after(self) -> Iterator[None]:
        """Drop what was loaded when the block ends, unless the preset keeps networks loaded."""
        try:
            yield
        finally:
            if not self.preset.keep_loaded or self.preset.memory != "full":
                self._depth = None  # it has no memory modes: it is on the device as long as it exists
            self.free(*self._loaded)

    def free(self, *components: str) -> None:
        """Drop these networks, unless the preset keeps networks loaded; only references to them keep them."""
        dropped = [] if self.preset.keep_loaded else [self._loaded.pop(each, None) for each in components]
        if any(dropped) or self.preset.memory != "full":
            dropped.clear()
            self._empty_cache()

    def _empty_cache(self) -> None:
        """Return the memory of dropped networks to host and device."""
        gc.collect()  # hooks and their modules refer to each other
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _path(self, component: str) -> Path:
        return component_path(self.preset, self.folder, component)


def sample_on_device(
    components: Components, component: str, request: SamplingRequest
) -> Float[Tensor, "b 16 f h w"]:
    """Sample with one process: `sampling.sample_latents` with the generator on its device."""
    with components.on_device(component) as (network,):
        return sample_latents(network, request)
