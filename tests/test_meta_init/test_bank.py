"""The attack bank: exact radii, honest manifest, nothing lost."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from test_meta_init.banks import noise_bank

from paif_mm.attacks import Budget
from paif_mm.attacks.bank import PIXELS, PLACES, AttackBank, read_pair, round_into_ball, write_pair
from paif_mm.files import file_hash
from paif_mm.meta_init import MetaBatches
from paif_mm.meta_init.batches import iterate
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


# ------------------------------------------------------------------------------------------------- decoded pixels


def batches_of(bank, crop_size=(16, 24), length=3):
    return MetaBatches(bank, inner_steps=2, batch_size=3, crop_size=crop_size, clean_scene=True, length=length)


def assert_same(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for scene in a:
        for pairs, others in zip(a[scene], b[scene], strict=True):
            assert all(torch.equal(x, y) for x, y in zip(pairs, others, strict=True))


@pytest.mark.parametrize(('crop_size', 'workers'), [((16, 24), 0), (None, 0), ((16, 24), 2)])
def test_batches_of_decoded_pixels_are_those_of_the_images(tmp_path, monkeypatch, crop_size, workers):
    import paif_mm.attacks.bank as module

    bank = noise_bank(tmp_path)
    expected = list(iterate(batches_of(bank, crop_size), 0, 0))
    assert bank.unpack(), 'made now'
    assert not AttackBank(tmp_path).unpack(), 'there already'
    assert (tmp_path / PIXELS).stat().st_size == 6 * 4 * 4 * 40 * 48, '6 pairs, clean and at three levels'
    monkeypatch.setattr(module.cv2, 'imread', lambda *_: pytest.fail('no image is decoded'))
    for found, wanted in zip(iterate(batches_of(bank, crop_size), 0, workers), expected, strict=True):
        assert_same(found, wanted)


def test_pairs_of_several_sizes_are_decoded_too(tmp_path):
    for name, size in (('a', (20, 24)), ('b', (32, 16))):
        noise_bank(tmp_path / name, count=2, size=size)
    manifest = json.loads((tmp_path / 'a' / 'manifest.json').read_text())
    for level in ('clean', *manifest['levels']):
        for name in ('000000', '000001'):
            image = (tmp_path / 'b' / level / f'{name}.png').read_bytes()
            other = f'{level}/{int(name) + 2:06d}.png'
            (tmp_path / 'a' / other).write_bytes(image)
            manifest['files'][other] = hashlib.sha256(image).hexdigest()
    manifest['pairs'] |= {'000002': '2.png', '000003': '3.png'}
    (tmp_path / 'a' / 'manifest.json').write_text(json.dumps(manifest))
    bank = AttackBank(tmp_path / 'a')
    expected = {(level, name): bank.read(level, name) for level in bank.levels for name in bank.names}
    bank.unpack()
    assert {pair[0].shape[1:] for pair in expected.values()} == {(20, 24), (32, 16)}
    for key, pair in expected.items():
        assert all(torch.equal(a, b) for a, b in zip(bank.read(*key), pair, strict=True))


def test_where_memory_does_not_map_the_pixels_images_are_read(tmp_path, monkeypatch):
    """As a system does that promises no more memory than it has, for a bank that is larger."""
    import numpy

    def refused(*args, **kwargs):
        raise OSError(12, 'Cannot allocate memory')

    bank = noise_bank(tmp_path)
    wanted = bank.read('heavy', bank.names[0])
    monkeypatch.setattr(numpy, 'memmap', refused)
    with pytest.raises(OSError, match='Cannot allocate memory'):
        bank.unpack()
    assert all(torch.equal(a, b) for a, b in zip(bank.read('heavy', bank.names[0]), wanted, strict=True))


@pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='Linux tells how a file is mapped')
def test_the_mapping_asks_for_no_memory(tmp_path):
    bank = noise_bank(tmp_path)
    bank.unpack()
    lines = [line for line in Path('/proc/self/maps').read_text().splitlines() if line.endswith(f'{tmp_path}/{PIXELS}')]
    assert [line.split()[1] for line in lines] == ['r--s']


def test_pixels_of_another_bank_or_cut_off_ones_are_made_anew(tmp_path):
    bank = noise_bank(tmp_path)
    bank.unpack()
    with open(tmp_path / PIXELS, 'r+b') as file:
        file.truncate(100)
    assert AttackBank(tmp_path).unpack()
    other = noise_bank(tmp_path, seed=1)
    wanted = other.read('heavy', other.names[0])
    assert other.unpack()
    assert torch.equal(other.read('heavy', other.names[0])[0], wanted[0])
    (tmp_path / PLACES).write_text('{"manifest"')
    assert AttackBank(tmp_path).unpack()


def test_pixels_that_are_not_what_they_were_are_made_anew(tmp_path):
    bank = noise_bank(tmp_path)
    wanted = bank.read('heavy', bank.names[0])
    bank.unpack()
    assert json.loads((tmp_path / PLACES).read_text())['hash'] == file_hash(tmp_path / PIXELS)
    content = bytearray((tmp_path / PIXELS).read_bytes())
    content[1000] ^= 1  # one bit, as disks and hands do; size and time stay
    before = (tmp_path / PIXELS).stat()
    (tmp_path / PIXELS).write_bytes(content)
    os.utime(tmp_path / PIXELS, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = AttackBank(tmp_path)
    assert again.unpack()
    assert all(torch.equal(a, b) for a, b in zip(again.read('heavy', bank.names[0]), wanted, strict=True))
    assert not AttackBank(tmp_path).unpack()
    content = json.loads((tmp_path / PLACES).read_text())
    del content['hash']  # of an earlier version
    (tmp_path / PLACES).write_text(json.dumps(content))
    assert AttackBank(tmp_path).unpack()


SLOW = """
import sys, time
import paif_mm.attacks.bank as module
original = module.read_pair
def slow(path):
    print('reading', flush=True)
    time.sleep(float(sys.argv[2]))
    return original(path)
module.read_pair = slow
print(module.AttackBank(sys.argv[1]).unpack(), flush=True)
"""


def unpacking(folder, seconds: float) -> subprocess.Popen:
    """A process that decodes a bank, so long for every pair, once it is at it."""
    process = subprocess.Popen([sys.executable, '-c', SLOW, folder, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == 'reading\n'
    return process


def pixel_files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith('pixels'))


def test_what_a_killed_process_left_is_removed_by_the_next_one(tmp_path):
    noise_bank(tmp_path)
    process = unpacking(tmp_path, 60)
    process.kill()
    process.wait()
    assert pixel_files(tmp_path) == [f'{PIXELS}.{process.pid}.partial']
    assert AttackBank(tmp_path).unpack()
    assert pixel_files(tmp_path) == [PIXELS, PLACES]


def test_who_comes_second_waits_for_the_first_and_decodes_nothing(tmp_path):
    bank = noise_bank(tmp_path)
    process = unpacking(tmp_path, 0.1)
    assert not bank.unpack(), 'made by the other'
    assert process.wait() == 0
    assert process.stdout.read().splitlines()[-1] == 'True'
    assert pixel_files(tmp_path) == [PIXELS, PLACES]


def test_a_file_system_without_locks_does(tmp_path, monkeypatch):
    import fcntl

    def refused(*args):
        raise OSError(37, 'No locks available')

    bank = noise_bank(tmp_path)
    (tmp_path / f'{PIXELS}.1.partial').touch()  # perhaps another's, who is at it
    monkeypatch.setattr(fcntl, 'flock', refused)
    assert bank.unpack()
    assert pixel_files(tmp_path) == [PIXELS, f'{PIXELS}.1.partial', PLACES]


def test_a_crash_leaves_no_pixels(tmp_path, monkeypatch):
    import paif_mm.attacks.bank as module

    bank, original, calls = noise_bank(tmp_path), module.read_pair, []

    def interrupted(path):
        calls.append(path)
        if len(calls) == 5:
            raise OSError(28, 'No space left on device')
        return original(path)

    monkeypatch.setattr(module, 'read_pair', interrupted)
    with pytest.raises(OSError, match='No space left'):
        bank.unpack()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith('pixels')]
    assert torch.equal(bank.read('clean', bank.names[0])[0], original(tmp_path / 'clean' / f'{bank.names[0]}.png'))


def test_a_process_that_is_spawned_maps_the_file_itself(tmp_path):
    import pickle

    bank = noise_bank(tmp_path)
    bank.unpack()
    wanted = bank.read('heavy', bank.names[0])[0]
    content = pickle.dumps(bank)
    assert len(content) < (tmp_path / PIXELS).stat().st_size / 2
    assert torch.equal(pickle.loads(content).read('heavy', bank.names[0])[0], wanted)
