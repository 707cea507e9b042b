"""The networks of a preset, each loaded when its stage needs it."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from more4d.depth.interface import DepthEstimator, open_depth_estimator
from more4d.foundation.errors import WeightsError
from more4d.networks.lora import merge_lora
from more4d.networks.registry import BUILDERS
from more4d.networks.weights import load_network, read_network_header, read_tensors
from more4d.pipelines.fingerprint import file_fingerprint, fingerprint
from more4d.pipelines.preset import NAME, Preset, load_preset

KINDS: dict[str, tuple[str, ...]] = {
    "trajectory_codec": ("tiny-trajectory-codec", "wan-trajectory-vae"),
    "strag": ("strag",),
    "text": ("umt5-text-encoder",),
    "video_codec": ("tiny-video-codec", "wan-video-vae", "wan-trajectory-vae"),
    "vism": ("vism",),
    "motion_features": ("omnimae",),
    "clip": ("clip-vision",),
}
"""Which kinds of network file can play which part; `networks.registry` builds them."""

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
    unless the preset keeps them.
    """

    def __init__(
        self,
        folder: Path,
        preset: Preset,
        device: str | torch.device = "cpu",
        loras: Mapping[str, Lora] | None = None,
    ) -> None:
        self.folder, self.preset, self.device = folder, preset, torch.device(device)
        self.loras = dict(loras or {})
        self._loaded: dict[str, Any] = {}
        self._identities: dict[str, str] = {}

    @classmethod
    def open(
        cls,
        folder: Path,
        device: str | torch.device = "cpu",
        *,
        loras: Mapping[str, Lora] | None = None,
    ) -> "Models":
        """The models of a preset's folder; of the files only the headers are read here.

        Args:
            loras: updates to merge into "strag", "vism" or both.

        Raises:
            WeightsError: a file is missing, truncated, or of another kind than its part needs.
            ConfigError: `preset.yaml` has an unknown key or an impossible value.
        """
        models = cls(folder, load_preset(folder), device, loras)
        for lora in models.loras.values():
            if not lora.path.is_file():
                raise WeightsError(f"there is no LoRA file {lora.path}; training writes one when it is done")
        for part, kinds in KINDS.items():
            if models.has(part):
                found = read_network_header(models._path(part)).kind
                if found not in kinds:
                    raise WeightsError(
                        f"{models._path(part)} holds a '{found}', and {part} needs {' or '.join(kinds)}; "
                        f"correct {folder / NAME}"
                    )
        return models

    def has(self, part: str) -> bool:
        """Whether the preset has a network for this part."""
        return getattr(self.preset.parts, part) is not None

    def network(self, part: str) -> Any:
        """The network that plays `part`, behind the protocol of `networks.interface` that belongs to it.

        Raises:
            WeightsError: its file is missing, truncated, of another kind, or does not fit its configuration.
        """
        if part not in self._loaded:
            path = self._path(part)
            _log.info("loading %s from %s", part, path)
            kinds = {kind: BUILDERS[kind] for kind in KINDS[part]}
            network = load_network(path, kinds, device=self.device, dtype=self.dtype)
            if part in self.loras:
                lora = self.loras[part]
                _log.info("merging %s into %s", lora.path, part)
                merge_lora(network, read_tensors(lora.path), lora.strength, where=str(lora.path))
            self._loaded[part] = network
        return self._loaded[part]

    def depth_estimator(self) -> DepthEstimator:
        """The estimator of depth and field of view.

        Raises:
            WeightsError: its file is missing, truncated, or does not fit.
            MissingPackageError: the preset's estimator needs an optional package.
        """
        if "depth" not in self._loaded:
            weights = self._path("depth") if self.has("depth") else None
            self._loaded["depth"] = open_depth_estimator(
                self.preset.depth_estimator, weights=weights, device=self.device
            )
        return self._loaded["depth"]

    def identity(self, *parts: str) -> str:
        """A short name for the weights of these parts, which changes with their content."""
        for part in parts:
            if part not in self._identities:
                content = file_fingerprint(self._path(part)) if self.has(part) else None
                named = [part, content, self.preset.depth_estimator]
                if part in self.loras:
                    lora = self.loras[part]
                    named += [file_fingerprint(lora.path), lora.strength]
                self._identities[part] = fingerprint(named)
        return fingerprint([self._identities[part] for part in parts])

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
            if not self.preset.keep_loaded:
                self._loaded.clear()
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()

    def _path(self, part: str) -> Path:
        file = getattr(self.preset.parts, part)
        if file is None:
            raise ValueError(f"preset '{self.preset.name}' has no {part}")
        return self.folder / file
