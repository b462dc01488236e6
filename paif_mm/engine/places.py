"""Batches that know their place in the training, so that a resumed one need not load what was seen before."""

from collections.abc import Iterator
from itertools import chain, count

from mmengine.dist import get_dist_info
from torch.utils.data import DataLoader

from paif_mm.files import hash_seed
from paif_mm.randomness import fixed_draws

EARLY = 1000  # batches remembered for a rewind: more than any loader prefetches


class Draw(int):
    """The index of a sample, with the ``place`` in the training that it was drawn for."""

    def __new__(cls, index: int, place: tuple[int, ...]):
        draw = super().__new__(cls, index)
        draw.place = place
        return draw

    def __reduce__(self):
        return Draw, (int(self), self.place)


class Places:
    """A batch sampler whose indices are :class:`Draw`, of (epoch, batch, place in the global batch).

    Args:
        batches: the batch sampler.
    """

    def __init__(self, batches):
        self.batches = batches
        self._skip = 0
        self._rewound = False
        self._source: Iterator | None = None
        self._early: list = []
        self.seen = 0  # batches of this epoch, those passed over included

    def rewind(self, skip: int) -> None:
        """Begin again with the first batch ever asked for, and pass over so many, in as many epochs as it takes.

        Loaders ask for batches ahead of time, and not every sampler can begin again by itself.
        """
        self._skip, self._rewound = skip, True

    def __getattr__(self, name: str):
        if name == 'batches':  # not there yet: while it is copied
            raise AttributeError(name)
        return getattr(self.batches, name)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Draw]]:
        rank, world = get_dist_info()
        begun = self._rewound and self._source is not None
        given, source = (self._early, self._source) if begun else ([], iter(self.batches))
        self._early, self._source, self._rewound = [], source, False
        epoch = getattr(getattr(self.batches, 'sampler', None), 'epoch', 0)
        self.seen = 0
        for number, batch in enumerate(chain(given, source)):
            self.seen += 1
            if len(self._early) < EARLY:
                self._early.append(batch)
            if self._skip:
                self._skip -= 1
            else:
                yield [Draw(index, (epoch, number, i * world + rank)) for i, index in enumerate(batch)]


class PlacedSamples:
    """How a data loader reads samples of a data set: random numbers belong to a sample's place, not to its reader.

    So augmentation is the same in a resumed training, with any number of workers and of processes. Global generators of
    the reading process are left as they were.
    """

    def __init__(self, dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __call__(self, indices: list) -> list:
        return [self._sample(index) for index in indices]

    def _sample(self, index: int):
        if not isinstance(index, Draw):
            return self.dataset[index]
        with fixed_draws('cpu', hash_seed(self.seed, 'sample', *index.place)):
            return self.dataset[int(index)]


def place(loader: DataLoader, seed: int) -> None:
    """Let a data loader's random numbers be those of its samples' places; a loader without a batch sampler stays.

    Args:
        loader: changed in place, before it is iterated over.
        seed: of the run.
    """
    if loader.batch_sampler is None or hasattr(loader.dataset, '__getitems__'):
        return
    object.__setattr__(loader, 'batch_sampler', Places(loader.batch_sampler))
    loader.dataset.__getitems__ = PlacedSamples(loader.dataset, seed)


def batches_from(loader: DataLoader, done: int) -> Iterator[dict]:
    """The batches of a loader, again and again, without the first ``done``; shuffled anew where its sampler can.

    Where the loader has places (:func:`place`), these are not loaded, else once more. Its workers start at once: torch
    draws a global random number for them, which must not be one of those of the training to come.

    Raises:
        ValueError: the loader has no batch.
    """
    if isinstance(loader.batch_sampler, Places):
        loader.batch_sampler.rewind(done)
        done = 0
    _begin_epoch(loader, 0)
    batches = _endless(loader, iter(loader))
    for _ in range(done):  # now: loading them may draw random numbers, too
        next(batches)
    return batches


def _endless(loader: DataLoader, batches: Iterator[dict]) -> Iterator[dict]:
    for epoch in count(1):
        batch = None
        for batch in batches:
            yield batch
        if batch is None and not getattr(loader.batch_sampler, 'seen', 0):
            raise ValueError('the data loader has no batch: its data set is smaller than batch_size with drop_last')
        _begin_epoch(loader, epoch)
        batches = iter(loader)


def _begin_epoch(loader: DataLoader, epoch: int) -> None:
    for sampler in (loader.sampler, getattr(loader.batch_sampler, 'sampler', None)):  # one of them decides the order
        if hasattr(sampler, 'set_epoch'):
            sampler.set_epoch(epoch)


class PassedOver:
    """What a training loop that asks for all the batches it has seen gets for these: nothing.

    Args:
        batches: the batches from the one on that it has not seen.
        done (int): how many it has seen.
    """

    def __init__(self, batches: Iterator[dict], done: int):
        self.batches, self.done = batches, done

    def __iter__(self) -> 'PassedOver':
        return self

    def __next__(self) -> dict | None:
        if self.done:
            self.done -= 1
            return None
        return next(self.batches)

    def skip_iter(self, count: int) -> None:
        """How the loops of onedl-mmengine ask for what they have seen."""
        self.done -= count
