"""What lies beside the tensors of a LoRA: PEFT's settings, in the file's header or in a file of their own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more4d.files.atomic import write_bytes
from more4d.files.checkpoint_headers import read_headers
from more4d.foundation.errors import WeightsError

PEFT_METADATA_KEY = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's settings in the header of a safetensors file."""
PEFT_CONFIG_FILE = "adapter_config.json"
PEFT_WEIGHTS_FILE = "adapter_model.safetensors"
PEFT_WEIGHTS_FILES = (PEFT_WEIGHTS_FILE, "adapter_model.bin")


def read_peft_config(path: Path) -> dict[str, Any]:
    """PEFT's settings of the LoRA in `path`, a file or its folder: `r`, `lora_alpha` and so on; {} if none.

    Those in the header of a safetensors file count before those beside it.

    Raises:
        WeightsError: there is no file, or the settings cannot be read.
    """
    text = read_headers(path).metadata.get(PEFT_METADATA_KEY)
    if text is not None:
        return _parse_config(text, f"{path}: its settings")
    if not path.is_dir() and path.name not in PEFT_WEIGHTS_FILES:
        return {}  # the settings in this folder are of another file
    config_path = (path if path.is_dir() else path.parent) / PEFT_CONFIG_FILE
    try:
        return _parse_config(config_path.read_text(encoding="utf-8"), str(config_path))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise WeightsError(f"cannot read {config_path} ({error}); fetch it again") from error


def write_peft_config(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write PEFT's settings beside a LoRA in `folder`, atomically.

    Raises:
        InputError: the folder cannot be written to.
    """
    text = json.dumps(dict(settings), indent=2, sort_keys=True) + "\n"
    write_bytes(folder / PEFT_CONFIG_FILE, text.encode())


def _parse_config(text: str, what: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{what} cannot be read ({error}); fetch the file again") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"{what} must be a table of PEFT's settings; fetch the file again")
    return settings
