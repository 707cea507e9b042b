"""Captions of clips by any vision-language model of the transformers library.

Tests use a small model of random weights, which shows that images and question arrive and that an answer
comes back; how good a caption is depends on the model.
"""

import base64
from collections.abc import Callable
from typing import Any

import transformers
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import encode_jpeg
from more4d.foundation.errors import WeightsError

TASK = "image-text-to-text"
QUESTION = (
    "These pictures are moments of one short video, in order. In one plain English sentence of at most 25 "
    "words, say what is seen and what moves in which way. Do not speak of pictures, frames or the camera."
)
MAX_TOKENS = 80


class TransformersCaptioner:
    """Captions by a `transformers.Pipeline` for the task "image-text-to-text"."""

    def __init__(self, pipeline: Callable[..., Any]) -> None:
        self._pipeline = pipeline

    @classmethod
    def open(cls, name: str, *, device: str = "cpu") -> "TransformersCaptioner":
        """Load the model in the folder `name`, or with that identifier, onto `device`.

        Raises:
            WeightsError: the model cannot be loaded, or does not take images and return text.
        """
        try:
            # safetensors only: other weight files are pickles, which can run code
            pipeline = transformers.pipeline(
                TASK, model=name, device=device, dtype="auto", model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise WeightsError(f"cannot load a captioner from '{name}' ({reason})") from error
        return cls(pipeline)

    def caption(self, pictures: Float[Tensor, "pictures height width 3"]) -> str:
        """One line about images in [0, 1] of one event, in order; empty if the model returns nothing."""
        files = (base64.b64encode(encode_jpeg(picture, quality=90)).decode() for picture in pictures)
        seen = [{"type": "image", "url": f"data:image/jpeg;base64,{file}"} for file in files]
        asked = [{"role": "user", "content": [*seen, {"type": "text", "text": QUESTION}]}]
        answer = self._pipeline(
            text=asked,
            return_full_text=False,
            generate_kwargs={"max_new_tokens": MAX_TOKENS, "do_sample": False},
        )
        return " ".join(answer[0]["generated_text"].split()).strip("\"' ")
