"""What sampling takes of a device, found without computing, and how many members fit beside."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from xwx.diffusion.background import Background
from xwx.diffusion.linearise import Gaussian, Tweedie
from xwx.diffusion.schedule import Rectified
from xwx.diffusion.settings import Sampling
from xwx.models.checkpoint import Model
from xwx.models.footprint import Footprint, footprint
from xwx.options import get_options
from xwx.tasks.machine import free_on_device

__all__ = ["frozen", "members_at_once", "passes_backward", "sampling_footprint"]

#: What is left of the free memory for what torch does not count: workspaces, and reserves.
_SHARE = 0.8


def frozen(network: nn.Module) -> Any:
    """Return the network with parameters that ask for no gradient; it shares their numbers.

    Models are shared within the process, so they are not changed, even for a while.
    """
    light = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in network.parameters()}
    kept = {id(b): b for b in network.buffers()}
    return copy.deepcopy(network, {**light, **kept})


def passes_backward(sampling: Sampling) -> int:
    """Return how often a guided step goes backward through the network."""
    passes = {"mmps": sampling.iterations, "tmpd": 2, "background": 0}
    return passes.get(sampling.guidance, 1)


def members_at_once(
    model: Model, members: int, sampling: Sampling, *, guided: bool, device: torch.device
) -> int:
    """Return how many members go through the network together where the user does not say.

    One on a CPU, which is busy with one, and where the bits of a member then depend on nothing
    else. On a GPU as many as fit.
    """
    if members == 1 or device.type == "cpu":
        return 1
    autocast = torch.bfloat16 if get_options()["precision"] == "bfloat16" else None
    free = free_on_device(device)
    try:
        taken = sampling_footprint(model, sampling, guided=guided, device=device, autocast=autocast)
    except Exception:  # a network of any package may fail in any way without numbers
        return 1
    if free is None:
        return 1
    free -= 0 if model.device == device else taken.weights
    return max(1, min(members, int(_SHARE * free / (taken.peak - taken.weights))))


def sampling_footprint(
    model: Model,
    sampling: Sampling,
    *,
    guided: bool,
    device: torch.device,
    members: int = 1,
    autocast: torch.dtype | None = None,
) -> Footprint:
    """Follow one evaluation of a generative model, with the passes backward of its guidance.

    What the operators of constraints keep for themselves is not counted: stations, coarse means
    and masses are small beside a network's activations.

    Parameters
    ----------
    model : Model
    sampling : Sampling
    guided : bool
        Whether there are constraints.
    device : torch.device
        Where it would run.
    members : int
        That go through the network together.
    autocast : torch.dtype, optional
        The type of :class:`torch.autocast`; none by default.

    Returns
    -------
    Footprint
        Of one evaluation. Its states are the noise that sampling starts from, the noisy states,
        and one more.

    Raises
    ------
    Exception
        Whatever a network raises that cannot run without numbers.
    """
    step = _Step(frozen(model.network), sampling if guided else None, members)
    return footprint(
        step,
        replace(model.spec, history=step.network.frames),
        device=device,
        autocast=autocast,
        steps=1,
    )


class _Step(nn.Module):
    """One evaluation, called as the footprint calls a network: the newest frame is the state."""

    def __init__(self, network: Any, sampling: Sampling | None, members: int) -> None:
        super().__init__()
        self.network, self.sampling, self.members = network, sampling, members

    def forward(self, x: Tensor, forcing: Tensor | None, memory: Any) -> tuple[Tensor, Any]:
        with torch.inference_mode(False), torch.no_grad():
            z = x.repeat(self.members, 1, 1, 1, 1)  # the sampler too keeps the noise beside it
            if forcing is not None:
                forcing = forcing[:, None].repeat(1, z.shape[1], 1, 1, 1)
            t = torch.ones(z.shape[:2], device=z.device)

            def denoise(z: Tensor, t: Tensor) -> Tensor:
                out: Tensor = self.network.denoise(z, forcing, t)
                return out

            mean = denoise(z, t) if self.sampling is None else self._guided(denoise, z, t)
        return mean[:1, -1].clone(), memory

    def _guided(self, denoise: Any, z: Tensor, t: Tensor) -> Tensor:
        """Do what the guidance does with the network, and keep what it keeps."""
        assert self.sampling is not None
        free = torch.ones_like(t, dtype=torch.bool)
        seen = torch.zeros_like(z)  # of the linearised operator
        background = None
        if self.sampling.guidance == "background":
            background = Background.of(self.network, self.network.spec.grid)
        if background is not None:
            spread = background.spread(t[:1], free[:1], Rectified())
            return Gaussian(denoise, z, t, free, spread).mean + spread(seen)
        tweedie = Tweedie(denoise, z, t, Rectified(), free)
        kept = [tweedie.spread(seen) for _ in range(passes_backward(self.sampling))]
        return tweedie.mean + sum(kept)
