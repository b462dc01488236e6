"""The attack bank: exact radii, honest manifest, nothing lost."""

import json

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer

from paif_mm.attacks import Budget
from paif_mm.attacks.bank import AttackBank, read_pair, round_into_ball, write_pair
from paif_mm.meta_init import MetaBatches
from paif_mm.meta_init.craft import craft, transfer

LEVELS = {'small': 1 / 255, 'heavy': 4 / 255}


class Dataset:
    """Five pairs with labels, as mmseg's data sets give them."""

    def __init__(self):
        batch = pair_batch([(32, 40)] * 5)
        self.items = [{key: value[i] for key, value in batch.items()} for i in range(5)]

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return self.items[index]

    def get_data_info(self, index):
        return {'img_path': f'some/where/{index}.png'}


@pytest.fixture(scope='module')
def source():
    model = build_model(tiny_segformer())
    return model.eval()


@pytest.fixture(scope='module')
def bank(source, tmp_path_factory):
    folder = tmp_path_factory.mktemp('bank')
    return craft(source, Dataset(), folder, LEVELS, num=3, steps=2, progress=False)


def test_what_is_read_back_is_inside_the_ball_and_not_at_its_centre(bank):
    assert len(bank.names) == 3
    for level, eps in LEVELS.items():
        for name in bank.names:
            attacked, clean = bank.read(level, name)
            assert torch.equal(clean, Dataset()[int(name)]['inputs'])
            delta = (attacked.int() - clean.int()).abs()
            assert 0 < delta.max() <= eps * 255 + 1e-9
        assert bank.manifest['levels'][level]['max_delta_255'] == {'ir': round(eps * 255), 'vis': round(eps * 255)}
    attacked, clean = bank.read('clean', bank.names[0])
    assert torch.equal(attacked, clean)


def test_a_repeated_pair_enters_a_bank_once_so_that_its_two_parts_share_none(source, tmp_path):
    class Thrice(Dataset):
        def __len__(self):
            return 3 * super().__len__()

        def __getitem__(self, index):
            return super().__getitem__(index % 5)

        def get_data_info(self, index):
            return super().get_data_info(index % 5)

    bank = craft(source, Thrice(), tmp_path, {'small': 1 / 255}, num=15, steps=1, progress=False)
    assert sorted(bank.manifest['pairs'].values()) == [f'{i}.png' for i in range(5)]
    parts = MetaBatches(bank, inner_steps=1, batch_size=2, crop_size=None, clean_scene=False, length=1).parts
    files = [{bank.manifest['pairs'][name] for name in part} for part in parts.values()]
    assert not files[0] & files[1]
    assert files[0] | files[1] == {f'{i}.png' for i in range(5)}


def test_the_manifest_tells_what_the_attack_did_to_the_source(bank, source):
    small, heavy = (bank.manifest['levels'][level] for level in LEVELS)
    assert small['loss_before'] == heavy['loss_before'] < small['loss_after'] < heavy['loss_after']
    measured = transfer(source, Dataset(), bank)
    assert measured['heavy']['loss'] == pytest.approx(heavy['loss_after'])
    assert measured['clean']['mIoU'] == pytest.approx(heavy['mIoU_before'])
    other = transfer(build_model(tiny_segformer(), seed=1).eval(), Dataset(), bank)
    assert other['clean']['loss'] != pytest.approx(measured['clean']['loss'])


def test_rounding_stays_inside_the_ball_and_the_box():
    clean = torch.tensor([0, 10, 255, 100], dtype=torch.uint8).reshape(4, 1, 1)
    attacked = torch.tensor([2.6, 8.4, 253.5, 100.4]).reshape(4, 1, 1)
    assert round_into_ball(attacked, clean, [Budget(slice(None), 2.6, 0)]).flatten().tolist() == [2, 8, 253, 100]
    assert round_into_ball(clean - 4.0, clean, [Budget(slice(None), 4, 0)]).flatten().tolist() == [0, 6, 251, 96]
    only_ir = [Budget(slice(0, 3), 0, 0), Budget(slice(3, 4), 1, 0)]
    assert round_into_ball(clean - 4.0, clean, only_ir).flatten().tolist() == [0, 10, 255, 99]
    assert round_into_ball(attacked, clean, []).flatten().tolist() == [3, 8, 253, 100]


def test_rounding_stays_inside_an_l2_ball():
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(50, 200, (4, 9, 9), generator=generator).byte()
    delta = torch.randn(4, 9, 9, generator=generator)
    delta = 40 * delta / delta.norm()
    rounded = round_into_ball(clean + delta, clean, [Budget(slice(None), 40, 0)], norm='l2')
    assert 35 < (rounded.float() - clean.float()).norm() <= 40


def test_an_interrupted_bank_ends_as_an_uninterrupted_one(bank, source, tmp_path, monkeypatch):
    import paif_mm.meta_init.craft as module

    original, calls = module._attack, []

    def interrupted(*args):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(1)
        return original(*args)

    monkeypatch.setattr(module, '_attack', interrupted)
    with pytest.raises(KeyboardInterrupt):
        craft(source, Dataset(), tmp_path, LEVELS, num=3, steps=2, progress=False)
    with pytest.raises(FileNotFoundError, match='make or finish it with python tools/craft_attacks.py'):
        AttackBank(tmp_path)
    with open(tmp_path / 'progress.jsonl', 'a') as file:
        file.write('{"name": "00')  # the line that was being written
    monkeypatch.setattr(module, '_attack', lambda *args: calls.append(2) or original(*args))
    again = craft(source, Dataset(), tmp_path, LEVELS, num=3, steps=2, progress=False)
    assert calls == [1] * 4 + [2] * 2
    assert again.manifest == bank.manifest
    craft(source, Dataset(), tmp_path, LEVELS, num=3, steps=2, progress=False)
    assert len(calls) == 6, 'a finished bank is not made again'


def test_radius_zero_leaves_the_pairs_as_they_are(source, tmp_path):
    bank = craft(source, Dataset(), tmp_path, {'none': 0.0}, num=2, steps=1, progress=False)
    assert all(torch.equal(*bank.read('none', name)) for name in bank.names)
    level = bank.manifest['levels']['none']
    assert level['loss_after'] == level['loss_before'] > 0
    assert level['max_delta_255'] == {'ir': 0, 'vis': 0}


def test_another_seed_chooses_and_starts_differently(bank, source, tmp_path):
    other = craft(source, Dataset(), tmp_path, LEVELS, num=3, seed=1, steps=2, progress=False)
    assert other.manifest['files'] != bank.manifest['files']


def test_other_settings_are_refused(bank, source):
    with pytest.raises(FileExistsError, match='a bank with other steps: give another folder'):
        craft(source, Dataset(), bank.folder, LEVELS, num=3, steps=3, progress=False)


@pytest.mark.parametrize(
    ('levels', 'message'),
    [
        ({'clean': 1 / 255}, "can't be called 'clean'"),
        ({'tiny': 0.5 / 255}, 'tiny=.*neither 0 nor'),
        ({'x': -1.0}, 'x=-1'),
    ],
)
def test_bad_levels_are_refused(source, tmp_path, levels, message):
    with pytest.raises(ValueError, match=message):
        craft(source, Dataset(), tmp_path, levels, num=1, progress=False)


def test_files_that_are_not_the_manifests_are_named(source, tmp_path):
    bank = craft(source, Dataset(), tmp_path, {'small': 1 / 255}, num=2, steps=1, progress=False)
    path = tmp_path / 'small' / f'{bank.names[1]}.png'
    pair = read_pair(path)
    pair[0, 0, 0] += 1
    write_pair(path, pair)
    with pytest.raises(ValueError, match=f'damaged: small/{path.name} is not what its manifest says'):
        AttackBank(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=f'incomplete: small/{path.name} is missing'):
        AttackBank(tmp_path)
    (tmp_path / 'manifest.json').write_text(json.dumps({'levels': {}})[:8])
    with pytest.raises(ValueError, match='manifest.json is no manifest'):
        AttackBank(tmp_path)
