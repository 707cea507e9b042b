"""A scene of Gaussians brought into agreement with finished films, coarse to fine.

As in Diffusion4D (Liang et al. 2024, arXiv 2405.16645), appearance comes first: *coarse* leaves every splat
and every path where the tracks put it, and finds colours, opacities and sizes; *fine* moves and turns splats,
too, and bends the paths of those that move. What stands still has no path in either.

    loss = mean of q (0.8 |C + T b - y| + 0.2 (1 - SSIM))       over the pixels of a random picture
         + 1e-3 mean relu(s / 4 - 1) + 1e-4 mean |x - x_0|^2 + 1e-3 mean |second differences of knots|^2

C is the colour drawn, T what is left open, b a random background (so that opacity must close), y the film,
and q says how far a pixel is to be trusted: 1 where the tracks show it, less where the film was made up.
Lengths (sizes s, places x, knots) are in footprints, so that one rate is right for a table top and for a
landscape.

Which pictures a step sees depends on its number alone, so a fit that was stopped goes on as if it had not.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import avg_pool2d, relu

from more4d.foundation.config import torch_generator
from more4d.foundation.errors import checked
from more4d.geometry.gaussian_scene import GaussianScene
from more4d.raster.splatting import NEAR, splat
from more4d.reconstruction.films import TrainingFilm

WINDOW, STRIDE = 7, 3  # of the SSIM; with stride 1 it costs more than all else
C1, C2 = 0.01**2, 0.03**2
# Rates of Adam for each parameter, at the start of a stage; at its end they are `DECAY` of that.
RATES = {
    **{"colours": 1e-2, "logits": 5e-2, "log_sigmas": 1e-2},
    **{"rotations": 5e-3, "shifts": 2e-2, "knots": 3e-2},
}
DECAY = 0.1
BETAS = (0.9, 0.99)
COARSE = ("colours", "logits", "log_sigmas")
FINE = (*COARSE, "rotations", "shifts", "knots")
# A splat may grow to this many footprints before it costs.
LARGEST = 4.0
# Below this opacity a splat is removed in the end.
LEAST_OPACITY = 0.02
EDGE = 1e-4


@checked
@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long a scene is fitted, and to what.

    Attributes:
        coarse, fine: steps of the two stages.
        views: pictures per step, each drawn by a thread of its own.
        trust_generated: weight of a pixel that a film made up; 1 is that of one that the tracks show.
        seed: of the order of the pictures and the backgrounds.
    """

    coarse: int = 200
    fine: int = 400
    views: int = 1
    trust_generated: float = 0.3
    seed: int = 0

    @property
    def steps(self) -> int:
        return self.coarse + self.fine


class Fit:
    """The optimisation of one scene; `run` goes through all of it, step by step."""

    def __init__(
        self,
        scene: GaussianScene,
        films: Sequence[TrainingFilm],
        settings: FitSettings,
        state: tuple[int, dict[str, Tensor]] | None = None,
    ) -> None:
        """Begin a fit, or go on with one.

        Args:
            scene: to begin with (`initial`); it is fitted where it is, on a CPU or a GPU.
            films: all of one size.
            state: `step` and `tensors` of a fit of the same scene, films and settings.
        """
        self.start, self.settings = scene, settings
        self.pictures = [(film, index) for film in films for index in range(len(film))]
        self.cameras = [film.cameras() for film in films]
        self.camera_rows = [camera for cameras in self.cameras for camera in cameras]
        self.parameters = _parameters(scene)
        self.moments = {
            f"{name}.{order}": torch.zeros_like(value)
            for name, value in self.parameters.items()
            for order in ("first", "second")
        }
        self.step = 0
        if state is not None:
            self.step, tensors = state
            place = scene.positions.device
            self.parameters = {name: tensors[name].to(place, copy=True) for name in self.parameters}
            self.moments = {name: tensors[name].to(place, copy=True) for name in self.moments}
        for value in self.parameters.values():
            value.requires_grad_()

    def run(self, after: Callable[["Fit"], None] | None = None) -> GaussianScene:
        """All steps that are not done yet; `after` is called after each."""
        with ThreadPoolExecutor(max(1, min(self.settings.views, torch.get_num_threads()))) as pool:
            while self.step < self.settings.steps:
                self._make_step(pool)
                if after is not None:
                    after(self)
        return self.scene()

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The parameters, and Adam's moments of each: with `step` all that a new `Fit` needs to go on."""
        return {name: value.detach() for name, value in self.parameters.items()} | self.moments

    @torch.no_grad()
    def scene(self) -> GaussianScene:
        """As it is now, without what has become transparent."""
        now = self._scene({name: value.detach() for name, value in self.parameters.items()})
        now = replace(now, colours=now.colours.clamp(0, 1))
        return now.select(now.opacities >= LEAST_OPACITY)

    def _scene(self, values: dict[str, Tensor]) -> GaussianScene:
        start = self.start
        return replace(
            start,
            colours=values["colours"],
            opacities=values["logits"].sigmoid(),
            scales_m=values["log_sigmas"].exp() * start.footprint_m[:, None],
            rotations=values["rotations"],
            positions=start.positions + values["shifts"] * start.footprint_m[:, None],
            knots=values["knots"],
        )

    def _make_step(self, pool: ThreadPoolExecutor) -> None:
        settings, coarse = self.settings, self.step < self.settings.coarse
        names = COARSE if coarse else FINE
        if not len(self.start.moving):
            names = tuple(name for name in names if name != "knots")
        values = [self.parameters[name] for name in names]
        generator = torch_generator("reconstruction", settings.seed, self.step)
        chosen = torch.randint(len(self.pictures), (settings.views,), generator=generator).tolist()
        grounds = torch.rand(settings.views, 3, generator=generator)
        scene = self._scene(self.parameters)

        def gradients(view: int) -> tuple[Tensor, ...]:
            loss = self._picture_loss(scene, chosen[view], grounds[view])
            if view == 0:  # once, with the weight that it has in the mean over views
                loss = loss + settings.views * self._regularisation(coarse)
            return torch.autograd.grad(loss, values, retain_graph=settings.views > 1)

        parts = list(pool.map(gradients, range(settings.views)))
        # Added in the order of the views, whichever thread was done first.
        total = (
            parts[0] if len(parts) == 1 else [torch.stack(each).mean(0) for each in zip(*parts, strict=True)]
        )
        begin, length = (0, settings.coarse) if coarse else (settings.coarse, settings.fine)
        rate = DECAY ** ((self.step - begin) / max(length - 1, 1))
        self._adam(names, total, rate, self.step - begin + 1)
        self.step += 1

    @torch.no_grad()
    def _adam(self, names: Sequence[str], gradients: Sequence[Tensor], rate: float, count: int) -> None:
        """One step (Kingma and Ba 2015); moments start anew with each stage, as `count` says."""
        for name, gradient in zip(names, gradients, strict=True):
            first, second = self.moments[f"{name}.first"], self.moments[f"{name}.second"]
            if count == 1:
                first.zero_()
                second.zero_()
            first.lerp_(gradient, 1 - BETAS[0])
            second.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = RATES[name] * rate / (1 - BETAS[0] ** count)
            # 1e-15: gradients of one of 100,000 splats are tiny
            spread = (second / (1 - BETAS[1] ** count)).sqrt_().add_(1e-15)
            self.parameters[name].addcdiv_(first, spread, value=-size)

    def _picture_loss(self, scene: GaussianScene, index: int, ground: Float[Tensor, "3"]) -> Tensor:
        film, place = self.pictures[index]
        truth, known = film.picture(place), film.known[place]
        drawn = splat(
            scene.all_at(film.times[place]),
            self.camera_rows[index],
            *film.size,
            near_m=NEAR * scene.scene_depth_m,
        )
        picture = drawn.colour + drawn.left[..., None] * ground.to(drawn.left.device)
        truth, known = truth.to(picture.device), known.to(picture.device)
        trust = torch.where(known, 1.0, self.settings.trust_generated)
        wrong = ((picture - truth).abs().mean(-1) * trust).mean()
        return (0.8 * wrong + 0.2 * _unlikeness(picture, truth, trust)) / trust.mean()

    def _regularisation(self, coarse: bool) -> Tensor:
        values = self.parameters
        loss = 1e-3 * relu(values["log_sigmas"].exp() / LARGEST - 1).mean()
        if not coarse:
            loss = loss + 1e-4 * values["shifts"].square().mean()
            if len(self.start.moving):
                loss = loss + 1e-3 * values["knots"].diff(n=2, dim=0).square().mean()
        return loss


def _parameters(scene: GaussianScene) -> dict[str, Tensor]:
    return {
        "colours": scene.colours.clone(),
        "logits": scene.opacities.clamp(EDGE, 1 - EDGE).logit(),
        "log_sigmas": (scene.scales_m / scene.footprint_m[:, None]).log(),
        "rotations": scene.rotations.clone(),
        "shifts": torch.zeros_like(scene.positions),
        "knots": scene.knots.clone(),
    }


def _unlikeness(
    picture: Float[Tensor, "height width 3"],
    truth: Float[Tensor, "height width 3"],
    trust: Float[Tensor, "height width"],
) -> Tensor:
    """1 - SSIM of box windows, `STRIDE` apart, each weighted by how far its pixels are trusted."""
    x, y = picture.movedim(-1, 0), truth.movedim(-1, 0)
    planes = torch.cat([x, y, x * x, y * y, x * y])[None]
    window = min(WINDOW, *trust.shape)
    mean = avg_pool2d(planes, window, STRIDE)[0]
    mx, my, xx, yy, xy = mean.split(3)
    like = (2 * mx * my + C1) * (2 * (xy - mx * my) + C2)
    like = like / ((mx * mx + my * my + C1) * (xx - mx * mx + yy - my * my + C2))
    weight = avg_pool2d(trust[None, None], window, STRIDE)[0]
    return ((1 - like) * weight).mean()
