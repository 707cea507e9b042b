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

from more4d.foundation.errors import DistributedError, InputError
from more4d.networks.context_parallel import ContextParallel
from more4d.networks.interface import Conditions
from more4d.pipelines.components import Components
from more4d.pipelines.parallel_group import ParallelGroup
from more4d.pipelines.preset import Sampling
from more4d.pipelines.sampling import SamplingRequest, sample_latents


def sample_component(
    models: Components, component: str, request: SamplingRequest
) -> Float[Tensor, "b 16 f h w"]:
    """As `sample_latents` with the network that plays `component`, together with the processes that help, if any.

    Raises:
        InputError: more processes than the network has attention heads.
        DistributedError: they have lost each other before.
    """
    network, parallel_group = models.network(component), models.parallel_group
    if parallel_group is None:
        return sample_latents(network, request)
    if parallel_group.desynchronised:
        raise DistributedError("the processes of this run are out of step; run the same command again")
    heads, processes = network.transformer.wan_config.heads, parallel_group.tensor_group.size()
    if processes > heads:
        raise InputError(
            f"{component} has {heads} attention heads, which {processes} processes cannot share; launch at most "
            f"{heads}"
        )
    settings, cond = request.settings, request.conditional
    uncond = None if settings.guidance == 1 else request.unconditional()
    parallel_group.broadcast(
        (component, settings, request.noise.cpu(), cond.to("cpu"), uncond and uncond.to("cpu"))
    )
    parallel_group.desynchronised = True  # who breaks off leaves the others waiting
    network.transformer.context_parallel = ContextParallel(parallel_group.tensor_group)
    latents = sample_latents(network, replace(request, unconditional=lambda: uncond))
    parallel_group.desynchronised = False
    return latents


@torch.inference_mode()
def run_sampling_worker(models: Components) -> int:
    """What all processes but the first do: draw with it until it says how the run ended; returns that code.

    Raises:
        WeightsError: a network cannot be loaded.
        DistributedError: the first process is gone.
    """
    parallel_group = models.parallel_group
    if parallel_group is None:
        raise ValueError("there is nobody to help")
    held, loaded = ExitStack(), None
    with held:
        while not isinstance(message := parallel_group.receive(), int):
            component = message[0]
            if component != loaded:
                held.close()
                held.enter_context(models.free_after())
                loaded = component
            _join_sampling(models, parallel_group, message)
    return message


def _join_sampling(
    models: Components,
    parallel_group: ParallelGroup,
    message: tuple[str, Sampling, Tensor, Conditions, Conditions | None],
) -> None:
    """One sample, as `sample_component`. A function of its own: if its name for the network outlived the sample, the
    network of one stage would still be there while that of the next is loaded.
    """
    component, settings, noise, conditional, uncond = message
    request = SamplingRequest(
        settings=settings,
        noise=noise.to(models.device),
        conditional=conditional.to(models.device),
        unconditional=lambda: uncond.to(models.device),
    )
    with models.on_device(component) as (network,):
        network.transformer.context_parallel = ContextParallel(parallel_group.tensor_group)
        sample_latents(network, request)
