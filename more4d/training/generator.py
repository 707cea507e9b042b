"""What the tasks of both generators share: flow matching, initial weights, dropout of conditions, caches."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.data import Dataset

from more4d.datasets.batch import LatentBatch, pad_text
from more4d.datasets.latent_cache import LatentClips
from more4d.diffusion.flow_matching import DENSITIES, interpolate, sample_sigmas, velocity_target
from more4d.foundation.config import to_mapping
from more4d.foundation.errors import ConfigError
from more4d.networks.strag import STraG, STraGConfig, with_text_grounding
from more4d.networks.vism import ViSM, ViSMConfig
from more4d.pipelines.preset import LoraFile
from more4d.training import loading
from more4d.training.loading import NetworkFile, path_of
from more4d.training.task import NOISE_LEVELS, Task, export_half, mean_per_sample, noise_levels
from more4d.weights.lora.io import write_lora
from more4d.weights.lora.merge import LoraOptions, add_lora, trained_lora


@dataclass(frozen=True, kw_only=True)
class FlowOptions:
    """Options of flow matching.

    Attributes:
        shift: see `diffusion.flow_matching.shift_sigma`; above 1 favours high noise levels.
        density: see `diffusion.flow_matching.sample_sigmas`.
        text_dropout: probability that a caption is replaced by the empty one, for classifier-free guidance.
        image_dropout: probability that the photo's latents and CLIP embedding are zeroed; published: 0.02.
        depth_dropout: probability that the depth map's latents are zeroed.
        difference: weight of the loss on differences between neighbouring latent frames; published: 0 or
            0.25.
    """

    shift: float = 3.0
    density: str = "uniform"
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    depth_dropout: float = 0.0
    difference: float = 0.0

    def __post_init__(self) -> None:
        if not self.shift > 0 or self.density not in DENSITIES:
            raise ConfigError(
                f"flow: shift must be positive and density one of {', '.join(DENSITIES)};"
                f" got {self.shift} and '{self.density}'"
            )
        for name in ("text_dropout", "image_dropout", "depth_dropout", "difference"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"flow: {name} must lie in [0, 1], got {getattr(self, name)}")


class FlowSample(NamedTuple):
    """Noisy latents, their noise levels [b], and the velocity to predict."""

    noisy: Float[Tensor, "b c t h w"]
    sigma: Float[Tensor, " b"]
    target: Float[Tensor, "b c t h w"]


def add_noise(
    clean: Float[Tensor, "b c t h w"], options: FlowOptions, generator: torch.Generator
) -> FlowSample:
    """Add noise at random levels to clean latents; sampled on the CPU, so that all devices give the same."""
    sigma = sample_sigmas(len(clean), shift=options.shift, density=options.density, generator=generator)
    sigma = sigma.to(clean.device)
    noise = torch.randn(clean.shape, generator=generator).to(clean)
    return FlowSample(interpolate(clean, noise, sigma), sigma, velocity_target(clean, noise))


def random_mask(count: int, rate: float, generator: torch.Generator) -> Bool[Tensor, " b"]:
    """Mask of `count` samples, each True with probability `rate`; on the CPU."""
    return torch.rand(count, generator=generator) < rate


def zero_where(values: Float[Tensor, "b *shape"], hit: Bool[Tensor, " b"]) -> Float[Tensor, "b *shape"]:
    """`values` with the samples where `hit` is True set to zero."""
    return values * (~hit).to(values).view(-1, *[1] * (values.ndim - 1))


def flow_losses(
    velocity: Float[Tensor, "b c t h w"],
    target: Float[Tensor, "b c t h w"],
    weight: Float[Tensor, "b 1 t h w"],
    difference: float,
) -> Float[Tensor, " b"]:
    """Weighted squared error of each sample in float32, normalised by the batch's mean weight: the mean over
    samples is the weighted mean over the whole batch.

    `difference` is the weight of the error of differences between neighbouring frames, each weighted by the
    smaller weight of the two. (The reference takes differences of channels instead.)
    """
    error = velocity.float() - target.float()
    losses = _weighted(error.square(), weight)
    if difference and error.shape[2] > 1:
        pairs = torch.minimum(weight[:, :, 1:], weight[:, :, :-1])
        losses = (1 - difference) * losses + difference * _weighted(error.diff(dim=2).square(), pairs)
    return losses


def noise_level_metrics(
    start: FlowSample, velocity: Float[Tensor, "b c t h w"], weight: Float[Tensor, "b 1 t h w"]
) -> dict[str, Tensor]:
    """Noise level and weighted mean squared error of each sample, for the journal's loss per noise level."""
    squared = (velocity.detach().float() - start.target.float()).square()
    return {NOISE_LEVELS: noise_levels(start.sigma, mean_per_sample(squared, weight))}


def _weighted(values: Float[Tensor, "b c t h w"], weight: Float[Tensor, "b 1 t h w"]) -> Float[Tensor, " b"]:
    per_sample = (weight * values).flatten(1).sum(1)
    return per_sample * (len(values) / (weight.sum() * values.shape[1]).clamp(min=1e-6))


CACHE_DEFAULTS = {"clip_image": "photo", "network.background_fill": "False", "data.amounts": "[1.0, 1.0]"}
"""Settings assumed for caches written before these settings were stored."""


@dataclass(frozen=True, kw_only=True)
class StartOptions:
    """Initial weights.

    Attributes:
        weights: file of a network; None: the preset's, or random weights without a preset.
        text_grounding: file of a trained text grounding head, or of a 4D-STraG that has one; it replaces the
            head of `weights`, if that has any.
        loras: LoRAs merged into these weights first; with the preset's weights, the preset's LoRA.
        lora: train a LoRA of these sizes instead of all weights.
    """

    weights: NetworkFile | None = None
    text_grounding: Path | None = None
    loras: tuple[LoraFile, ...] = ()
    lora: LoraOptions | None = None


@dataclass(frozen=True, kw_only=True)
class GeneratorOptions:
    """Options of both generators' tasks. Files may have any known layout; a preset names all of them at once.

    Attributes:
        preset: name of a preset (or its YAML file) whose networks are used where no file is named.
        weights: folder of the preset's files; see `pipelines.preset.find_preset`.
        network: sizes of the generator; None: those of its initial weights.
        codec: file of the codec, frozen.
        text: file of the text encoder, frozen.
        clip: file of CLIP's vision tower, for transformers conditioned on the photo's CLIP embedding.
        cache: folder of a latent cache to train from, instead of `data` or `clips`.
        gradient_checkpointing: keep the input of each block only and recompute the rest in the backward pass.
    """

    preset: str | None = None
    weights: Path | None = None
    network: Any = None
    codec: NetworkFile | None = None
    text: NetworkFile | None = None
    clip: NetworkFile | None = None
    cache: Path | None = None
    seed: int = 0
    start: StartOptions = field(default_factory=StartOptions)
    flow: FlowOptions = field(default_factory=FlowOptions)
    gradient_checkpointing: bool = False


def resolve_options(options: GeneratorOptions, kind: str, components: Mapping[str, str]) -> GeneratorOptions:
    """The options with the preset's files and initial weights where none are named, and with their sizes.

    Args:
        components: component of the preset by the option that names its file; options of components that the
            preset lacks stay None.

    Raises:
        ConfigError: there is no such preset, no codec or text encoder, or neither sizes nor weights.
        WeightsError: there is no such folder of weights.
    """
    missing = {name: component for name, component in components.items() if getattr(options, name) is None}
    given = (options.preset, options.weights)
    files = {name: loading.preset_file(*given, component) for name, component in missing.items()}
    options = replace(options, **files)
    for name in ("codec", "text"):
        if getattr(options, name) is None:
            raise ConfigError(
                f"options: {name} is missing; name its file, or a preset that has it (options.preset)"
            )
    start, network = options.start, options.network
    if start.weights is None and (file := loading.preset_file(*given, kind)) is not None:
        loras = (*loading.preset_loras(*given, kind), *start.loras)
        start = replace(start, weights=file, loras=loras)
    if network is None and start.weights is None:
        raise ConfigError(
            "options: network is missing; give its sizes, or weights to start from, or a preset"
        )
    network = network or loading.network_config(start.weights, kind)
    return replace(options, start=start, network=network)


def build_generator(kind: str, config: STraGConfig | ViSMConfig, start: StartOptions) -> STraG | ViSM:
    """A generator with its initial weights.

    Raises:
        ConfigError: `config` is not the configuration of the weights.
    """
    if start.weights is None:
        if start.lora:
            raise ConfigError("a LoRA updates trained weights: set options.start.weights, too")
        network = STraG(config) if isinstance(config, STraGConfig) else ViSM(config)
    else:
        network = loading.load_component(start.weights, kind, start.loras)
        if start.text_grounding and network.config != config:
            network = with_text_grounding(network, config)
        if network.config != config:
            raise ConfigError(f"options.network is not the network that {path_of(start.weights)} holds")
    if start.text_grounding:
        given = loading.open_text_grounding(start.text_grounding)
        if given.config != config.text_grounding:
            raise ConfigError(
                f"{start.text_grounding} holds a text grounding head of another configuration than"
                " options.network.text_grounding"
            )
        network.reader.load_state_dict(given.state_dict())
    return network


class GeneratorTask(Task):
    """Flow matching on latents, which frozen encoders make from pixels, or which come from a cache."""

    latents: type[LatentBatch]
    """The class of the latents."""
    components: ClassVar[dict[str, str]]
    """Component of a preset by the option that names its file, without the codec."""

    def __init__(self, kind: str, options: GeneratorOptions, *, generator: bool) -> None:
        """`generator`: whether to build the generator; encoding a cache does not need it."""
        super().__init__()
        self.options = options = resolve_options(options, kind, self.components)
        network = build_generator(kind, options.network, options.start) if generator else None
        self._lora_layers = add_lora(network, options.start.lora) if generator and options.start.lora else []
        self.codec = self.open_frozen("codec")
        self.text_encoder = self.open_frozen("text")
        self.clip = self.open_frozen("clip")
        self._kind = kind
        self.register_module(kind, network)
        if options.gradient_checkpointing and network:
            network.transformer.gradient_checkpointing = True
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
        """Encode a batch of pixels; a cache stores the result."""

    def encoder_files(self) -> dict[str, NetworkFile]:
        """The network files that `encode` depends on."""
        return {name: file for name in ("codec", "text", "clip") if (file := getattr(self.options, name))}

    def dataset(self) -> Dataset:
        return self._cache if self.options.cache else self.pixel_dataset()

    def encoded(self, batch: Any) -> LatentBatch:
        """The batch, encoded unless it comes from a cache."""
        return batch if isinstance(batch, self.latents) else self.encode(batch)

    @torch.no_grad()
    def constants(self) -> dict[str, Tensor]:
        """Tensors that a cache stores once for all samples."""
        return {"empty_text": self.text_encoder.encode_text([""])[0].float().cpu().contiguous()}

    def open_frozen(self, name: str) -> nn.Module | None:
        """The frozen encoder that an option names; None if it names none, or training uses a cache."""
        named = getattr(self.options, name)
        if named is None or self.options.cache:
            return None
        return loading.load_component(named, self.components[name]).requires_grad_(False)

    def condition_dropout(
        self, text: Float[Tensor, "b length dim"], generator: torch.Generator
    ) -> Float[Tensor, "b longer dim"]:
        """Caption embeddings, replaced at random by the embedding of the empty caption.

        Whether a network runs does not depend on the random mask: under ZeRO-3 all processes gather the
        weights of a network together, and their masks differ.
        """
        hit, empty = random_mask(len(text), self.options.flow.text_dropout, generator), self.null_text()
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
            if path_of(file).exists() and header.made_of.get(name) != loading.fingerprint_of(file):
                raise ConfigError(
                    f"the cache in {folder} was not made with {path_of(file)}; make it again with: "
                    "more4d data cache"
                )
        mine, theirs = source_settings(self.options), header.settings
        if self.options.clips is None and "clips" in theirs:  # the clips were named when the cache was made
            mine = {name: value for name, value in mine.items() if not name.startswith("data")}
        for name, value in mine.items():
            if name != "clips" and theirs.get(name, CACHE_DEFAULTS.get(name)) != value:
                raise ConfigError(
                    f"the cache in {folder} was made with {name}={theirs.get(name)}, and options.{name} is"
                    f" {value}; change the option, or make the cache again"
                )

    def export(self, folder: Path, notes: dict[str, str]) -> list[Path]:
        """Write the generator, or its LoRA alone with tensor names of the configured style."""
        kind, network, lora = self._kind, getattr(self, self._kind), self.options.start.lora
        if not lora:
            return [export_half(folder / f"{kind}.safetensors", network, kind, notes)]
        path = folder / f"{kind}_lora.safetensors"
        write_lora(path, trained_lora(network, self._lora_layers, lora), lora.style, notes)
        return [path]


def source_settings(options: GeneratorOptions) -> dict[str, str]:
    """Settings besides the encoders that encoded samples depend on (`clips.frames` and so on); no paths."""
    plain = to_mapping(options)
    source = "clips" if plain.get("clips") else "data"
    settings = {
        f"{source}.{name}": str(value)
        for name, value in plain[source].items()
        if name not in {"folder", "cache", "group", "passes"}
    }
    settings |= {source: str(plain["clips"]["folder"])} if source == "clips" else {}
    network = plain.get("network") or {}
    if "background_fill" in network:  # how holes of 4D-ViSM's input are filled
        settings["network.background_fill"] = str(network["background_fill"])
    return settings | {name: str(plain[name]) for name in ("moving_threshold", "clip_image") if name in plain}
