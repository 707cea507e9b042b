"""What the tasks of both generators share: where training starts, what they are told, what is kept."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from more4d.datasets.latent_cache import LatentClips
from more4d.datasets.latents import LatentBatch, pad_text
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import ConfigError
from more4d.foundation.renamed import with_current_paths
from more4d.networks.strag import STraG, STraGConfig, with_text_grounding
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.pipelines.preset import LoraFile
from more4d.training.flow import FlowOptions, random_mask
from more4d.training.loading import (
    NetworkFile,
    PresetNetworks,
    fingerprint_of,
    load_component,
    network_config,
    open_text_grounding,
    path_of,
    preset_file,
    preset_loras,
    require_options,
    with_preset_files,
)
from more4d.training.task import Task
from more4d.weights.lora.adapters import LoraOptions, add_lora, trained_lora
from more4d.weights.lora.writing import write_lora
from more4d.weights.state import save_network

CACHE_DEFAULTS = {"clip_image": "photo", "network.behind": "False"}
"""What a cache was made with that does not say so."""


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Where training starts.

    Attributes:
        weights: a network to go on from; None starts from the preset's, or from nothing without a preset.
        text_grounding: file of a trained prompt reader, or of a 4D-STraG that has one, for a 4D-STraG that shall
            have it; the weights may be of a network without, or with another.
        loras: low-rank updates that are merged into these weights first; with the preset's weights, its own.
        lora: train low-rank updates of these sizes instead of all weights.
    """

    weights: NetworkFile | None = None
    text_grounding: Path | None = None
    loras: tuple[LoraFile, ...] = ()
    lora: LoraOptions | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions(PresetNetworks):
    """Options of both generators' tasks. Files are ours or as published; a preset names all of them at once.

    Attributes:
        network: sizes of the generator; None: those of the weights that it starts from.
        codec: file of the codec, frozen.
        text: file of the text encoder, frozen.
        clip: file of CLIP's vision tower, for transformers that take its view of the photo.
        cache: folder of a latent cache to train from, instead of `data` or `clips`.
        gradient_checkpointing: keep only what enters each block, and compute the rest again on the way back.
    """

    network: Any = None
    codec: NetworkFile | None = None
    text: NetworkFile | None = None
    clip: NetworkFile | None = None
    cache: Path | None = None
    seed: int = 0
    start: StartOptions = field(default_factory=StartOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    gradient_checkpointing: bool = False


def resolve_start(options: GeneratorOptions, kind: str) -> GeneratorOptions:
    """The options with where training starts, if that is the preset's generator, and with its sizes.

    Raises:
        ConfigError: there are neither sizes nor weights.
    """
    start, network = options.start, options.network
    if start.weights is None and (file := preset_file(options, kind)) is not None:
        start = replace(start, weights=file, loras=(*preset_loras(options, kind), *start.loras))
    if network is None and start.weights is None:
        raise ConfigError(
            "options: network is missing; give its sizes, or weights to start from, or a preset"
        )
    if network is None:
        network = network_config(start.weights, kind)
    return replace(options, start=start, network=network)


class TrainedGenerator:
    """A generator prepared for training. Not a module: the task holds the network itself."""

    def __init__(self, kind: str, config: STraGConfig | ViSMConfig, start: StartOptions) -> None:
        self.kind, self.start = kind, start
        self.network: STraG | ViSM
        if start.weights is None:
            if start.lora:
                raise ConfigError("a LoRA updates trained weights: set options.start.weights, too")
            self.network = STraG(config) if isinstance(config, STraGConfig) else ViSM(config)
        else:
            self.network = load_component(start.weights, kind, start.loras)
            if start.text_grounding and self.network.config != config:
                self.network = with_text_grounding(self.network, config)
            if self.network.config != config:
                raise ConfigError(f"options.network is not the network that {path_of(start.weights)} holds")
        if start.text_grounding:
            given = open_text_grounding(start.text_grounding)
            if given.config != config.text_grounding:
                raise ConfigError(
                    f"{start.text_grounding} holds a reader of other sizes or sharpness than options.network.text_grounding"
                )
            self.network.reader.load_state_dict(given.state_dict())
        self._lora_layers = add_lora(self.network, start.lora) if start.lora else []

    def export(self, folder: Path, notes: dict[str, str]) -> Path:
        """Write the network, or the updates alone, as LoRA files name them in the style asked for."""
        if self.start.lora:
            path = folder / f"{self.kind}_lora.safetensors"
            updates = trained_lora(self.network, self._lora_layers, self.start.lora)
            write_lora(path, updates, self.start.lora.style, notes)
            return path
        path = folder / f"{self.kind}.safetensors"
        config = self.network.config
        save_network(
            path, self.network, architecture=self.kind, config=config, notes=notes, dtype=torch.float16
        )
        return path


class GeneratorTask(Task):
    """Flow matching on latents, which come from pixels through frozen encoders, or from a cache of them."""

    latents: type[LatentBatch]
    """What the generator is trained on."""
    components: ClassVar[dict[str, str]]
    """Which part of a preset each option that names a file is for; that of the codec is its own."""

    def __init__(self, kind: str, options: GeneratorOptions, *, generator: bool) -> None:
        """`generator` is whether there is one: to encode a cache none is needed, and it may be large."""
        super().__init__()
        self.options = options = resolve_start(with_preset_files(options, self.components), kind)
        require_options(options, "codec", "text")
        self._generator = TrainedGenerator(kind, options.network, options.start) if generator else None
        self.codec = self.open_frozen("codec")
        self.text_encoder = self.open_frozen("text")
        self.clip = self.open_frozen("clip")
        if options.gradient_checkpointing and self._generator:
            self._generator.network.enable_gradient_checkpointing()
        if options.cache:
            self._cache = LatentClips(options.cache, seed=options.seed)
            self._check_cache(options.cache)
        constants = self._cache.constants() if options.cache else self.constants()
        self.register_buffer("empty_text", constants["empty_text"], persistent=False)

    @abstractmethod
    def pixel_dataset(self) -> Dataset:
        """The data set of pixels."""

    @abstractmethod
    def encode(self, batch: Any) -> LatentBatch:
        """What frozen (or trained) encoders make of a batch of pixels; a cache holds just this."""

    def encoder_files(self) -> dict[str, NetworkFile]:
        """What `encode` depends on."""
        files = {name: getattr(self.options, name) for name in ("codec", "text", "clip")}
        return {name: file for name, file in files.items() if file}

    def dataset(self) -> Dataset:
        return self._cache if self.options.cache else self.pixel_dataset()

    def encoded(self, batch: Any) -> LatentBatch:
        """The batch, encoded unless it comes from a cache."""
        return batch if isinstance(batch, self.latents) else self.encode(batch)

    @torch.no_grad()
    def constants(self) -> dict[str, Tensor]:
        """What a cache holds beside its samples."""
        return {"empty_text": self.text_encoder.encode_text([""])[0].float().cpu().contiguous()}

    def open_frozen(self, name: str) -> nn.Module | None:
        """The frozen encoder that an option names; None if it names none, or a cache stands in for it."""
        named = getattr(self.options, name)
        if named is None or self.options.cache:
            return None
        return load_component(named, self.components[name]).requires_grad_(False)

    def condition_dropout(
        self, text: Float[Tensor, "b length dim"], generator: torch.Generator
    ) -> Float[Tensor, "b longer dim"]:
        """Embeddings of captions, some of them replaced by that of the empty one, at random.

        No network is asked only because a caption was hit: under ZeRO-3 all processes gather the weights of
        a network together, and chance strikes them differently.
        """
        hit = random_mask(len(text), self.options.flow.text_dropout, generator)
        empty = self.null_text()
        length = max(text.shape[1], empty.shape[1])
        text, empty = pad_text(text, length), pad_text(empty.to(text), length)
        return torch.where(hit.to(text.device)[:, None, None], empty, text)

    def null_text(self) -> Float[Tensor, "1 length dim"]:
        """The embedding of the empty caption."""
        return self.empty_text[None]

    def _check_cache(self, folder: Path) -> None:
        header = self._cache.header
        if header.kind != self.latents.kind:
            raise ConfigError(f"{folder} holds {header.kind}; this task is trained on {self.latents.kind}")
        for name, file in self.encoder_files().items():
            if path_of(file).exists() and header.made_of.get(name) != fingerprint_of(file):
                raise ConfigError(
                    f"the cache in {folder} was not made with {path_of(file)}; make it again with: "
                    "more4d data cache"
                )
        mine, theirs = source_settings(self.options), with_current_paths(header.settings)
        if self.options.clips is None and "clips" in theirs:  # the clips were named when the cache was made
            mine = {name: value for name, value in mine.items() if not name.startswith("data")}
        for name, value in mine.items():
            if name != "clips" and theirs.get(name, CACHE_DEFAULTS.get(name)) != value:
                raise ConfigError(
                    f"the cache in {folder} was made with {name}={theirs.get(name)}, and options.{name} is"
                    f" {value}; change the option, or make the cache again"
                )

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        assert self._generator is not None
        return [self._generator.export(folder, notes)]


def source_settings(options: GeneratorOptions) -> dict[str, str]:
    """What encoded samples depend on besides the encoders: `clips.frames` and so on; not where they lie."""
    plain = to_mapping(options)
    source = "clips" if plain.get("clips") else "data"
    settings = {
        f"{source}.{name}": str(value)
        for name, value in plain[source].items()
        if name not in {"folder", "cache", "group", "passes"}
    }
    settings |= {source: str(plain["clips"]["folder"])} if source == "clips" else {}
    if "background_fill" in (network := plain.get("network") or {}):  # what 4D-ViSM is shown in holes
        settings["network.behind"] = str(network["background_fill"])
    return settings | {name: str(plain[name]) for name in ("moving_threshold", "clip_image") if name in plain}
