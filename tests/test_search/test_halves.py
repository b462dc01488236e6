"""Data for the weights and data for the architecture never share a sample, however a data set repeats or mixes its own.

Samples are seen by drawing them, as a loader does: their pipelines tell what they were asked for.
"""

import copy
import logging

import pytest
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATASETS, TRANSFORMS, init_default_scope
from searching import Pairs, make_runner

from paif_mm.data.splits import places, sample_keys, shared
from paif_mm.search.halves import Part, check_apart, halve

LOADER = {'batch_size': 2, 'num_workers': 0, 'sampler': {'type': 'InfiniteSampler', 'shuffle': True}}


@TRANSFORMS.register_module()
class Refuse:
    """Refuses one sample in three, as a crop without boxes is, so that its data set puts another in its place."""

    calls = 0

    def __call__(self, results):
        Refuse.calls += 1
        return results if Refuse.calls % 3 else None


@pytest.fixture
def segments(synthetic_root):
    init_default_scope('mmseg')
    return {
        'type': 'paif_mm.MFNetDataset',
        'data_root': str(synthetic_root),
        'ann_file': 'train.txt',
        'pipeline': [{'type': 'Refuse'}],
    }


@pytest.fixture
def boxes(synthetic_root):
    init_default_scope('mmdet')
    return {
        'type': 'paif_mm.PairCocoDataset',
        'data_root': str(synthetic_root),
        'ann_file': 'annotations/instances_train.json',
        'data_prefix': {'img': 'images'},
        'pipeline': [{'type': 'Refuse'}],
    }


def images(dataset) -> set[str]:
    return {dataset.get_data_info(index)['img_path'] for index in range(len(dataset))}


def drawn(dataset, rounds: int = 20) -> set[str]:
    """Images that some rounds through a data set come to see."""
    return {dataset[index]['img_path'] for _ in range(rounds) for index in range(len(dataset))}


@TRANSFORMS.register_module()
class MixThree:
    """Asks for further samples as mmdet's Mosaic does, and keeps them."""

    def get_indexes(self, dataset):
        return [(7 * len(dataset) + 3 * i + Refuse.calls) % len(dataset) for i in range(3)]

    def __call__(self, results):
        return {**results, 'seen': results['mix_results']}


WRAPPERS = {
    'plain': lambda data: data,
    'repeated': lambda data: {'type': 'RepeatDataset', 'dataset': data, 'times': 3},
    'concatenated with itself': lambda data: {'type': 'ConcatDataset', 'datasets': [data, data]},
    'concatenated with a part of itself': lambda data: {
        'type': 'ConcatDataset',
        'datasets': [data, {**data, 'indices': [0, 3]}],
    },
}


def check_halves(dataset: dict, everything: set[str]) -> list:
    halves = [half['dataset'] for half in halve({**LOADER, 'dataset': dataset}, seed=0)]
    seen = [drawn(half) for half in halves]
    assert not seen[0] & seen[1]
    assert seen[0] | seen[1] == everything
    assert abs(len(seen[0]) - len(seen[1])) <= 1
    assert not shared(*halves)
    again = [half['dataset'] for half in halve({**LOADER, 'dataset': dataset}, seed=0)]
    assert [sample_keys(half) for half in again] == [sample_keys(half) for half in halves]
    assert set(sample_keys(halve({**LOADER, 'dataset': dataset}, seed=1)[0]['dataset'])) != set(sample_keys(halves[0]))
    return halves


@pytest.mark.parametrize('wrapper', WRAPPERS)
@pytest.mark.parametrize('kind', ['segments', 'boxes'])
def test_no_sample_is_drawn_from_both_halves(kind, wrapper, request):
    data = request.getfixturevalue(kind)
    whole = DATASETS.build(WRAPPERS[wrapper](data))
    halves = check_halves(WRAPPERS[wrapper](data), images(whole))
    assert sum(map(len, halves)) == len(whole), 'a half repeats its samples as the whole set did'
    assert halves[0].metainfo == whole.metainfo


def test_a_list_that_names_a_pair_twice_puts_it_into_one_half(segments, synthetic_root, tmp_path):
    ids = (synthetic_root / 'train.txt').read_text().split()
    twice = tmp_path / 'twice.txt'
    twice.write_text('\n'.join(ids + ids[:5]) + '\n')
    try:
        whole = DATASETS.build({**segments, 'ann_file': str(twice)})
    except ValueError as error:
        pytest.skip(f'such a list is refused: {error}')
    check_halves({**segments, 'ann_file': str(twice)}, images(whole))


def test_classes_are_balanced_inside_of_each_half(boxes):
    data = {'type': 'ClassBalancedDataset', 'dataset': boxes, 'oversample_thr': 0.9}
    halves = check_halves(data, images(DATASETS.build(data)))
    assert any(len(half) > len(sample_keys(half)) for half in halves), 'rare classes are repeated'


def test_a_mosaic_mixes_samples_of_its_own_half_alone(boxes):
    mixed = {'type': 'MultiImageMixDataset', 'dataset': {**boxes, 'pipeline': []}, 'pipeline': [{'type': 'MixThree'}]}
    halves = [half['dataset'] for half in halve({**LOADER, 'dataset': mixed}, seed=0)]
    seen = [{part['img_path'] for i in range(len(half)) for part in half[i]['seen']} for half in halves]
    assert all(seen)
    assert not seen[0] & seen[1]
    assert halves[0].pipeline is not halves[1].pipeline, 'transforms may keep what they have seen'
    assert halves[0].dataset.pipeline is not halves[1].dataset.pipeline


def test_a_fold_of_a_data_set_is_halved_whole():
    from mmengine.dataset import BaseDataset

    class Listed(BaseDataset):
        def load_data_list(self):
            return [{'img_path': f'{i}.png'} for i in range(10)]

    class Fold:
        """Counts its samples from what it holds each time that it is initialised, as mmpretrain's KFoldDataset does."""

        def __init__(self, dataset):
            self.dataset, self._fully_initialized = dataset, False
            self.full_init()

        metainfo = {'classes': ('a',)}

        def full_init(self):
            if not self._fully_initialized:
                self.dataset = copy.copy(self.dataset)
                self.dataset.get_subset_(list(range(2, len(self.dataset))))
                self._fully_initialized = True

        def __len__(self):
            return len(self.dataset)

        def __getitem__(self, index):
            return self.dataset[index]

        def get_data_info(self, index):
            return self.dataset.get_data_info(index)

    halves = [half['dataset'] for half in halve({**LOADER, 'dataset': Fold(Listed(ann_file='', pipeline=[]))}, seed=0)]
    assert [len(half) for half in halves] == [4, 4]
    assert not shared(*halves)


# --------------------------------------------------------------------------------------- what others ask of a half


def test_a_half_answers_what_samplers_ask_for(boxes):
    from mmdet.datasets.samplers import AspectRatioBatchSampler, ClassAwareSampler

    for half in (half['dataset'] for half in halve({**LOADER, 'dataset': boxes}, seed=0)):
        for part in (half, Part(half, [1, 0])):
            batches = list(AspectRatioBatchSampler(DefaultSampler(part, shuffle=False), batch_size=2))
            assert sorted(index for batch in batches for index in batch) == list(range(len(part)))
            assert len(list(ClassAwareSampler(part))) == len(part)
            assert part.get_data_info(0)['img_path'] in places(part)
            assert part.metainfo['classes'] == ('person', 'bicycle', 'car')


def test_data_that_cannot_be_split_are_named(boxes):
    with pytest.raises(ValueError, match='only a train_dataloader config can be split'):
        halve(object(), seed=0)
    once = {'type': 'RepeatDataset', 'dataset': {**boxes, 'indices': [0]}, 'times': 4}
    with pytest.raises(ValueError, match='the training set has 1 different samples, too few'):
        halve({**LOADER, 'dataset': once}, seed=0)


# ------------------------------------------------------------------------------------- an architecture loader given


def search(folder, train: dict, arch: dict | None):
    def with_loading(data):
        steps = [
            {'type': 'paif_mm.LoadPairFromFile'},
            {'type': 'paif_mm.LoadPairAnnotations'},
            {'type': 'PackSegInputs'},
        ]
        return {**LOADER, 'dataset': {**data, 'pipeline': steps}}

    runner = make_runner(
        folder, train=with_loading(train), arch_dataloader=arch and with_loading(arch), max_iters=2, arch_interval=1
    )
    runner.train()
    return runner.train_loop


@pytest.mark.parametrize(('count', 'wrap'), [(8, {}), (2, {'indices': [1, 4]})])
def test_architecture_data_that_hold_training_samples_are_refused_with_their_number(segments, tmp_path, count, wrap):
    with pytest.raises(ValueError, match=rf'arch_dataloader holds {count} samples of train_dataloader \(the first: .*'):
        search(tmp_path, segments, {**segments, **wrap})


def test_a_search_runs_on_its_two_halves_or_on_other_data(segments, tmp_path):
    for name, arch in (('halves', None), ('others', {**segments, 'ann_file': 'val.txt'})):
        loop = search(tmp_path / name, segments, arch)
        assert not shared(loop.dataloader.dataset, loop.arch_dataloader.dataset)
        assert loop.record[0].ne(loop.record[-1]).any()


def test_data_that_cannot_tell_their_samples_are_said_to_be_unchecked(caplog):
    logger = logging.getLogger('halves')
    with caplog.at_level(logging.INFO, 'halves'):
        check_apart(Pairs(3), Pairs(3), logger)
    assert 'whether train_dataloader and arch_dataloader share any was not checked' in caplog.text
