"""A vision-language model gets images in order and a question; it answers in one line, or ranks answers."""

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
from more4d.networks.vlm_backend import VisionLanguageModel, _asked

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


QUESTION = "What moves?"
IMAGES = torch.rand(3, 40, 60, 3, generator=torch.Generator().manual_seed(0))
NAMES = ("orbit", "zoom-in", "turn-left", "mix1")


def test_a_model_of_the_library_answers_in_one_line(random_model):
    model = VisionLanguageModel.open(str(random_model))
    answer = model.ask(IMAGES, QUESTION)
    assert answer and "\n" not in answer and QUESTION not in answer
    assert model.ask(IMAGES, QUESTION) == answer
    assert model.ask(1 - IMAGES, QUESTION) != answer, "the answer depends on the images"


def test_every_answer_has_a_probability_whatever_the_order(random_model):
    model = VisionLanguageModel.open(str(random_model))
    ranked = model.rank(IMAGES, QUESTION, NAMES)
    assert bool((ranked > 0).all()) and float(ranked.sum()) == pytest.approx(1)
    order = [2, 0, 3, 1]
    again = model.rank(IMAGES, QUESTION, [NAMES[place] for place in order])
    torch.testing.assert_close(again, ranked[order])
    assert not torch.allclose(model.rank(1 - IMAGES, QUESTION, NAMES), ranked), "pictures arrive"
    assert not torch.allclose(model.rank(IMAGES, "What else?", NAMES), ranked), "and so does the question"


def test_ranks_are_log_probabilities_of_the_tokens(random_model):
    """The slow twin: one pass over the whole text, token by token."""
    model = VisionLanguageModel.open(str(random_model))
    network, processor = model._pipeline.model, model._pipeline.processor
    asked = processor.apply_chat_template(
        _asked(IMAGES[:1], QUESTION),
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    scores = []
    for name in NAMES[:2]:
        ids, score = asked["input_ids"], 0.0
        for token in [*processor.tokenizer(name)["input_ids"], processor.tokenizer.eos_token_id]:
            with torch.no_grad():
                known = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                logits = network(**known, pixel_values=asked["pixel_values"]).logits[0, -1]
            score += float(logits.log_softmax(-1)[token])
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
        scores.append(score)
    expected = torch.tensor(scores).softmax(0)
    torch.testing.assert_close(model.rank(IMAGES[:1], QUESTION, NAMES[:2]), expected, rtol=1e-3, atol=1e-5)


class Listener:
    """In place of a pipeline: keeps its arguments."""

    def __call__(self, *, text, return_full_text, generate_kwargs):
        self.content = text[0]["content"]
        return [{"generated_text": ' "A dog\n runs. "\n'}]


def test_images_come_in_order_before_the_question():
    listener = Listener()
    pictures = torch.linspace(0, 1, 3)[:, None, None, None].expand(3, 8, 8, 3)
    assert VisionLanguageModel(listener).ask(pictures, QUESTION) == "A dog runs."
    assert [part["type"] for part in listener.content] == ["image", "image", "image", "text"]
    assert len({part["url"] for part in listener.content[:3]}) == 3
    assert listener.content[3]["text"] == QUESTION


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(WeightsError, match="cannot load a vision-language model"):
        VisionLanguageModel.open(str(tmp_path))
