"""Records of every case and image: complete, resumable, and independent of how the work was divided."""

import copy
import json

import pytest
import torch
from test_robustness.benches import Scenes, bench, trained, untrained

from paif_mm.attacks.attack import PGD
from paif_mm.attacks.bank import read_pair
from paif_mm.registry import ATTACKS, build
from paif_mm.robustness import evaluate as module
from paif_mm.robustness.cases import CLEAN, Case, config_case
from paif_mm.robustness.evaluate import Bench, evaluate, evenly, image_names
from paif_mm.robustness.records import Records

EPS = 8 / 255
PGD5 = config_case('pgd5', {'type': 'PGD', 'eps': EPS})
FOG = Case('fog3', {'type': 'Corruption', 'name': 'fog'}, kind='corruption')
L2 = config_case('l2', {'type': 'APGD', 'eps': 2.0, 'steps': 4, 'norm': 'l2'})
CASES = [CLEAN, PGD5, FOG, L2]
SETTINGS = {'config': 'a.py', 'seed': 0, 'cases': ['clean', 'pgd5-8']}


@pytest.fixture(scope='module')
def model():
    return trained()


@pytest.fixture(scope='module')
def complete(model, tmp_path_factory):
    """The records of an evaluation that nothing disturbed."""
    return run(model, tmp_path_factory.mktemp('complete'))


def run(model, folder, cases=CASES, **settings) -> dict:
    records = Records(folder, SETTINGS)
    try:
        evaluate(bench(model), cases, records, **{'progress': False, **settings})
    finally:
        records.close()
    return records.found


def lines(folder) -> list[dict]:
    return [json.loads(line) for path in folder.glob('records*.jsonl') for line in path.read_text().splitlines()]


def same(found: dict, expected: dict, tolerance: float = 1e-4):
    """Records that agree, but for what rounding does to floats and to pixels on the border of two classes."""
    assert {key: set(images) for key, images in found.items()} == {key: set(images) for key, images in expected.items()}
    for key, images in expected.items():
        for name, record in images.items():
            other = found[key][name]
            assert set(other) == set(record)
            assert other['loss'] == pytest.approx(record['loss'], rel=tolerance)
            for field in ('intersect', 'union'):
                assert other['score'][field] == pytest.approx(record['score'][field], abs=3)


def test_every_case_and_image_has_a_record_of_what_was_done(complete):
    assert {key: sorted(images) for key, images in complete.items()} == {
        case.key: [f'{i}.png' for i in range(4)] for case in CASES
    }
    for i in range(4):
        clean, attacked, fog, l2 = (complete[case.key][f'{i}.png'] for case in CASES)
        assert 'audit' not in clean
        assert 7.9 < max(attacked['audit']['max_delta_255'].values()) <= 8
        assert 0.2 < attacked['audit']['at_bound'] < 1
        assert l2['audit']['at_bound'] == 1, 'the norm of the image'
        assert fog['audit']['max_delta_255']['ir'] == 0 < fog['audit']['max_delta_255']['vis']
        assert clean['loss'] < min(attacked['loss'], l2['loss'])
        assert clean['score']['labelled'] == 48 * 64
        assert clean['fused'].keys() == attacked['fused'].keys()
        assert clean['fused'] != attacked['fused']


def test_records_are_those_of_the_model_itself(complete, model):
    scenes = Scenes()
    for i in range(4):
        item = scenes[i]
        data = {'inputs': [item['inputs']], 'data_samples': [item['data_samples']]}
        prediction = model.test_step(data)[0].pred_sem_seg.data
        label = item['data_samples'].gt_sem_seg.data
        score = complete['clean'][f'{i}.png']['score']
        assert sum(score['intersect']) == int((prediction == label).sum())
        assert score['union'] == [int(((prediction == k) | (label == k)).sum()) for k in range(4)]


def test_a_record_is_written_as_soon_as_it_is_known(model, tmp_path, monkeypatch):
    original, seen = module._run, []

    def watched(*args):
        for pair in original(*args):
            seen.append(len(lines(tmp_path)))
            yield pair

    monkeypatch.setattr(module, '_run', watched)
    run(model, tmp_path, [CLEAN, PGD5], batch_size=2)
    assert seen == list(range(8))
    assert [(line['case'], line['image']) for line in lines(tmp_path)] == [
        (key, f'{i}.png') for images in ((0, 1), (2, 3)) for key in ('clean', 'pgd5-8') for i in images
    ]


@pytest.mark.parametrize('batch_size', [1, 2])
def test_a_killed_evaluation_goes_on_where_it_was(complete, model, tmp_path, monkeypatch, batch_size):
    calls, original = [], PGD.__call__

    def interrupted(self, model, batch, *args, **kwargs):
        if len(calls) == 3:
            raise KeyboardInterrupt
        calls.append(len(batch['inputs']))
        return original(self, model, batch, *args, **kwargs)

    monkeypatch.setattr(PGD, '__call__', interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path, batch_size=batch_size)
    done = len(lines(tmp_path))
    assert 0 < done < 16
    with open(tmp_path / 'records0.jsonl', 'a') as file:
        file.write('{"case": "pgd5-8", "ima')  # the line that was being written
    again = []

    def counted(self, model, batch, *args, **kwargs):
        again.append(len(batch['inputs']))
        return original(self, model, batch, *args, **kwargs)

    monkeypatch.setattr(PGD, '__call__', counted)
    found = run(model, tmp_path, batch_size=batch_size)
    assert sum(calls) + sum(again) == 8, 'four images under PGD and APGD each, none of them twice'
    assert len(lines(tmp_path)) == 16
    if batch_size == 1:
        assert found == complete
    same(found, complete)
    again.clear()
    run(model, tmp_path, batch_size=batch_size)
    assert not again
    assert len(lines(tmp_path)) == 16


def test_an_image_lost_from_the_middle_is_made_again(complete, model, tmp_path):
    run(model, tmp_path)
    path = tmp_path / 'records0.jsonl'
    kept = path.read_text().splitlines(keepends=True)
    del kept[5]
    path.write_text(''.join(kept))
    assert run(model, tmp_path) == complete


class Noisy(torch.nn.Module):
    def __init__(self, fusion):
        super().__init__()
        self.fusion = fusion

    def forward(self, ir, vis):
        return self.fusion(ir, vis) + 0.05 * torch.randn_like(ir)


def test_what_a_random_model_draws_belongs_to_the_seed_the_attack_and_the_image(model, tmp_path):
    """The same again, whatever was drawn before, in whatever parts; by another seed something else."""
    noisy = copy.deepcopy(model)
    noisy.data_preprocessor.fusion = Noisy(noisy.data_preprocessor.fusion)
    cases = [CLEAN, PGD5]
    torch.manual_seed(1)
    first = run(noisy, tmp_path / 'first', cases)
    torch.manual_seed(2)
    assert run(noisy, tmp_path / 'again', cases) == first
    run(noisy, tmp_path / 'parts', cases, share=(1, 2))
    assert run(noisy, tmp_path / 'parts', cases) == first
    assert run(noisy, tmp_path / 'other', cases, seed=1)['clean'] != first['clean']
    silent = run(model, tmp_path / 'silent', [CLEAN])
    assert silent['clean']['0.png']['loss'] != first['clean']['0.png']['loss'], 'it does draw'


def test_the_batch_size_changes_nothing(complete, model, tmp_path):
    same(run(model, tmp_path, batch_size=3), complete)


def test_images_of_several_sizes_go_in_batches_of_one_size(model, tmp_path):
    scenes = Scenes()
    scenes.items[1] = Scenes(1, size=(40, 56), seed=5).items[0]
    found = {}
    for size in (1, 3):
        records = Records(tmp_path / str(size), SETTINGS)
        evaluate(bench(model, scenes), [CLEAN, PGD5], records, batch_size=size, progress=False)
        records.close()
        found[size] = records.found
    same(found[3], found[1])
    assert found[3]['clean']['1.png']['score']['labelled'] == 40 * 56


def test_shares_cover_all_images_once(complete, model, tmp_path):
    for rank in (0, 1):
        records = Records(tmp_path, SETTINGS if rank == 0 else None, rank)
        evaluate(bench(model), CASES, records, share=(rank, 2), progress=False)
        records.close()
    assert [len((tmp_path / f'records{rank}.jsonl').read_text().splitlines()) for rank in (0, 1)] == [8, 8]
    assert Records(tmp_path, SETTINGS).found == complete


def test_another_seed_starts_elsewhere(complete, model, tmp_path):
    found = run(model, tmp_path, [CLEAN, PGD5], seed=1)
    assert found['clean'] == complete['clean']
    assert all(found['pgd5-8'][name] != complete['pgd5-8'][name] for name in complete['clean'])


@pytest.mark.parametrize('norm', ['linf', 'l2', 'corruption'])
def test_saved_images_are_in_the_ball_and_tested_as_read_back(model, tmp_path, norm):
    case = {'linf': PGD5, 'l2': L2, 'corruption': FOG}[norm]
    records = Records(tmp_path, SETTINGS)
    tester, scenes = bench(model), Scenes()
    evaluate(tester, [CLEAN, case], records, batch_size=2, save_adv=True, progress=False)
    records.close()
    for i in range(4):
        clean, attacked = (read_pair(tmp_path / 'adv' / folder / f'{i}.png') for folder in ('clean', case.key))
        assert clean.dtype == attacked.dtype == torch.uint8
        assert torch.equal(clean, scenes[i]['inputs'])
        delta = attacked.float() - clean.float()
        if norm == 'linf':
            assert 7 < delta.abs().max() <= 8
        elif norm == 'l2':
            assert 2.0 * 255 * 0.9 < delta.norm() <= 2.0 * 255 + 1e-2
        else:
            attack = build(ATTACKS, case.attack)
            assert torch.equal(attacked.float(), attack.corrupt(clean.float())), 'in whole levels already'
        batch = tester.batch([scenes[i]])
        expected = tester.records(tester.predict([attacked.float()], batch), batch)[0]
        record = records.found[case.key][f'{i}.png']
        assert record['eight_bit'] == expected
        assert 'eight_bit' not in records.found['clean'][f'{i}.png']
        if norm == 'corruption':
            assert record['eight_bit'] == record['score']


def test_earlier_frames_are_those_of_the_data_set(model, tmp_path):
    """Of the whole data set, also where few of its images are tested, in batches and one by one."""
    scenes = Scenes()
    case = Case('time_offset2', {'type': 'Corruption', 'name': 'time_offset', 'severity': 2}, kind='corruption')
    for size in (1, 2):
        records, it = Records(tmp_path / str(size), SETTINGS), Bench(model, scenes, [1, 3])
        evaluate(it, [CLEAN, case], records, batch_size=size, save_adv=True, progress=False)
        records.close()
        for image, before in ((1, 0), (3, 1)):
            seen = read_pair(tmp_path / str(size) / 'adv' / 'time_offset2' / f'{image}.png')
            assert torch.equal(seen[3:], scenes[before]['inputs'][3:])
            assert torch.equal(seen[:3], scenes[image]['inputs'][:3])
            audit = records.found['time_offset2'][f'{image}.png']['audit']
            assert audit['max_delta_255']['vis'] == 0 < audit['max_delta_255']['ir']


def test_strips_are_drawn_of_the_images_asked_for(model, tmp_path):
    run(model, tmp_path, [CLEAN, PGD5], strips=[1, 3])
    assert sorted(str(path.relative_to(tmp_path / 'strips')) for path in tmp_path.glob('strips/*/*')) == [
        f'{key}/{i}.png' for key in ('clean', 'pgd5-8') for i in (1, 3)
    ]


def test_the_fusion_is_measured_only_if_asked_and_where_there_is_one(model, tmp_path):
    found = run(model, tmp_path / 'fused', [CLEAN], quality=False)
    assert all('fused' not in record for record in found['clean'].values())
    plain, scenes = untrained(plain=True), Scenes(channels=3)
    records = Records(tmp_path / 'plain', SETTINGS)
    evaluate(bench(plain, scenes), [CLEAN, PGD5], records, progress=False)
    records.close()
    for record in records.found['pgd5-8'].values():
        assert 'fused' not in record
        assert 7.9 < record['audit']['max_delta_255']['all'] <= 8


def test_other_settings_are_refused_by_name(tmp_path):
    Records(tmp_path, SETTINGS).close()
    Records(tmp_path, {**SETTINGS, 'cases': ('clean', 'pgd5-8')}).close()  # a tuple is read back as a list
    with pytest.raises(FileExistsError, match='holds an evaluation with other seed: give another --out'):
        Records(tmp_path, {**SETTINGS, 'seed': 1})
    with pytest.raises(FileExistsError, match='other cases, suite'):
        Records(tmp_path, {**SETTINGS, 'cases': [], 'suite': 'full'})
    with pytest.raises(FileExistsError, match='other config'):
        Records(tmp_path, {key: value for key, value in SETTINGS.items() if key != 'config'})
    assert json.loads((tmp_path / 'settings.json').read_text()) == SETTINGS


def test_records_come_in_the_order_asked_for(tmp_path):
    records = Records(tmp_path, SETTINGS)
    for name in ('b', 'a'):
        records.add('clean', name, {'loss': name})
    assert ('clean', 'a') in records
    assert ('clean', 'c') not in records
    assert ('pgd', 'a') not in records
    assert records.of('clean', ['a', 'b']) == [{'loss': 'a'}, {'loss': 'b'}]
    other = Records(tmp_path, None, rank=1)
    assert other.of('clean', ['b']) == [{'loss': 'b'}]
    records.close()
    other.close()


def test_names_are_file_names_unless_two_are_alike():
    class Paths:
        def __init__(self, *paths):
            self.paths = paths

        def get_data_info(self, i):
            return {'img_path': self.paths[i]}

    assert image_names(Paths('/d/a.png', '/d/b.png'), [1, 0]) == ['b.png', 'a.png']
    assert image_names(Paths('/d/day/a.png', '/d/night/a.png'), [0, 1]) == ['day__a.png', 'night__a.png']
    with pytest.raises(ValueError, match='several images are called a, but each needs a name of its own'):
        image_names(Paths('/d/a.png', '/d/a.jpg'), [0, 1])


@pytest.mark.parametrize(
    ('count', 'limit', 'expected'),
    [(10, 5, [1, 3, 5, 7, 9]), (10, 1, [5]), (3, 3, [0, 1, 2]), (3, 9, [0, 1, 2]), (4, None, [0, 1, 2, 3])],
)
def test_a_limit_takes_images_from_all_over(count, limit, expected):
    assert evenly(count, limit) == expected


def test_attacks_leave_the_data_set_as_it_was(model, tmp_path):
    scenes = Scenes()
    before = [item.clone() for item, _ in scenes.items]
    records = Records(tmp_path, SETTINGS)
    evaluate(bench(model, scenes), CASES, records, progress=False)
    records.close()
    assert all(torch.equal(item, copy) for (item, _), copy in zip(scenes.items, before, strict=True))


def test_reading_leaves_a_line_that_another_process_is_writing(tmp_path):
    Records(tmp_path, SETTINGS).close()
    other = tmp_path / 'records1.jsonl'
    other.write_text('{"case": "clean", "image": "a", "record": {}}\n{"case": "cl')
    records = Records(tmp_path, None, 0)
    assert ('clean', 'a') in records
    assert other.read_text().endswith('{"case": "cl')
    records.close()
    Records(tmp_path, None, 1).close()  # its own process, after a crash
    assert other.read_text().endswith('}\n')


@pytest.mark.gpu
def test_a_gpu_finds_what_a_cpu_finds(model, complete, tmp_path):
    found = run(copy.deepcopy(model).cuda(), tmp_path, save_adv=True, batch_size=3)
    for name, record in complete['clean'].items():
        assert found['clean'][name]['score']['intersect'] == pytest.approx(record['score']['intersect'], abs=3)
        assert found['pgd5-8'][name]['loss'] == pytest.approx(complete['pgd5-8'][name]['loss'], rel=0.05)
        assert found['l2-l2_2'][name]['audit']['l2'] <= 2 + 1e-3
