"""Every sample of an evaluation counts once, however many processes share it."""

import pytest
from mmengine.dataset import DefaultSampler
from torch.utils.data import DataLoader

from paif_mm.engine import repeats


@pytest.mark.parametrize('world', [1, 2, 3, 4, 7])
@pytest.mark.parametrize('size', [1, 3, 8, 10])
def test_the_processes_count_every_sample_once(monkeypatch, world, size):
    counted = []
    for rank in range(world):
        monkeypatch.setattr(repeats, 'get_dist_info', lambda rank=rank: (rank, world))
        monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda rank=rank: (rank, world))
        data = list(range(size))
        loader = DataLoader(data, batch_size=2, sampler=DefaultSampler(data, shuffle=False))
        seen = 0
        for batch in loader:
            counted += [int(batch[i]) for i in repeats.unrepeated(loader, seen, len(batch))]
            seen += len(batch)
    assert sorted(counted) == list(range(size))
