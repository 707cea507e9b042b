"""What lies beside the tensors of a LoRA: PEFT's settings, in the file's header or in a file of their own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors

from more4d.files.atomic import write_bytes
from more4d.foundation.errors import WeightsError

HEADER_KEY = "lora_adapter_metadata"
"""Where diffusers keeps PEFT's settings in the header of a safetensors file."""
PEFT_SETTINGS = "adapter_config.json"
PEFT_TENSORS = "adapter_model.safetensors"


def read_lora_settings(path: Path) -> dict[str, Any]:
    """PEFT's settings of the LoRA in `path`, a file or its folder: `r`, `lora_alpha` and so on; {} if none.

    Those in the file's header count before those beside it. Of a file that is no safetensors file only those
    beside it are known.

    Raises:
        WeightsError: the settings cannot be read.
    """
    folder = path if path.is_dir() else path.parent
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) == 1 and files[0].suffix == ".safetensors":
        text = _header(files[0]).get(HEADER_KEY)
        if text is not None:
            return _parsed(text, f"{files[0]}: its settings")
    beside = folder / PEFT_SETTINGS
    if path.is_dir() or path.name in {PEFT_TENSORS, "adapter_model.bin"}:
        try:
            return _parsed(beside.read_text(encoding="utf-8"), str(beside))
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"cannot read {beside} ({error}); fetch it again") from error
    return {}


def write_lora_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write PEFT's settings beside a LoRA in `folder`, atomically.

    Raises:
        InputError: the folder cannot be written to.
    """
    text = json.dumps(dict(settings), indent=2, sort_keys=True) + "\n"
    write_bytes(folder / PEFT_SETTINGS, text.encode())


def _header(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, "pt") as opened:
            return opened.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise WeightsError(f"{path} is not a whole safetensors file ({reason}); fetch it again") from error


def _parsed(text: str, what: str) -> dict[str, Any]:
    try:
        settings = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{what} cannot be read ({error}); fetch the file again") from error
    if not isinstance(settings, dict):
        raise WeightsError(f"{what} must be a table of PEFT's settings; fetch the file again")
    return settings
