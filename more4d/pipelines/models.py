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

from more4d.depth.interface import TRANSFORMERS_PREFIX, DepthEstimator, open_depth_estimator
from more4d.files.tensor_headers import read_headers
from more4d.foundation.errors import ConfigError, MissingPackageError, WeightsError
from more4d.networks.layouts import Recognised, open_network, unusable
from more4d.networks.lora import check_lora, merge_loras
from more4d.networks.lora_reading import read_lora
from more4d.networks.materialise import without_memory
from more4d.networks.offload import HOME, Memory, Placed
from more4d.networks.registry import ROLES
from more4d.networks.weights import read_network_header
from more4d.pipelines.fellows import Fellows
from more4d.pipelines.fingerprint import content_name, fingerprint, path_fingerprint
from more4d.pipelines.part_files import OURS, part_options, path_of, recognise_part, without_unheard
from more4d.pipelines.preset import GUIDE, Loras, Preset, check_files, find_preset, with_part
from more4d.pipelines.prompts import EncodedPrompts

ENCODERS = ("text", "clip", "motion_features")
"""Parts that are done as soon as the conditions are made."""

GENERATORS = ("strag", "vism")

REMEMBERED_PROMPTS = 64

CODEC_NOTE = "trajectory_codec"
"""What a 4D-STraG of this project notes under this name: the content of the codec it was trained with."""

UNTRAINED = ("wan-fun-control",)
"""Layouts that can stand in for 4D-STraG, but have not learned what it is for."""

OTHER_ESTIMATORS = "choose another estimator: --part depth=small (bundled), --part depth=transformers:FOLDER"
INSTEAD_OF_DEPTH = {
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


class Models:
    """Networks by the part they play; see `preset.Parts` for the names.

    Nothing is loaded before it is asked for. Networks asked for inside `released()` are dropped at its end
    unless the preset keeps them. They compute inside `at_work`, and wait where `preset.memory` says
    (`networks.offload`): in all modes but full, the GPU holds the networks of one such block and no others.

    Attributes:
        fellows: the processes that draw every sample together, if several do; see `pipelines.together`.
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
        self.fellows: Fellows | None = None
        self._loaded: dict[str, Placed] = {}
        self._depth: DepthEstimator | None = None
        self._prompts: dict[str, Tensor] = {}
        self._recognised: dict[str, Recognised] = {}
        self._identities: dict[str, str] = {}

    @classmethod
    def open(
        cls,
        folder: Path | None = None,
        device: str | torch.device = "cpu",
        *,
        preset: str | None = None,
        parts: Mapping[str, str] | None = None,
        loras: Mapping[str, Sequence[Lora]] | None = None,
        memory: Memory | None = None,
    ) -> "Models":
        """The models of a preset; of the files only the headers are read here.

        Args:
            folder: where the preset's files lie; see `find_preset`.
            preset: its name; see `find_preset`.
            parts: other files for some of its parts; see `with_part`.
            loras: updates to merge into "strag", "vism" or both, after the preset's own.
            memory: where weights are; by default as the preset says.

        Raises:
            WeightsError: a file is missing, truncated, or of another kind than its part needs.
            ConfigError: there is no such preset or part, or the preset has an unknown key or an impossible
                value.
        """
        asked = preset
        found, folder = find_preset(preset, folder)
        for part, file in (parts or {}).items():
            found = with_part(found, part, file)
        if memory:
            found = replace(found, memory=memory)
        found = without_unheard(found, folder, updated=bool(loras and loras.get("strag")))
        check_files(found, folder, asked)
        models = cls(folder, found, device, loras)
        models.check()
        return models

    def check(self) -> None:
        """Look at every file's header, and refuse what cannot play its part.

        Raises:
            WeightsError: one line about the first such file.
            ConfigError: there are motion features, and nothing that takes them.
        """
        for lora in (lora for each in self.loras.values() for lora in each):
            if not lora.path.exists():
                raise WeightsError(f"there is no LoRA file {lora.path}; training writes one when it is done")
        for part in ROLES:
            if self.has(part):
                self.recognised(part)
        if self.has("motion_features") and self.config("strag").wan.motion_feature_dim is None:
            raise ConfigError(
                f"preset '{self.preset.name}' has motion_features, and its 4D-STraG {self._path('strag')} "
                "takes none: leave the part out, or give one with Motion Perception (--part strag=FILE)"
            )
        for part, loras in self.loras.items():
            network = without_memory(self.recognised(part).kind, self.recognised(part).config)
            for lora in loras:
                check_lora(lora.path, network)
        if self.recognised("strag").layout in UNTRAINED:
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
        if self.recognised("strag").layout == OURS and path.is_file():
            trained_with[path] = read_network_header(path).notes.get(CODEC_NOTE)
        for lora in self.loras.get("strag", ()):
            trained_with[lora.path] = read_headers(lora.path).metadata.get(CODEC_NOTE)
        if not any(trained_with.values()):
            return
        codec = self._path("trajectory_codec")
        own = self.recognised("trajectory_codec").layout == OURS
        here = content_name(codec, {} if own else self._options("trajectory_codec"))
        for path, name in trained_with.items():
            if name not in (None, here):
                _log.warning(
                    "%s was trained with another trajectory codec than %s, so the motion it makes means "
                    "nothing; give the codec of its training with --part trajectory_codec=FILE",
                    path,
                    codec,
                )

    def has(self, part: str) -> bool:
        """Whether the preset has a network for this part."""
        return self.preset.parts.of(part) is not None

    def recognised(self, part: str) -> Recognised:
        """What the file of a part is, by its header.

        Raises:
            WeightsError: it is truncated, its tensors do not fit together, or it cannot play this part.
            ConfigError: the preset sets an option that its network does not have.
        """
        if part not in self._recognised:
            found = recognise_part(self.preset, self.folder, part)
            if found.problems:
                raise unusable(self._path(part), found)
            self._recognised[part] = found
        return self._recognised[part]

    def config(self, part: str) -> Any:
        """The configuration of the network that plays `part`, without loading it.

        Raises:
            WeightsError, ConfigError: as `recognised`.
        """
        return self.recognised(part).config

    @contextmanager
    def at_work(self, *parts: str) -> Iterator[tuple[Any, ...]]:
        """The networks that play `parts`, able to compute until the block ends; None where there is none.

        Unless the preset keeps networks loaded, encoders are dropped at the end: they have said their part.

        Raises:
            WeightsError: as `network`.
        """
        try:
            with ExitStack() as stack:
                yield tuple(
                    stack.enter_context(self._placed(part).at_work()) if self.has(part) else None
                    for part in parts
                )
        finally:
            self._drop([] if self.preset.keep_loaded else [part for part in parts if part in ENCODERS])

    def prompts(self, *prompts: str) -> EncodedPrompts:
        """The embeddings of these prompts. Each is encoded once, all that are new in one go.

        Raises:
            WeightsError: as `network`.
        """
        if new := [prompt for prompt in dict.fromkeys(prompts) if prompt not in self._prompts]:
            with self.at_work("text") as (text,), torch.inference_mode():
                self._prompts |= {prompt: text.encode_text([prompt]) for prompt in new}
        found = {prompt: self._prompts[prompt] for prompt in prompts}
        while len(self._prompts) > REMEMBERED_PROMPTS:
            del self._prompts[next(iter(self._prompts))]
        return EncodedPrompts(found)

    def network(self, part: str) -> Any:
        """The network that plays `part`, behind the protocol of `networks.interface` that belongs to it.

        It can compute here in memory mode full only; in the others, inside `at_work`.

        Raises:
            WeightsError: its file is missing, truncated, of another kind, or does not fit its configuration.
        """
        return self._placed(part).network

    def _placed(self, part: str) -> Placed:
        if part not in self._loaded:
            self._give_back()  # an encoder's last user may have ended after it was dropped
            _log.info("loading %s from %s", part, self._path(part))
            network = self._open(part)
            self._loaded[part] = Placed(network, self.preset.memory, device=self.device, dtype=self.dtype)
        return self._loaded[part]

    def _open(self, part: str) -> Any:
        own = self.recognised(part).layout == OURS
        network = open_network(
            self._path(part),
            role=part,
            device=self.device if self.preset.memory == "full" else HOME,
            dtype=self.dtype,
            options={} if own else self._options(part),
        )
        loras = self.loras.get(part, ())
        for lora in loras:
            _log.info("merging %s into %s at strength %g", lora.path, part, lora.strength)
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
            self._depth = self._open_depth(f"{INSTEAD_OF_DEPTH[given]}, or {OTHER_ESTIMATORS}")
        return self._depth

    def _open_depth(self, instead: str) -> DepthEstimator:
        name, path = self.preset.depth_estimator, self._path("depth") if self.has("depth") else None
        if path is not None and not path.exists():
            raise WeightsError(
                f"{path}, the weights of the depth estimator '{name}', is missing ({GUIDE} says where to get "
                f"it); {instead}"
            )
        if name == TRANSFORMERS_PREFIX.rstrip(":"):
            if path is None:
                raise ConfigError(f"'{name}' needs a model; say --part depth={TRANSFORMERS_PREFIX}FOLDER")
            name, path = f"{TRANSFORMERS_PREFIX}{path}", None
        if name == "unidepth" and path is None:
            raise WeightsError(
                f"'{name}' needs a folder of its weights, which are not fetched from anywhere; say --part "
                f"depth={name}:FOLDER ({GUIDE} says where to get it), or {instead}"
            )
        try:
            return open_depth_estimator(name, weights=path, device=self.device)
        except MissingPackageError as error:
            raise MissingPackageError(f"{error}; or {instead}") from error

    def identity(self, *parts: str) -> str:
        """A short name for the weights of these parts, which changes with their content and precision."""
        for part in parts:
            if part not in self._identities:
                self._identities[part] = fingerprint(self._identity(part))
        return fingerprint([self._identities[part] for part in parts])

    def _identity(self, part: str) -> list[Any]:
        content = None
        if self.has(part) and (part != "depth" or self._path(part).exists()):
            content = path_fingerprint(self._path(part))
        named = [part, content, self.preset.depth_estimator]
        if self.has(part) and (options := self.preset.parts.of(part).options):
            named.append(options)
        for lora in self.loras.get(part, ()):
            named += [path_fingerprint(lora.path), lora.strength]
        if self.dtype != torch.float32:
            named.append(str(self.dtype))
        if self.preset.memory == "fp8" and part in GENERATORS:  # no other mode changes a result
            named.append(self.preset.memory)
        return named

    @property
    def dtype(self) -> torch.dtype:
        """Precision the networks compute in."""
        return torch.float32 if self.device.type == "cpu" else getattr(torch, self.preset.dtype)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Drop what was loaded when the block ends, unless the preset keeps networks loaded."""
        try:
            yield
        finally:
            if not self.preset.keep_loaded or self.preset.memory != "full":
                self._depth = None  # it cannot wait elsewhere than on the device
            self._drop([] if self.preset.keep_loaded else list(self._loaded))

    def _drop(self, parts: Sequence[str]) -> None:
        """Forget these networks; those that nothing else uses are gone then."""
        for part in parts:
            self._loaded.pop(part, None)
        if parts or self.preset.memory != "full":
            self._give_back()

    def _give_back(self) -> None:
        """Give host and device back the memory of networks that nothing uses any more."""
        gc.collect()  # hooks refer to their modules, and these to them
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _options(self, part: str) -> dict[str, Any]:
        """What the preset says about reading a part's file; a file of our own format says it itself."""
        return part_options(self.preset, self.folder, part)

    def _path(self, part: str) -> Path:
        return path_of(self.preset, self.folder, part)


def _all_loras(folder: Path, own: Loras, given: Mapping[str, Sequence[Lora]]) -> dict[str, tuple[Lora, ...]]:
    """The updates of each generator: the preset's own, then those that were given."""
    found = {}
    for part in (field.name for field in fields(Loras)):
        named = getattr(own, part)
        first = () if named is None else (Lora(path=folder / named.file, strength=named.strength),)
        if each := (*first, *given.get(part, ())):
            found[part] = each
    return found
