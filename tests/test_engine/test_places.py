"""Resumed trainings see the batches of uninterrupted ones, and do not load what they have seen."""

import copy
import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from helpers import generators_untouched
from mmengine.dataset import DefaultSampler, InfiniteSampler, pseudo_collate
from mmengine.runner import Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset, Subset

from paif_mm.engine.places import Draw, Places, batches_from, place
from paif_mm.engine.runner import QuietRunner

SAMPLERS = {'infinite': InfiniteSampler, 'by epoch': DefaultSampler}


class Noisy(Dataset):
    """Samples that are drawn by all three libraries, and a count of those read in this process."""

    def __init__(self, size: int = 10):
        self.size, self.read = size, 0

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.read += 1
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def loader_of(sampler: str, workers: int, seed: int = 3, batch: int = 4) -> DataLoader:
    dataset = Noisy()
    chosen = SAMPLERS[sampler](dataset, shuffle=True, seed=1)
    loader = DataLoader(
        dataset,
        batch_sampler=BatchSampler(chosen, batch, drop_last=False),
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=pseudo_collate,
    )
    place(loader, seed)
    return loader


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('sampler', SAMPLERS)
def test_batches_are_the_same_whenever_and_by_whomever_they_are_read(sampler, workers):
    whole = list(islice(batches_from(loader_of(sampler, 0), 0), 9))
    assert len({tuple(values) for batch in whole for values in zip(*batch, strict=True)}) == sum(
        len(batch[0]) for batch in whole
    ), 'every place has random numbers of its own'
    for done in (1, 4, 7):
        loader = loader_of(sampler, workers)
        iter(loader)  # what a training loop does before it knows that it is resumed: workers begin to ask for batches
        assert list(islice(batches_from(loader, done), 9 - done)) == whole[done:]


def test_what_was_seen_is_not_read():
    loader = loader_of('infinite', 0)
    next(batches_from(loader, 5000))
    assert loader.dataset.read == 4


def test_seen_batches_of_a_data_set_that_reads_batches_itself_are_loaded_at_once():
    """Before a resumed training takes up its random states: loading them may draw random numbers."""
    dataset = Noisy()
    loader = DataLoader(Subset(dataset, range(10)), batch_size=2, collate_fn=pseudo_collate)
    place(loader, 0)
    assert not isinstance(loader.batch_sampler, Places)
    batches = batches_from(loader, 3)
    assert dataset.read == 6
    assert list(next(batches)[0]) == [6, 7]


def test_another_seed_draws_other_numbers_for_the_same_samples():
    one, other = (next(iter(loader_of('infinite', 0, seed))) for seed in (3, 4))
    assert one[0] == other[0]
    assert one[1:] != other[1:]


def test_reading_leaves_the_global_generators_alone():
    loader = loader_of('infinite', 0)
    with generators_untouched():  # torch's loader itself draws a seed for its workers
        loader.dataset.__getitems__([Draw(3, (0, 0, 0))])


def test_processes_read_the_places_of_one(monkeypatch):
    """Two processes with two samples each draw what one with four does."""
    found = {}
    for world, batch in ((1, 4), (2, 2)):
        for rank in range(world):
            monkeypatch.setattr('paif_mm.engine.places.get_dist_info', lambda r=rank, w=world: (r, w))
            monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda r=rank, w=world: (r, w))
            for values in islice(iter(loader_of('infinite', 0, batch=batch)), 3):
                found.setdefault(world, set()).update(zip(*values, strict=True))
    assert found[1] == found[2]


def test_draws_are_indices_that_travel():
    draw = pickle.loads(pickle.dumps(Draw(3, (0, 1, 2))))
    assert draw == 3 and draw.place == (0, 1, 2)
    assert list(range(10))[draw] == 3
    places = copy.copy(Places(BatchSampler(range(5), 2, False)))
    assert len(places) == 3 and places.batch_size == 2


def test_loaders_of_the_runner_have_places():
    config = {
        'batch_size': 2,
        'num_workers': 0,
        'dataset': Noisy(),
        'sampler': {'type': 'InfiniteSampler'},
        'collate_fn': {'type': 'pseudo_collate'},
    }
    batches = [next(iter(QuietRunner.build_dataloader(copy.deepcopy(config), seed=0))) for _ in range(2)]
    assert batches[0] == batches[1]
    assert not isinstance(Runner.build_dataloader(config, seed=0).batch_sampler, Places)
