"""Measures that need networks which the user provides; each is there or is not, and nothing stands in for
it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from more4d.evaluation.record import mean
from more4d.metrics.features_backend import ClipSimilarity, VideoFeatures
from more4d.metrics.image_quality import frechet_distance
from more4d.metrics.lpips_backend import Lpips

Video = Float[Tensor, "frames height width 3"]
FRONT = "static"
"""The path on which CLIP's likeness is CLIP-F; on all others it is CLIP-O."""


@dataclass(frozen=True, kw_only=True)
class PerceptualOptions:
    """Which networks there are.

    Attributes:
        clip: folder of a CLIP model in the layout of transformers.
        video_features: folder of a VideoMAE model.
        lpips: whether LPIPS is measured; needs its package.
    """

    clip: Path | None = None
    video_features: Path | None = None
    lpips: bool = False


class PerceptualMetrics:
    """The networks, opened once."""

    def __init__(self, options: PerceptualOptions, *, device: str | torch.device = "cpu") -> None:
        """Open what `options` name.

        Raises:
            WeightsError: a folder holds no such model.
            MissingPackageError: LPIPS is asked for and not installed.
        """
        self._clip = ClipSimilarity.open(options.clip, device=device) if options.clip else None
        named = options.video_features
        self._features = VideoFeatures.open(named, device=device) if named else None
        self._lpips = Lpips.open() if options.lpips else None

    def compare(
        self, video: Video, truth: Video, path: str, covisible: Bool[Tensor, "frames height width"]
    ) -> dict[str, Any]:
        """What the networks there are say of a video; nothing where there is none."""
        said: dict[str, Any] = {}
        if self._clip is not None:
            said["clip_f" if path == FRONT else "clip_o"] = self._clip.similarity(video, truth)
        if self._lpips is not None:
            said["lpips"] = self._lpips.distance(video, truth)
            said["masked_lpips"] = self._lpips.distance(video, truth, covisible)
        if self._features is not None:
            said["features"] = self._features.embed(video).tolist()
        return said

    def features(self, video: Video) -> list[float] | None:
        """Of the truth, to take a distance from; None without such a network."""
        return None if self._features is None else self._features.embed(video).tolist()


def summarise_perceptual(results: Sequence[Mapping[str, Any]], name: str) -> dict[str, float | None]:
    """Means of what the networks said of the videos called `name`, and the distance of their features."""
    said = [each[name] for each in results]
    keys = [key for key in ("clip_f", "clip_o", "lpips", "masked_lpips") if any(key in each for each in said)]
    summary = {key: mean(each.get(key) for each in said) for key in keys}
    known = [each for each in results if each.get("truth_features") and "features" in each[name]]
    if len(known) > 1:
        videos, truths = (
            torch.tensor(rows)
            for rows in (
                [each[name]["features"] for each in known],
                [each["truth_features"] for each in known],
            )
        )
        summary["video_feature_distance"] = frechet_distance(videos, truths)
    return summary
