"""Networks and pairs that the fusion tests share."""

import torch

from paif_mm.fusion import FusionNet


def network(channels: int = 32, dtype: torch.dtype = torch.float64, **settings) -> FusionNet:
    """A network in eval mode whose BatchNorm statistics are not trivial."""
    torch.manual_seed(0)
    net = FusionNet(channels=channels, **settings).to(dtype).eval()
    for layer in net.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    return net


def pair(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(2, *shape, dtype=dtype).unbind()
