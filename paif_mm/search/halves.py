"""Data for the weights and data for the architecture, which share no sample."""

import copy
from logging import Logger

import torch
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from torch.utils.data import Subset

from paif_mm.data.splits import places, sample_keys, shared


def halve(dataloader, seed: int) -> tuple[dict, dict]:
    """Two data loader configs, each on a random half of the samples; the same halves for the same seed.

    All places of a sample that a wrapper repeats, or a list names twice, fall into one half.

    Raises:
        ValueError: the loader is no config, so that its data set can't be split, or holds fewer than two samples.
    """
    if not isinstance(dataloader, dict):
        raise ValueError('only a train_dataloader config can be split in halves: give HDSTrainLoop an arch_dataloader')
    dataset = dataloader['dataset']
    if isinstance(dataset, dict):
        dataset = MMENGINE_DATASETS.build(dataset)
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    named = hasattr(dataset, 'get_data_info')
    samples = sample_keys(dataset) if named else list(range(len(dataset)))
    if len(samples) < 2:
        raise ValueError(
            f'the training set has {len(samples)} different samples, too few for two halves: give an arch_dataloader'
        )
    order = torch.randperm(len(samples), generator=torch.Generator().manual_seed(seed)).tolist()
    middle = (len(samples) + 1) // 2
    halves = ([samples[i] for i in sorted(part)] for part in (order[:middle], order[middle:]))
    return tuple(
        {**dataloader, 'dataset': restrict(dataset, half) if named else Part(dataset, half)} for half in halves
    )


def restrict(dataset, samples):
    """The data set with those of its samples alone whose keys (:mod:`paif_mm.data.splits`) are given.

    It is narrowed inside of its wrappers: mmengine's data sets put another sample of theirs where a pipeline refuses
    one, and mixing wrappers (mosaic) draw further ones, so that a mere choice of indices would let the others in.
    """
    samples = set(samples)
    if hasattr(dataset, 'datasets'):
        return _rewrap(
            dataset, 'datasets', [restrict(d, samples) for d in dataset.datasets if samples & set(places(d))]
        )
    own = places(dataset)
    indices = sorted(index for key in samples & set(own) for index in own[key])
    if isinstance(dataset, BaseDataset):
        part = copy.copy(dataset)  # `get_subset` copies by a memo that outlives its call, and finds strangers in it
        part.pipeline = copy.deepcopy(dataset.pipeline)  # transforms may keep samples (cached mosaics)
        part.get_subset_(indices)
        return part
    if hasattr(dataset, 'dataset') and hasattr(dataset, 'full_init'):
        narrowed = _rewrap(dataset, 'dataset', restrict(dataset.dataset, samples))
        if set(places(narrowed)) == samples & set(own):
            return narrowed
    return Part(dataset, indices)  # a data set of its own kind, or a wrapper that leaves samples out


class Part(Subset):
    """Some samples of a data set, which answers what samplers ask of it."""

    @property
    def metainfo(self) -> dict:
        return self.dataset.metainfo

    def get_data_info(self, index: int) -> dict:
        return self.dataset.get_data_info(self.indices[index])

    def get_cat_ids(self, index: int) -> list[int]:
        return self.dataset.get_cat_ids(self.indices[index])


def check_apart(training, architecture, logger: Logger) -> None:
    """Refuse data for the architecture that hold training samples.

    Raises:
        ValueError: they do.
    """
    try:
        common = shared(architecture, training)
    except TypeError as error:
        logger.info(f'{error}; whether train_dataloader and arch_dataloader share any was not checked')
        return
    if common:
        raise ValueError(
            f'arch_dataloader holds {len(common)} samples of train_dataloader (the first: {common[0]}): architecture '
            'steps need data of their own; without arch_dataloader the training set is split in halves'
        )


def _rewrap(wrapper, name: str, inner):
    """The wrapper with other data inside."""
    wrapper = copy.copy(wrapper)
    if hasattr(wrapper, 'pipeline'):
        wrapper.pipeline = copy.deepcopy(wrapper.pipeline)
    setattr(wrapper, name, inner)
    wrapper._fully_initialized = False
    wrapper.full_init()  # what it has counted
    if hasattr(wrapper, 'num_samples'):
        wrapper.num_samples = len(inner)
    return wrapper
