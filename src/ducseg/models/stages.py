"""Which parameters of an encoder belong to which of its stages, found by what each named intermediate depends on."""

import torch
from torch import nn

from ducseg.models.encoder import NamedEncoder, num_channels_of, probe_side

__all__ = ["parameters_by_stage"]


def parameters_by_stage(encoder: NamedEncoder) -> dict[str, list[nn.Parameter]]:
    """The parameters of each stage, finest first: "stem" (where the encoder names one), "res2" .. "res5".

    A stage holds what its intermediate depends on and no finer one does; the last also what none does. One small
    picture goes through the encoder, which is left as it was.
    """
    parameters = list(encoder.parameters())
    first, modes = parameters[0], [(module, module.training) for module in encoder.modules()]
    wanted = [parameter.requires_grad for parameter in parameters]
    left = {id(parameter): parameter for parameter in parameters}
    found: dict[str, list[nn.Parameter]] = {}
    try:
        for module, _ in modes:
            module.training = False
        for parameter in parameters:
            parameter.requires_grad_(True)
        size = num_channels_of(encoder), probe_side(encoder), probe_side(encoder)
        picture = torch.zeros(1, *size, device=first.device, dtype=first.dtype)
        with torch.enable_grad():
            maps = encoder.intermediates(picture)
        for name in encoder.channels:
            inside = list(left.values())
            found[name] = []
            if not inside:  # VGG's last stage is a pooling
                continue
            gradients = torch.autograd.grad(maps[name].sum(), inside, retain_graph=True, allow_unused=True)
            found[name] = [parameter for parameter, grad in zip(inside, gradients) if grad is not None]
            for parameter in found[name]:
                del left[id(parameter)]
    finally:
        for module, training in modes:
            module.training = training
        for parameter, wants in zip(parameters, wanted):
            parameter.requires_grad_(wants)
    found[name].extend(left.values())
    return found
