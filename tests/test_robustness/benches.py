"""A data set of small scenes, a segmentor that has learnt it, and benches of both."""

import torch
from helpers import build_model, tiny_segformer
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn

from paif_mm.robustness.evaluate import Bench

CLASSES = ('background', 'warm', 'blue', 'red')
COLOURS = torch.tensor([[90.0, 100, 110, 80], [90, 100, 110, 130], [120, 105, 85, 85], [80, 90, 140, 95]])  # B,G,R,IR


class Scenes:
    """Rectangles of three kinds before a grey wall, as mmseg's data sets give them."""

    metainfo = {'classes': CLASSES, 'palette': [[0, 0, 0], [255, 255, 0], [0, 0, 255], [255, 0, 0]]}

    def __init__(self, count: int = 4, size=(48, 64), seed: int = 0, channels: int = 4):
        generator = torch.Generator().manual_seed(seed)
        self.items = [_scene(size, generator, channels) for _ in range(count)]

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        inputs, label = self.items[index]
        sample = SegDataSample(gt_sem_seg=PixelData(data=label[None]))
        shape = tuple(label.shape)
        sample.set_metainfo({'img_shape': shape, 'ori_shape': shape, **self.get_data_info(index)})
        return {'inputs': inputs, 'data_samples': sample}

    def get_data_info(self, index):
        return {'img_path': f'some/where/{index}.png'}


def _scene(size, generator, channels):
    label = torch.zeros(size, dtype=torch.int64)
    for kind in (1, 2, 3, 1 + int(torch.randint(0, 3, (), generator=generator))):
        height, width = (int(torch.randint(side // 4, side // 2, (), generator=generator)) for side in size)
        top = int(torch.randint(0, size[0] - height, (), generator=generator))
        left = int(torch.randint(0, size[1] - width, (), generator=generator))
        label[top : top + height, left : left + width] = kind
    pair = COLOURS[label].permute(2, 0, 1) + 6 * torch.randn(4, *size, generator=generator)
    return pair[:channels].round().clamp(0, 255).to(torch.uint8), label


class Convolutions(nn.Sequential):
    """A backbone that learns in seconds."""

    def __init__(self):
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()]
        for _ in range(2):
            layers += [nn.Conv2d(16, 16, 3, 1, 1), nn.BatchNorm2d(16), nn.ReLU()]
        super().__init__(*layers)

    def forward(self, x):
        return (super().forward(x),)


def untrained(seed: int = 0, plain: bool = False, fusion=None):
    """A segmentor of a few convolutions, behind the average of both modalities or another fusion, or of plain ones."""
    config = tiny_segformer(fusion={'type': fusion or 'AverageFusion'})
    if plain:
        config.data_preprocessor = config.data_preprocessor.task
    config.backbone = {'type': Convolutions}
    config.decode_head = {
        'type': 'FCNHead',
        'in_channels': 16,
        'channels': 16,
        'num_convs': 0,
        'concat_input': False,
        'dropout_ratio': 0.0,
        'num_classes': len(CLASSES),
        'loss_decode': {'type': 'CrossEntropyLoss', 'avg_non_ignore': True},
    }
    return build_model(config, seed).eval()


class MaximumFusion(nn.Module):
    """The lighter of both modalities at every pixel."""

    def forward(self, ir, vis):
        return torch.maximum(ir, vis)


class LivelierModality(nn.Module):
    """Chooses by the contrast of the surroundings, as fusion by local energy does."""

    def forward(self, ir, vis):
        lively = [
            nn.functional.avg_pool2d((x - nn.functional.avg_pool2d(x, 7, 1, 3)).square(), 7, 1, 3) for x in (ir, vis)
        ]
        return torch.where(lively[0] > lively[1], ir, vis)


def trained(steps: int = 60, seed: int = 0, fusion=None):
    """A fused segmentor that is right on nearly all pixels of :class:`Scenes`."""
    model, scenes = untrained(seed, fusion=fusion), Scenes(32, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    generator = torch.Generator().manual_seed(seed)
    model.train()
    for step in range(steps):
        optimizer.param_groups[0]['lr'] = 2e-2 * (1 - step / steps)
        batch = [scenes[int(i)] for i in torch.randint(0, len(scenes), (4,), generator=generator)]
        data = {key: [item[key] for item in batch] for key in batch[0]}
        loss = model.parse_losses(model(**model.data_preprocessor(data, True), mode='loss'))[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def bench(model, scenes=None) -> Bench:
    scenes = scenes or Scenes()
    return Bench(model, scenes, range(len(scenes)))
