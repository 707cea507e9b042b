"""The networks of a preset, each loaded when its stage needs it, and at work where its memory mode says."""

import gc
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from more4d.depth.interface import DepthEstimator
from more4d.depth.registry import open_configured_estimator, other_estimators
from more4d.files.checkpoint_headers import read_headers
from more4d.files.fingerprint import content_name, fingerprint, path_fingerprint
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.performance.offload import OFFLOAD_DEVICE, Memory, OffloadedModule
from more4d.pipelines.component_files import (
    NATIVE_LAYOUT,
    component_options,
    component_path,
    drop_unused_motion_features,
    inspect_component,
)
from more4d.pipelines.parallel_group import ParallelGroup
from more4d.pipelines.preset import GUIDE, LoraFiles, Preset, check_files, find_preset, with_component
from more4d.pipelines.prompts import EncodedPrompts
from more4d.weights.inspect import CheckpointInfo, open_network, unusable_error
from more4d.weights.load import init_empty
from more4d.weights.lora.merge import check_lora, merge_loras
from more4d.weights.lora.reading import read_lora
from more4d.weights.network_files import read_network_header
from more4d.weights.registry import ROLES

ENCODERS = ("text", "clip", "motion_features")
"""Parts that are done as soon as the conditions are made."""

GENERATORS = ("strag", "vism")

PROMPT_CACHE_SIZE = 64

CODEC_METADATA_KEY = "trajectory_codec"
"""What a 4D-STraG of this project notes under this name: the content of the codec it was trained with."""

UNTRAINED_LAYOUTS = ("wan-fun-control",)
"""Layouts that can stand in for 4D-STraG, but have not learned what it is for."""

DEPTH_ALTERNATIVES = {
    "": "give the depth yourself (--depth FILE --intrinsics FX,FY,CX,CY)",
    "depth": "add --intrinsics FX,FY,CX,CY, which --depth alone leaves to the estimator",
    "intrinsics": "add --depth FILE, which --intrinsics alone leaves to the estimator",
}
"""What makes the estimator unnecessary, by what is given already."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Low-rank updates to merge into a generator, as `networks.lora` reads them.

    Attributes:
        path: of the file.
        strength: 1 for what was trained, less or more for less or more of it.
    """

    path: Path
    strength: float = 1.0


class Components:
    """Networks by the part they play; see `preset.ComponentFiles` for the names.

    Nothing is loaded before it is asked for. Networks asked for inside `free_after()` are dropped at its end
    unless the preset keeps them. They compute inside `on_device`, and wait where `preset.memory` says
    (`networks.offload`): in all modes but full, the GPU holds the networks of one such block and no others.

    Attributes:
        parallel_group: the processes that draw every sample together, if several do; see `pipelines.together`.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        device: str | torch.device = "cpu",
        loras: Mapping[str, Sequence[Lora]] | None = None,
    ) -> None:
        self.folder, self.preset, self.device = folder, preset, torch.device(device)
        self.loras = _all_loras(folder, preset.loras, loras or {})
        self.parallel_group: ParallelGroup | None = None
        self._loaded: dict[str, OffloadedModule] = {}
        self._depth: DepthEstimator | None = None
        self._prompts: dict[str, Tensor] = {}
        self._checkpoints: dict[str, CheckpointInfo] = {}
        self._fingerprints: dict[str, str] = {}

    @classmethod
    def open(
        cls,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
        *,
        preset: str | None = None,
        components: Mapping[str, str] | None = None,
        loras: Mapping[str, Sequence[Lora]] | None = None,
        memory: Memory | None = None,
    ) -> "Components":
        """The models of a preset; of the files only the headers are read here.

        Args:
            folder: where the preset's files lie; see `find_preset`.
            preset: its name; see `find_preset`.
            components: other files for some of its components; see `with_component`.
            loras: updates to merge into "strag", "vism" or both, after the preset's own.
            memory: where weights are; by default as the preset says.

        Raises:
            WeightsError: a file is missing, truncated, or of another kind than its part needs.
            ConfigError: there is no such preset or component, or the preset has an unknown key or an impossible
                value.
        """
        asked = preset
        found, folder = find_preset(preset, folder)
        for component, file in (components or {}).items():
            found = with_component(found, component, file)
        if memory:
            found = replace(found, memory=memory)
        found = drop_unused_motion_features(found, folder, updated=bool(loras and loras.get("strag")))
        check_files(found, folder, asked)
        models = cls(folder, found, device, loras)
        models.check()
        return models

    def reopened(self, *, device: torch.device | None = None, memory: Memory | None = None) -> "Components":
        """The same files for another device or memory mode; nothing is loaded yet."""
        preset = self.preset if memory is None else replace(self.preset, memory=memory)
        other = Components(self.folder, preset, device or self.device)
        other.loras, other._checkpoints = self.loras, self._checkpoints
        return other

    def check(self) -> None:
        """Look at every file's header, and refuse what cannot play its part.

        Raises:
            WeightsError: one line about the first such file.
            ConfigError: there are motion features, and nothing that takes them.
        """
        for lora in (lora for each in self.loras.values() for lora in each):
            if not lora.path.exists():
                raise WeightsError(f"there is no LoRA file {lora.path}; training writes one when it is done")
        for component in ROLES:
            if self.has(component):
                self.checkpoint(component)
        if self.has("motion_features") and self.config("strag").wan.motion_feature_dim is None:
            raise ConfigError(
                f"preset '{self.preset.name}' has motion_features, and its 4D-STraG {self._path('strag')} "
                "takes none: leave the part out, or give one with Motion Perception (--part strag=FILE)"
            )
        for component, loras in self.loras.items():
            network = init_empty(self.checkpoint(component).architecture, self.checkpoint(component).config)
            for lora in loras:
                check_lora(lora.path, network)
        if self.checkpoint("strag").layout in UNTRAINED_LAYOUTS:
            _log.warning(
                "%s has never learned trajectories, so the motion it makes means nothing yet; fine-tune it "
                "with scripts/4D_STraG_training, then give --part strag=FILE",
                self._path("strag"),
            )
        self._check_codec()

    def _check_codec(self) -> None:
        """Say so where 4D-STraG, or a LoRA of it, was trained with another trajectory codec than is here."""
        path = self._path("strag")
        trained_with = {}
        if self.checkpoint("strag").layout == NATIVE_LAYOUT and path.is_file():
            trained_with[path] = read_network_header(path).notes.get(CODEC_METADATA_KEY)
        for lora in self.loras.get("strag", ()):
            trained_with[lora.path] = read_headers(lora.path).metadata.get(CODEC_METADATA_KEY)
        if not any(trained_with.values()):
            return
        codec = self._path("trajectory_codec")
        own = self.checkpoint("trajectory_codec").layout == NATIVE_LAYOUT
        here = content_name(codec, {} if own else self._options("trajectory_codec"))
        for path, name in trained_with.items():
            if name not in (None, here):
                _log.warning(
                    "%s was trained with another trajectory codec than %s, so the motion it makes means "
                    "nothing; give the codec of its training with --part trajectory_codec=FILE",
                    path,
                    codec,
                )

    def has(self, component: str) -> bool:
        """Whether the preset has a network for this part."""
        return self.preset.components.get(component) is not None

    def checkpoint(self, component: str) -> CheckpointInfo:
        """What the file of a part is, by its header.

        Raises:
            WeightsError: it is truncated, its tensors do not fit together, or it cannot play this part.
            ConfigError: the preset sets an option that its network does not have.
        """
        if component not in self._checkpoints:
            found = inspect_component(self.preset, self.folder, component)
            if found.problems:
                raise unusable_error(self._path(component), found)
            self._checkpoints[component] = found
        return self._checkpoints[component]

    def config(self, component: str) -> Any:
        """The configuration of the network that plays `component`, without loading it.

        Raises:
            WeightsError, ConfigError: as `checkpoint`.
        """
        return self.checkpoint(component).config

    @contextmanager
    def on_device(self, *components: str) -> Iterator[tuple[Any, ...]]:
        """The networks that play `parts`, able to compute until the block ends; None where there is none.

        Unless the preset keeps networks loaded, encoders are dropped at the end: they have said their part.

        Raises:
            WeightsError: as `network`.
        """
        try:
            with ExitStack() as stack:
                yield tuple(
                    stack.enter_context(self._load(component).on_device()) if self.has(component) else None
                    for component in components
                )
        finally:
            self._unload(
                []
                if self.preset.keep_loaded
                else [component for component in components if component in ENCODERS]
            )

    def encode_prompts(self, *prompts: str) -> EncodedPrompts:
        """The embeddings of these prompts. Each is encoded once, all that are new in one go.

        Raises:
            WeightsError: as `network`.
        """
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]:
            with self.on_device("text") as (text,), torch.inference_mode():
                self._prompts |= {prompt: text.encode_text([prompt]) for prompt in new}
        found = {prompt: self._prompts[prompt] for prompt in prompts}
        while len(self._prompts) > PROMPT_CACHE_SIZE:
            del self._prompts[next(iter(self._prompts))]
        return EncodedPrompts(found)

    def network(self, component: str) -> Any:
        """The network that plays `component`, behind the protocol of `networks.interface` that belongs to it.

        It can compute here in memory mode full only; in the others, inside `on_device`.

        Raises:
            WeightsError: its file is missing, truncated, of another kind, or does not fit its configuration.
        """
        return self._load(component).network

    def _load(self, component: str) -> OffloadedModule:
        if component not in self._loaded:
            self._empty_cache()  # an encoder's last user may have ended after it was dropped
            _log.info("loading %s from %s", component, self._path(component))
            network = self._open(component)
            self._loaded[component] = OffloadedModule(
                network, self.preset.memory, device=self.device, dtype=self.dtype
            )
        return self._loaded[component]

    def _open(self, component: str) -> Any:
        own = self.checkpoint(component).layout == NATIVE_LAYOUT
        network = open_network(
            self._path(component),
            role=component,
            device=self.device if self.preset.memory == "full" else OFFLOAD_DEVICE,
            dtype=self.dtype,
            options={} if own else self._options(component),
        )
        loras = self.loras.get(component, ())
        for lora in loras:
            _log.info("merging %s into %s at strength %g", lora.path, component, lora.strength)
        updates = [(read_lora(lora.path), lora.strength) for lora in loras]
        if updates:  # before a memory mode changes how weights are stored
            merge_loras(network, updates, keep="nothing")
        return network

    def depth_estimator(self, given: str = "") -> DepthEstimator:
        """The estimator of depth and field of view.

        Args:
            given: which of the two, "depth" or "intrinsics", it is not needed for; an error then says how to
                do without it.

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
        """A short name for the weights of these parts, which changes with their content and precision."""
        for component in components:
            if component not in self._fingerprints:
                self._fingerprints[component] = fingerprint(self._fingerprint_inputs(component))
        return fingerprint([self._fingerprints[component] for component in components])

    def _fingerprint_inputs(self, component: str) -> list[Any]:
        content = None
        if self.has(component) and (component != "depth" or self._path(component).exists()):
            content = path_fingerprint(self._path(component))
        named = [component, content, self.preset.depth_estimator]
        if self.has(component) and (options := self.preset.components.get(component).options):
            named.append(options)
        for lora in self.loras.get(component, ()):
            named += [path_fingerprint(lora.path), lora.strength]
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
                self._depth = None  # it cannot wait elsewhere than on the device
            self._unload([] if self.preset.keep_loaded else list(self._loaded))

    def _unload(self, components: Sequence[str]) -> None:
        """Forget these networks; those that nothing else uses are gone then."""
        for component in components:
            self._loaded.pop(component, None)
        if components or self.preset.memory != "full":
            self._empty_cache()

    def _empty_cache(self) -> None:
        """Give host and device back the memory of networks that nothing uses any more."""
        gc.collect()  # hooks refer to their modules, and these to them
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _options(self, component: str) -> dict[str, Any]:
        """What the preset says about reading a part's file; a file of our own format says it itself."""
        return component_options(self.preset, self.folder, component)

    def _path(self, component: str) -> Path:
        return component_path(self.preset, self.folder, component)


def _all_loras(
    folder: Path, own: LoraFiles, given: Mapping[str, Sequence[Lora]]
) -> dict[str, tuple[Lora, ...]]:
    """The updates of each generator: the preset's own, then those that were given."""
    found = {}
    for component in (field.name for field in fields(LoraFiles)):
        named = getattr(own, component)
        first = () if named is None else (Lora(path=folder / named.file, strength=named.strength),)
        if each := (*first, *given.get(component, ())):
            found[component] = each
    return found
