"""Which published files a preset needs, and where they come from: `config/weights/NAME.yaml`.

A manifest says for each part of a preset which files of which repository go where, and under which licence.
It names no commits, sizes or hashes, which were not seen: `weights.fetch` asks the hub. Imports no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from more4d.foundation.config import ROOT, USER_WEIGHTS, from_mapping
from more4d.foundation.documents import DocumentError, parse_yaml, read_text
from more4d.foundation.errors import ConfigError, WeightsError

MANIFESTS = ROOT / "config" / "weights"
COMMAND = "bash scripts/more4d.sh weights fetch"
DEPTH = "depth"
_SHAPE = {"parts": {str: {str: Any}}}


@dataclass(frozen=True, kw_only=True)
class Part:
    """Files of one repository, or one file at an address.

    Attributes:
        what: for people.
        to: the folder below that of weights; of a `url` the file.
        licence: as its page says, for people.
        about_gb: gigabytes, counted by this project from shapes, or as the page says; for orientation only.
        repo: on Hugging Face.
        modelscope: the same on ModelScope, where it is there.
        url: the address of a file that lies on no hub.
        files: patterns of names in the repository; each must match something.
        gated: whether its page asks for an account.
        optional: whether it is fetched only if it is named: what forbids commercial use, and what few need.
    """

    what: str
    to: str
    licence: str
    about_gb: float
    repo: str | None = None
    modelscope: str | None = None
    url: str | None = None
    files: tuple[str, ...] = ()
    gated: bool = False
    optional: bool = False

    @property
    def key(self) -> str:
        """Under which name the lock remembers it: one repository may serve several parts and presets."""
        return f"{self.repo or self.url} -> {self.to}"

    def identifier(self, source: str) -> str | None:
        """Its name on a hub; None if it is not there."""
        return self.repo if source == "hf" else self.modelscope


def manifest_names() -> list[str]:
    """The presets that can be fetched, and "depth"."""
    return sorted(path.stem for path in MANIFESTS.glob("*.yaml"))


def fetch_command(preset: str) -> str | None:
    """The command that fetches a preset's weights; None if they are not published."""
    return f"{COMMAND} --preset {preset}" if (MANIFESTS / f"{preset}.yaml").is_file() else None


def missing_remedy(preset: str | None, folder: Path) -> str:
    """What to do about missing files of a preset, for messages.

    Args:
        preset: how the user called it; None if its folder says what it is.
        folder: where its files belong.
    """
    place = "" if folder == USER_WEIGHTS else f" {folder}"
    asked = f" --preset {preset}" if preset else ""
    command = fetch_command(preset) if preset else None
    fetches = f"'{command}{f' --weights{place}' if place else ''}' fetches it, and " if command else ""
    check = f"bash scripts/more4d.sh weights check{place}{asked}"
    return f"{fetches}'{check}' lists what is missing and where to get it"


def read_manifest(preset: str) -> dict[str, Part]:
    """The parts of a preset by name.

    Raises:
        ConfigError: it has no manifest, or that cannot be used.
    """
    path = MANIFESTS / f"{preset}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"nothing is known to fetch for the preset '{preset}'; known: {', '.join(manifest_names())}"
        )
    try:
        values = parse_yaml(read_text(path, "a manifest of weights", ConfigError), _SHAPE)
    except DocumentError as error:
        raise ConfigError(f"{path} {error}") from error
    parts = values["parts"].items()
    return {name: from_mapping(Part, each, where=f"{path}: {name}") for name, each in parts}


def choose_parts(preset: str, names: Sequence[str] = ()) -> dict[str, Part]:
    """The parts of a preset that are asked for; without names those that are not optional.

    Raises:
        ConfigError: there is no such preset or part.
    """
    manifest = read_manifest(preset)
    for name in names:
        if name not in manifest:
            raise ConfigError(f"'{preset}' has no part '{name}'; its parts: {', '.join(manifest)}")
    return {name: part for name, part in manifest.items() if (name in names if names else not part.optional)}


def depth_folder(name: str, weights: Path | None = None) -> Path:
    """The folder of a depth model of the manifest "depth".

    Raises:
        ConfigError: there is no such model.
        WeightsError: it has not been fetched; the message has the command.
    """
    models = read_manifest(DEPTH)
    if name not in models:
        raise ConfigError(f"there is no depth model '{name}'; known: {', '.join(models)}")
    for folder in (weights, USER_WEIGHTS):
        if folder is not None and (folder / models[name].to).is_dir():
            return folder / models[name].to
    where = "" if weights is None else f" --weights {weights}"
    raise WeightsError(
        f"the depth model '{name}' is not in {(weights or USER_WEIGHTS) / models[name].to}; fetch it "
        f"({models[name].about_gb:g} GB): {COMMAND} --preset {DEPTH} --part {name}{where}"
    )
