"""What likes which camera for a photo: prototypes that a user has taught, or a vision-language model.

Both give a log-probability per named path, which `camera_choice` adds to its score; what geometry refuses
stays refused. Taught is by a folder of photos per path (the ImageFolder layout of Dream4D):

    cameras/orbit/one.jpg  cameras/orbit/two.jpg  cameras/zoom_in/three.jpg ...

A photo becomes the mean of the features that the preset has anyway: the bundled motion features, or CLIP. A
path is the mean of its photos, and p(path | photo) = softmax(-|feature - prototype|^2 / tau). Nothing is
trained, so five photos a path take seconds.

Format `more4d-camera-taste`, version 1 (safetensors): `prototypes` float32 [paths, dim], `tau` float32 [1];
the metadata also holds the names, and the id of the features.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate, normalize

from more4d.files.image import load_image
from more4d.files.tracks import read_tensors
from more4d.foundation.errors import InputError
from more4d.geometry.camera_recipes import CAMERA_PATHS, check_camera_path_name
from more4d.pipelines.camera_spec import TASTE, CameraChooser
from more4d.pipelines.components import Components
from more4d.pipelines.sampling import resize_for_encoder
from more4d.weights.state import write_tensors

FORMAT, VERSIONS = "more4d-camera-taste", ("1",)
DESCRIPTION = "a taste in cameras (camera_taste.safetensors of more4d camera learn)"
TAUS = tuple(2.0**power for power in range(-14, 4))
FEWEST = 2
WORKING = (96, 128)
"""Rows and columns that motion features are computed for, whatever the photo's shape."""
QUESTION = (
    "This photo becomes a short film in which {prompt}. Which camera movement suits it best? The movements "
    "are:\n{paths}\nAnswer with the name of one movement only."
)


@dataclass(frozen=True, kw_only=True)
class CameraTaste:
    """Prototypes of camera paths among photos.

    Attributes:
        names: of paths, keys of `CAMERA_PATHS`.
        tau: squared distance at which a probability falls by e.
        features: the id of the features that the prototypes are means of.
    """

    names: tuple[str, ...]
    prototypes: Float[Tensor, "names dim"]
    tau: float
    features: str

    def log_probabilities(self, feature: Float[Tensor, " dim"]) -> dict[str, float]:
        """Of every path that was taught, for a photo with this feature."""
        # Gaussians of one width around the prototypes, each path as likely as any before the photo is seen
        distance = (feature - self.prototypes).square().sum(-1)
        return dict(zip(self.names, (-distance / self.tau).log_softmax(0).tolist(), strict=True))

    def save(self, path: Path) -> None:
        """Write it; equal tastes are equal files.

        Raises:
            InputError: the folder cannot be written to.
        """
        tensors = {"prototypes": self.prototypes, "tau": torch.tensor([self.tau])}
        about = {"names": json.dumps(self.names), "features": self.features}
        write_tensors(path, tensors, {FORMAT: VERSIONS[-1], **about})

    @classmethod
    def load(cls, path: Path) -> "CameraTaste":
        """Read what `save` wrote.

        Raises:
            InputError: the file is missing, damaged, or of another kind.
        """
        about, tensors = read_tensors(path, DESCRIPTION, FORMAT, VERSIONS)
        try:
            names, prototypes = tuple(json.loads(about["names"])), tensors["prototypes"].float()
            tau, features = float(tensors["tau"]), about["features"]
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            raise InputError(f"{path} is damaged or not {DESCRIPTION}") from error
        # a file of others may hold anything
        finite = bool(torch.isfinite(prototypes).all()) and tau > 0
        if not finite or prototypes.ndim != 2 or len(names) != len(prototypes):
            raise InputError(f"{path} is damaged: names, prototypes and tau do not fit; learn it anew")
        for name in names:
            check_camera_path_name(name)
        return cls(names=names, prototypes=prototypes, tau=tau, features=features)


def learn_taste(features: Float[Tensor, "shots dim"], labels: Sequence[str], *, of: str) -> CameraTaste:
    """Prototypes of labelled photos; tau is the one under which each photo is likeliest, left out itself.

    Args:
        features: of length 1.
        labels: the path of each photo; every path has at least `FEWEST`.
        of: the id of the features.
    """
    # in the order of the folders, so that equal folders are equal files
    names = tuple(dict.fromkeys(labels))
    member = torch.tensor([[label == name for name in names] for label in labels]).to(
        features
    )  # shots x names
    # a mean is a sum over a number, so leaving one out needs no second pass
    sums, counts = member.T @ features, member.sum(0)
    # Without itself a photo's own prototype is another one: shots x names x dim.
    others = (sums - member[..., None] * features[:, None]) / (counts - member)[..., None]
    # a photo is compared with the other paths' prototypes as they are
    distance = (features[:, None] - others).square().sum(-1)
    likelihood = [((-distance / tau).log_softmax(1) * member).sum() for tau in TAUS]
    tau = TAUS[int(torch.stack(likelihood).argmax())]
    return CameraTaste(names=names, prototypes=sums / counts[:, None], tau=tau, features=of)


@torch.inference_mode()
def photo_feature(components: Components, image: Float[Tensor, "height width 3"]) -> Float[Tensor, " dim"]:
    """What a photo looks like to the preset's own features, of length 1; `feature_id` says which those are.

    Raises:
        InputError: the preset has neither motion features nor CLIP.
    """
    picture = image.movedim(-1, 0)[None].to(components.device) * 2 - 1
    part = _feature_part(components)
    with components.free_after(), components.on_device(part) as (network,):
        if part == "clip":
            tokens = network.encode_image((picture + 1) / 2).mean(1)
        else:
            small = interpolate(picture, WORKING, mode="bilinear", antialias=True)
            tokens = network(resize_for_encoder(network, small, picture)).mean((-2, -1))
    return normalize(tokens[0].float().cpu(), dim=0)


def _feature_part(components: Components) -> str:
    part = next((each for each in ("clip", "motion_features") if components.has(each)), None)
    if part is None:
        raise InputError(
            f"preset '{components.preset.name}' has neither CLIP nor motion features, which a taste needs"
        )
    return part


def feature_id(components: Components) -> str:
    """What features of photos depend on."""
    part = _feature_part(components)
    return f"{part} {components.fingerprint(part)}"


def taught_photos(folder: Path) -> list[tuple[Path, str]]:
    """The photos of a folder with a folder per path, and which path each teaches.

    Raises:
        InputError: there is none, a folder is no path's, or a path has too few photos.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one with a folder of photos per camera path")
    photos = []
    for place in sorted(each for each in folder.iterdir() if each.is_dir() and not each.name.startswith(".")):
        # Dream4D writes zoom_in where we write zoom-in.
        name = place.name if place.name in CAMERA_PATHS else place.name.replace("_", "-")
        check_camera_path_name(name)
        found = sorted(each for each in place.iterdir() if each.is_file() and not each.name.startswith("."))
        if len(found) < FEWEST:
            raise InputError(f"{place} has {len(found)} photos; a path is taught by at least {FEWEST}")
        photos += [(photo, name) for photo in found]
    if len({name for _, name in photos}) < FEWEST:
        raise InputError(f"{folder} has photos of {len({n for _, n in photos})} paths; give two or more")
    return photos


def learn_folder(components: Components, folder: Path) -> CameraTaste:
    """The taste that a folder teaches.

    Raises:
        InputError: as `taught_photos`, or a photo cannot be read.
    """
    photos = taught_photos(folder)
    # one by one: photos are of all sizes
    features = torch.stack([photo_feature(components, load_image(photo)) for photo, _ in photos])
    return learn_taste(features, [name for _, name in photos], of=feature_id(components))


def liked_by(
    chooser: CameraChooser, components: Components, image: Float[Tensor, "height width 3"], prompt: str
) -> Callable[[Sequence[str]], dict[str, float]]:
    """What gives the log-probabilities of paths by name, for a photo and what happens in it."""
    return partial(log_probabilities, chooser, components, image, prompt)


def log_probabilities(
    chooser: CameraChooser,
    components: Components,
    image: Float[Tensor, "height width 3"],
    prompt: str,
    names: Sequence[str],
) -> dict[str, float]:
    """Of each path, for a photo and what happens in it: by a taste in a file, or a vision-language model.

    Raises:
        InputError: the taste was learnt with other features.
        WeightsError: the model cannot be loaded.
    """
    source = chooser.source
    if chooser.kind == TASTE:
        taste, here = CameraTaste.load(source), feature_id(components)
        if taste.features != here:
            raise InputError(
                f"{source} was learnt with other features ({taste.features}, not {here}); learn it anew with "
                "this preset"
            )
        return taste.log_probabilities(photo_feature(components, image))
    from more4d.networks.vlm_backend import VisionLanguageModel  # transformers takes seconds to import

    model = VisionLanguageModel.open(str(source), device=str(components.device))
    # every allowed name is scored as the answer: none can be invented
    listed = "\n".join(f"{name}: {CAMERA_PATHS[name].summary}" for name in names)
    question = QUESTION.format(prompt=prompt or "something moves", paths=listed)
    ranked = model.rank(image[None], question, names)
    return dict(zip(names, ranked.clamp(min=1e-12).log().tolist(), strict=True))
