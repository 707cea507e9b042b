"""Any vision-language model of the transformers library: it answers questions, or ranks answers.

Tests use a small model of random weights, which shows that pictures and question arrive and that an answer
comes back; how good it is depends on the model.
"""

import base64
from collections.abc import Sequence
from typing import Any

import torch
import transformers
from jaxtyping import Float
from torch import Tensor

from more4d.files.image import encode_jpeg
from more4d.foundation.errors import WeightsError

TASK = "image-text-to-text"
MAX_TOKENS = 80

Pictures = Float[Tensor, "pictures height width 3"]


class VisionLanguageModel:
    """Answers by a `transformers.Pipeline` for the task "image-text-to-text"."""

    def __init__(self, pipeline: Any) -> None:
        self._pipeline = pipeline

    @classmethod
    def open(cls, name: str, *, device: str = "cpu") -> "VisionLanguageModel":
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
            raise WeightsError(f"cannot load a vision-language model from '{name}' ({reason})") from error
        return cls(pipeline)

    def ask(self, pictures: Pictures, question: str) -> str:
        """One line about images in [0, 1], in order; empty if the model returns nothing."""
        answer = self._pipeline(
            text=_asked(pictures, question),
            return_full_text=False,
            generate_kwargs={"max_new_tokens": MAX_TOKENS, "do_sample": False},
        )
        return " ".join(answer[0]["generated_text"].split()).strip("\"' ")

    @torch.inference_mode()
    def rank(self, pictures: Pictures, question: str, answers: Sequence[str]) -> Float[Tensor, " answers"]:
        """The probability of each answer among these: nothing is generated, so there are no others.

        Every answer is put after the same question (teacher forcing); its log-probability is the sum over its
        tokens and the end, so that an answer which begins another one is not preferred for being short.
        """
        model, processor = self._pipeline.model, self._pipeline.processor
        prompt = processor.apply_chat_template(
            _asked(pictures, question),
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(model.device, dtype=model.dtype)
        end = [processor.tokenizer.eos_token_id]
        scores = []
        for answer in answers:
            tokens = processor.tokenizer(answer, add_special_tokens=False)["input_ids"]
            tokens = torch.tensor([tokens + [each for each in end if each is not None]]).to(model.device)
            logits = model(**_followed_by(prompt, tokens)).logits[0, -tokens.shape[1] - 1 : -1]
            chosen = logits.float().log_softmax(-1).gather(1, tokens.T)  # of each token, given those before
            scores.append(chosen.sum())
        return torch.stack(scores).softmax(0).cpu()


def _asked(pictures: Pictures, question: str) -> list[dict[str, Any]]:
    """Pictures and a question as a conversation."""
    files = (base64.b64encode(encode_jpeg(picture, quality=90)).decode() for picture in pictures)
    seen = [{"type": "image", "url": f"data:image/jpeg;base64,{file}"} for file in files]
    return [{"role": "user", "content": [*seen, {"type": "text", "text": question}]}]


def _followed_by(prompt: Any, tokens: Tensor) -> dict[str, Any]:
    """A prompt with an answer after it; what is said of each token of it is continued."""
    length = prompt["input_ids"].shape
    longer = dict(prompt)
    for name, values in prompt.items():
        if isinstance(values, Tensor) and values.shape == length:
            # attended to, and text (of kind 0) for models that number kinds of tokens
            more = torch.ones_like(tokens) if name == "attention_mask" else torch.zeros_like(tokens)
            longer[name] = torch.cat([values, (tokens if name == "input_ids" else more).to(values)], 1)
    return longer
