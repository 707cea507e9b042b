"""Fingerprints: short hashes of values, files and weights."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from more4d.files.checkpoint_headers import INDEX_SUFFIX
from more4d.files.torch_files import SUFFIXES

WHOLE_BYTES = 256 << 20
DESCRIBED = "config.json"
HOLD_WEIGHTS = (*SUFFIXES, ".json")
_SAMPLES, _SAMPLE_BYTES = 64, 1 << 16


def fingerprint(value: Any) -> str:
    """Fingerprint of a JSON value; the order of keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_fingerprint(path: Path) -> str:
    """Fingerprint of a file's content.

    Above 256 MiB (large weights) only its size and 65 evenly spaced pieces, its ends included, are read:
    enough to distinguish weights, and thousands of times faster.
    """
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            while piece := file.read(1 << 20):
                digest.update(piece)
        else:
            digest.update(str(size).encode())
            for index in range(_SAMPLES + 1):
                file.seek(index * (size - _SAMPLE_BYTES) // _SAMPLES)
                digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()[:16]


def path_fingerprint(path: Path) -> str:
    """Fingerprint of weights.

    For a file: its content and that of the `config.json` in its folder, which decides how it is read. For a
    folder: all its files with tensors or configurations. For an index: its folder.
    """
    if path.name.endswith(INDEX_SUFFIX):
        return path_fingerprint(path.parent)
    if path.is_file():
        beside = path.with_name(DESCRIBED)
        own = file_fingerprint(path)
        return fingerprint([own, file_fingerprint(beside)]) if beside.is_file() else own
    files = sorted(file for file in path.rglob("*") if file.suffix in HOLD_WEIGHTS and file.is_file())
    return fingerprint([[file.relative_to(path).as_posix(), file_fingerprint(file)] for file in files])


def content_name(path: Path, options: Mapping[str, Any]) -> str:
    """Fingerprint of a network: its weights and the options they are read with."""
    content = path_fingerprint(path)
    return fingerprint([content, dict(options)]) if options else content
