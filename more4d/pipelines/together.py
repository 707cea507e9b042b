"""One sample drawn by several processes: the first runs the pipeline, the others help it to draw.

The first process alone reads inputs, makes conditions, decodes and writes. Whenever it draws latents it tells
the others what from, and all of them take the same steps of the same sampler, sharing the tokens of every
call of the network (`networks.context_parallel`). So the others hold 4D-STraG or 4D-ViSM and nothing else,
and a stage that is finished or fails before it draws does not concern them.
"""

from contextlib import ExitStack
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from more4d.foundation.errors import InputError, ProcessesError
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import Conditions
from more4d.pipelines.fellows import Fellows
from more4d.pipelines.models import Models
from more4d.pipelines.preset import Sampling
from more4d.pipelines.sampling import Sample, draw


def draw_part(models: Models, part: str, sample: Sample) -> Float[Tensor, "b 16 f h w"]:
    """As `sampling.draw` with the network that plays `part`, together with the processes that help, if any.

    Raises:
        InputError: more processes than the network has attention heads.
        ProcessesError: they have lost each other before.
    """
    network, fellows = models.network(part), models.fellows
    if fellows is None:
        return draw(network, sample)
    if fellows.out_of_step:
        raise ProcessesError("the processes of this run are out of step; run the same command again")
    heads, processes = network.transformer.numbers.heads, fellows.tensors.size()
    if processes > heads:
        raise InputError(
            f"{part} has {heads} attention heads, which {processes} processes cannot share; launch at most "
            f"{heads}"
        )
    settings, told = sample.settings, sample.conditional
    without = None if settings.guidance == 1 else sample.unconditional()
    fellows.say((part, settings, sample.noise.cpu(), told.to("cpu"), without and without.to("cpu")))
    fellows.out_of_step = True  # who breaks off leaves the others waiting
    network.transformer.context_parallel = ContextParallel(fellows.tensors)
    latents = draw(network, replace(sample, unconditional=lambda: without))
    fellows.out_of_step = False
    return latents


@torch.inference_mode()
def help_to_draw(models: Models) -> int:
    """What all processes but the first do: draw with it until it says how the run ended; returns that code.

    Raises:
        WeightsError: a network cannot be loaded.
        ProcessesError: the first process is gone.
    """
    fellows = models.fellows
    if fellows is None:
        raise ValueError("there is nobody to help")
    held, holding = ExitStack(), None
    with held:
        while not isinstance(heard := fellows.hear(), int):
            part = heard[0]
            if part != holding:
                held.close()
                held.enter_context(models.released())
                holding = part
            _draw_along(models, fellows, heard)
    return heard


def _draw_along(
    models: Models, fellows: Fellows, said: tuple[str, Sampling, Tensor, Conditions, Conditions | None]
) -> None:
    """One sample, as `draw_part`. A function of its own: if its name for the network outlived the sample, the
    network of one stage would still be there while that of the next is loaded.
    """
    part, settings, noise, conditional, without = said
    sample = Sample(
        settings=settings,
        noise=noise.to(models.device),
        conditional=conditional.to(models.device),
        unconditional=lambda: without.to(models.device),
    )
    with models.at_work(part) as (network,):
        network.transformer.context_parallel = ContextParallel(fellows.tensors)
        draw(network, sample)
