"""A vision-language model gets images in order and a question; the caption is one line."""

from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    GPT2Tokenizer,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from more4d.foundation.errors import WeightsError
from more4d.networks.captioner_backend import QUESTION, TransformersCaptioner

TEMPLATE = (
    "{% for m in messages %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}"
)


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llava of a few thousand random weights, in a folder."""
    folder = tmp_path_factory.mktemp("captioner")
    letters = [*map(chr, range(33, 127)), "\u0120", "<s>", "</s>", "<pad>", "<unk>"]
    tokenizer = GPT2Tokenizer(
        vocab={letter: index for index, letter in enumerate(letters)},
        merges=[],
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    image = tokenizer.convert_tokens_to_ids("<image>")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**small, num_hidden_layers=2, image_size=28, patch_size=14),
        text_config=LlamaConfig(
            **small,
            num_hidden_layers=1,
            num_key_value_heads=2,
            vocab_size=len(tokenizer),
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        ),
        image_token_id=image,
        image_token_index=image,
        vision_feature_select_strategy="default",
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config)
    with torch.no_grad():  # the small weights of a new model would not let images matter
        for weight in model.parameters():
            weight.mul_(30 if weight.ndim > 1 else 1)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_model_of_the_library_answers_in_one_line(random_model):
    captioner = TransformersCaptioner.open(str(random_model))
    images = torch.rand(3, 40, 60, 3, generator=torch.Generator().manual_seed(0))
    caption = captioner.caption(images)
    assert caption and "\n" not in caption and QUESTION not in caption
    assert captioner.caption(images) == caption
    assert captioner.caption(1 - images) != caption, "the caption depends on the images"


class Listener:
    """In place of a pipeline: keeps its arguments."""

    def __call__(self, *, text, return_full_text, generate_kwargs):
        self.content = text[0]["content"]
        return [{"generated_text": ' "A dog\n runs. "\n'}]


def test_images_come_in_order_before_the_question():
    listener = Listener()
    caption = TransformersCaptioner(listener).caption(
        torch.linspace(0, 1, 3)[:, None, None, None].expand(3, 8, 8, 3)
    )
    assert caption == "A dog runs."
    assert [part["type"] for part in listener.content] == ["image", "image", "image", "text"]
    assert len({part["url"] for part in listener.content[:3]}) == 3
    assert listener.content[3]["text"] == QUESTION


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(WeightsError, match="cannot load a captioner"):
        TransformersCaptioner.open(str(tmp_path))
