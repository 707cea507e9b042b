"""Depth models of the transformers library behind the depth interface: DepthAnything, DPT, ZoeDepth.

ZoeDepth, GLPN and the metric variants of DepthAnything answer in metres. DPT and the other DepthAnything
answer in relative inverse depth: 1 / depth up to a factor and an offset. Those are turned into metres by
one rule, an assumption and no measurement: the nearest 2 % of the image stand at `NEAREST_M`, the farthest
2 % at `FARTHEST_M`, and inverse depth is linear in between. None of these models knows a field of view: where
no camera is given, the longer side of the image is taken to span `LONG_SIDE_FOV_DEG`.
"""

from pathlib import Path

import torch
import transformers
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from more4d.foundation.errors import InputError, WeightsError
from more4d.geometry.camera import Camera, DepthMap, check_image, robust_quantile

METRIC_MODELS = ("zoedepth", "glpn")
RELATIVE_MODELS = ("dpt",)
EITHER_MODEL = "depth_anything"
NEAREST_M = 1.5
FARTHEST_M = 30.0
LONG_SIDE_FOV_DEG = 60.0


class TransformersDepthEstimator:
    """A depth model and its image processor behind `DepthEstimator`."""

    def __init__(
        self,
        model: transformers.PreTrainedModel,
        processor: transformers.BaseImageProcessor,
        device: str | torch.device = "cpu",
    ) -> None:
        self.metric = is_metric(model.config)
        self._model = model.to(device).eval()
        self._processor = processor

    @classmethod
    def open(cls, weights: Path, *, device: str | torch.device) -> "TransformersDepthEstimator":
        """Load the model and processor in the folder `weights`, or with that identifier of the hub.

        Raises:
            WeightsError: nothing loadable is there.
            InputError: it is no depth model this backend knows.
        """
        name = str(weights)
        try:
            # A folder can name code of its own to run; unless that is refused, transformers asks on stdin.
            config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
            is_metric(config)  # refuse before weights are fetched
            processor = transformers.AutoImageProcessor.from_pretrained(
                name, backend="pil", trust_remote_code=False
            )
            # safetensors only: other weight files are pickles, which can run code
            model = transformers.AutoModelForDepthEstimation.from_pretrained(
                name, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load depth model '{name}' ({reason}); fetch it again") from error
        return cls(model, processor, device)

    @torch.no_grad()
    def estimate(self, image: Float[Tensor, "height width 3"], camera: Camera | None = None) -> DepthMap:
        """See `DepthEstimator.estimate`; these models cannot use a given camera, they only pass it on."""
        check_image(image)
        height, width = image.shape[:2]
        pixels = (image.cpu() * 255).round().to(torch.uint8).numpy()
        # Undoing ZoeDepth's padding would take torchvision: without padding, borders are a little worse.
        inputs = self._processor(pixels, return_tensors="pt", do_pad=False, input_data_format="channels_last")
        prediction = self._model(pixel_values=inputs["pixel_values"].to(self._model.device)).predicted_depth
        prediction = prediction.float().reshape(1, 1, *prediction.shape[-2:])
        prediction = F.interpolate(prediction, (height, width), mode="bilinear", align_corners=False)[
            0, 0
        ].cpu()
        if camera is None:
            camera = default_camera(height=height, width=width)
        return DepthMap.from_raw(
            prediction if self.metric else metres_from_relative_depth(prediction), camera
        )


def is_metric(config: transformers.PreTrainedConfig) -> bool:
    """Whether a model of this configuration answers in metres, or else in relative inverse depth.

    Raises:
        InputError: it is no depth model this backend knows.
    """
    kind = config.model_type
    if kind == EITHER_MODEL:
        return config.depth_estimation_type == "metric"
    if kind not in METRIC_MODELS + RELATIVE_MODELS:
        known = ", ".join((EITHER_MODEL, *METRIC_MODELS, *RELATIVE_MODELS))
        raise InputError(f"a '{kind}' model cannot be used for depth; known model types: {known}")
    return kind in METRIC_MODELS


def metres_from_relative_depth(inverse: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    """Relative inverse depth to metres by the rule in the head of this file; a flat answer becomes a wall."""
    far, near = (robust_quantile(inverse, q) for q in (0.02, 0.98))
    share = ((inverse - far) / (near - far).clamp_min(1e-12)).clamp(0, 1)
    return 1 / (share / NEAREST_M + (1 - share) / FARTHEST_M)


def default_camera(*, height: int, width: int) -> Camera:
    """Square pixels, centred, `LONG_SIDE_FOV_DEG` across the longer side."""
    long = max(height, width)
    focal = Camera.from_fov(LONG_SIDE_FOV_DEG, width=long, height=long).fx * long
    return Camera(fx=focal / width, fy=focal / height)
