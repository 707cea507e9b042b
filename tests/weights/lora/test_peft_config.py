"""PEFT's settings are read from a header, as diffusers writes them, or from their own file."""

import json

import pytest
import torch

from more4d.foundation.errors import WeightsError
from more4d.weights.lora.io import PEFT_CONFIG_FILE, PEFT_METADATA_KEY, PEFT_WEIGHTS_FILE, read_peft_config
from more4d.weights.state import write_tensors

TENSORS = {"x": torch.ones(2)}


def test_the_header_takes_precedence_over_the_folder(tmp_path):
    path = tmp_path / PEFT_WEIGHTS_FILE
    (tmp_path / PEFT_CONFIG_FILE).write_text(json.dumps({"r": 1}))
    write_tensors(path, TENSORS, {})
    assert read_peft_config(path) == {"r": 1}
    write_tensors(path, TENSORS, {PEFT_METADATA_KEY: json.dumps({"r": 2})})
    assert read_peft_config(path) == {"r": 2}


def test_settings_of_another_file_in_the_folder_are_ignored(tmp_path):
    (tmp_path / PEFT_CONFIG_FILE).write_text(json.dumps({"r": 1}))
    write_tensors(tmp_path / "other.safetensors", TENSORS, {})
    assert read_peft_config(tmp_path / "other.safetensors") == {}


def test_no_settings_are_none(tmp_path):
    write_tensors(tmp_path / PEFT_WEIGHTS_FILE, TENSORS, {})
    assert read_peft_config(tmp_path / PEFT_WEIGHTS_FILE) == {}
    assert read_peft_config(tmp_path) == {}


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe"])
def test_settings_that_cannot_be_read_are_one_line(tmp_path, text):
    (tmp_path / PEFT_CONFIG_FILE).write_bytes(text)
    write_tensors(tmp_path / PEFT_WEIGHTS_FILE, TENSORS, {})
    with pytest.raises(WeightsError, match=PEFT_CONFIG_FILE) as error:
        read_peft_config(tmp_path)
    assert "\n" not in str(error.value)


def test_a_damaged_header_is_one_line(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS, {PEFT_METADATA_KEY: "{"})
    with pytest.raises(WeightsError, match=r"x\.safetensors: its settings cannot be read"):
        read_peft_config(path)
