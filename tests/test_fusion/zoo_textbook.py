"""Straightforward forms of the zoo's networks, with their weights: as the papers draw them, layer by layer."""

import torch
import torch.nn.functional as F
from torch import Tensor


def padded(x: Tensor, margin: int, mode: str) -> Tensor:
    return F.pad(x, [margin] * 4, mode={'zeros': 'constant'}.get(mode, mode))


def conv(layer, x: Tensor, border: str = 'zeros', dilation: int = 1) -> Tensor:
    margin = dilation * (layer.kernel_size[0] // 2)
    return F.conv2d(padded(x, margin, border), layer.weight, layer.bias, dilation=dilation)


def normed(layer, x: Tensor, border: str = 'zeros') -> Tensor:
    return layer.norm(conv(layer.conv, x, border))


def u2fusion(net, ir: Tensor, vis: Tensor) -> Tensor:
    original = net.variant == 'original'
    border = 'reflect' if original else 'zeros'
    features = F.leaky_relu(conv(net.stem, torch.cat([vis, ir], 1), border), 0.2)
    for layer in net.dense:
        new = F.leaky_relu(conv(layer, features, border), 0.2)
        features = torch.cat([new, features] if original else [features, new], 1)
    for layer in net.decoder[:-1]:
        features = F.leaky_relu(conv(layer, features, border), 0.2)
    u = conv(net.decoder[-1], features, border).tanh()
    return u / 2 + 0.5 if original else u


def sdnet(net, ir: Tensor, vis: Tensor) -> Tensor:
    original = net.variant == 'original'
    slope, features = (0.2, []) if original else (0.01, [])
    for branch, image in ((net.ir, ir), (net.vis, vis)):
        x = 2 * image - 1 if original else image
        c1 = F.leaky_relu(conv(branch.stem, x), slope)
        c2 = F.leaky_relu(conv(branch.dense[0], c1), slope)
        c3 = F.leaky_relu(conv(branch.dense[1], torch.cat([c1, c2], 1)), slope)
        c4 = F.leaky_relu(conv(branch.dense[2], torch.cat([c1, c2, c3], 1)), slope)
        features.append([c1, c2, c3, c4])
    i, v = features
    order = [i[0], v[0], i[1], v[1], i[2], v[2], i[3], v[3]] if original else [*i, *v]
    squeezed = conv(net.squeeze, torch.cat(order, 1)).tanh()
    return (squeezed + 1) / 2 if original else squeezed


def densefuse(net, ir: Tensor, vis: Tensor) -> Tensor:
    def encoded(x: Tensor) -> Tensor:
        features = F.relu(conv(net.stem, 255 * x, 'reflect'))
        for layer in net.dense:
            features = torch.cat([features, F.relu(conv(layer, features, 'reflect'))], 1)
        return features

    x = (encoded(ir) + encoded(vis)) / 2
    for layer in list(net.decoder)[:-1:2]:
        x = F.relu(conv(layer, x, 'reflect'))
    return conv(net.decoder[-1], x, 'reflect') / 255


def ifcnn(net, ir: Tensor, vis: Tensor) -> Tensor:
    def encoded(x: Tensor) -> Tensor:
        return F.relu(normed(net.encoder[0], conv(net.stem, x.repeat(1, 3, 1, 1), 'replicate'), 'replicate'))

    x = F.relu(normed(net.decoder[0], torch.maximum(encoded(ir), encoded(vis)), 'replicate'))
    red, green, blue = conv(net.head, x).split(1, 1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def sage(net, ir: Tensor, vis: Tensor) -> Tensor:
    def stage(layers, x: Tensor) -> Tensor:
        for layer in layers[::2]:
            x = F.leaky_relu(normed(layer, x), 0.01)
        return x

    f1 = stage(net.down[0], torch.cat([vis, ir], 1))
    f2 = stage(net.down[1], F.max_pool2d(f1, 2))
    f3 = stage(net.down[2], F.max_pool2d(f2, 2))
    f4 = stage(net.up[0], stage(net.joins[0], torch.cat([F.interpolate(f3, f2.shape[2:], mode='bilinear'), f2], 1)))
    f5 = stage(net.up[1], stage(net.joins[1], torch.cat([F.interpolate(f4, f1.shape[2:], mode='bilinear'), f1], 1)))
    return conv(net.head[0], f5).tanh()


TEXTBOOK = {'U2Fusion': u2fusion, 'SDNet': sdnet, 'DenseFuse': densefuse, 'IFCNN': ifcnn, 'SAGE': sage}
