"""A bank without a source model: noise of three strengths on random smooth pairs."""

from pathlib import Path

import torch
import torch.nn.functional as F

from paif_mm.attacks import Budget
from paif_mm.attacks.bank import AttackBank, round_into_ball, write_pair
from paif_mm.files import write_json

LEVELS = {'small': 1 / 255, 'moderate': 2 / 255, 'heavy': 4 / 255}


def noise_bank(folder: Path, count: int = 6, size=(40, 48), seed: int = 0) -> AttackBank:
    generator = torch.Generator().manual_seed(seed)
    files, pairs = {}, {}
    for i in range(count):
        name = f'{i:06d}'
        coarse = torch.rand(1, 4, 5, 6, generator=generator) * 255
        clean = F.interpolate(coarse, size, mode='bilinear')[0].round().to(torch.uint8)
        files[f'clean/{name}.png'] = write_pair(folder / 'clean' / f'{name}.png', clean)
        for level, eps in LEVELS.items():
            noise = torch.randint(0, 2, clean.shape, generator=generator) * 2 - 1
            attacked = round_into_ball(clean.float() + noise * eps * 255, clean, [Budget(slice(None), eps * 255, 0)])
            files[f'{level}/{name}.png'] = write_pair(folder / level / f'{name}.png', attacked)
        pairs[name] = f'{i}.png'
    levels = {level: {'eps': eps} for level, eps in LEVELS.items()}
    write_json(folder / 'manifest.json', {'settings': {}, 'levels': levels, 'pairs': pairs, 'files': files})
    return AttackBank(folder)
