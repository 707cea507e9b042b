"""Equal contents are equal files: safetensors writes a file's texts in another order each time."""

import json
from pathlib import Path

LENGTH_BYTES = 8


def sort_metadata(path: Path) -> None:
    """Sort the texts in a safetensors file's header, in place; nothing else changes, its length neither.

    To be called before the file has its final name.

    Raises:
        ValueError: the header cannot be written back in the room it has.
    """
    with path.open("r+b") as file:
        length = int.from_bytes(file.read(LENGTH_BYTES), "little")
        header = json.loads(file.read(length))
        if "__metadata__" not in header:
            return
        ordered = {"__metadata__": dict(sorted(header.pop("__metadata__").items())), **header}
        text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) > length:
            raise ValueError(f"{path}: a header of {length} bytes became one of {len(text)}")
        file.seek(LENGTH_BYTES)
        file.write(text.ljust(length))
