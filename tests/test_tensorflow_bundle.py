"""Checkpoints of TensorFlow, read without it."""

import numpy as np
import pytest
import torch
from tensorflow_files import write_bundle

from paif_mm.tensorflow_bundle import BundleError, crc32c, read_bundle

TENSORS = {
    'global_step': np.array(7, np.int64),
    'net/layer1_ir/b1_ir': np.arange(5, dtype=np.float32),
    'net/layer1_ir/w1_ir': np.arange(2 * 3 * 4 * 5, dtype=np.float32).reshape(2, 3, 4, 5) - 50,
    'net/layer1_vi/b1_vi': np.array([1e-300, -2.5]),
    'net/layer10/steps': np.array([[-3, 2**31 - 1]], np.int32),
    'nothing': np.empty((0, 3), np.float32),
}


@pytest.fixture
def prefix(tmp_path):
    write_bundle(tmp_path / 'IRVIS.model-10', TENSORS)
    return tmp_path / 'IRVIS.model-10'


@pytest.mark.parametrize('per_block', [1, 4, 100])
@pytest.mark.parametrize('end', ['', '.index', '.data-00000-of-00001', '.meta'])
def test_tensors_are_read_as_they_were_written(tmp_path, per_block, end):
    write_bundle(tmp_path / 'model-10', TENSORS, per_block)
    found = read_bundle(f'{tmp_path}/model-10{end}')
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert torch.equal(found[name], torch.from_numpy(array)), name
        assert found[name].dtype == torch.from_numpy(array).dtype


def test_the_checksum_is_castagnolis():
    assert crc32c(b'123456789') == 0xE3069283  # RFC 3720's check value
    assert crc32c(b'\0' * 32) == 0x8A9136AA


def test_a_missing_file_is_named(prefix):
    with pytest.raises(FileNotFoundError, match=r'nothing.index is not here'):
        read_bundle(prefix.parent / 'nothing')
    (prefix.parent / 'IRVIS.model-10.data-00000-of-00001').unlink()
    with pytest.raises(FileNotFoundError, match=r'IRVIS.model-10.data-00000-of-00001'):
        read_bundle(prefix)


def changed(path, place: int, by: int = 1) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= by
    path.write_bytes(content)


@pytest.mark.parametrize(
    ('file', 'place', 'message'),
    [
        ('index', 20, 'the checksum of a block does not match'),
        ('index', -1, 'it does not end as a table does'),
        ('data-00000-of-00001', 3, r'the checksum of a tensor in IRVIS.model-10.data-00000-of-00001 does not match'),
    ],
    ids=['entries', 'magic', 'values'],
)
def test_damage_is_found(prefix, file, place, message):
    changed(prefix.parent / f'{prefix.name}.{file}', place)
    with pytest.raises(BundleError, match=f'IRVIS.model-10.index can not be read .*{message}'):
        read_bundle(prefix)


def test_any_damaged_byte_of_the_index_is_found_or_harms_nothing(prefix):
    path = prefix.parent / 'IRVIS.model-10.index'
    original = path.read_bytes()
    for place in range(len(original)):
        changed(path, place, 0xFF)
        try:
            found = read_bundle(prefix)
        except (BundleError, FileNotFoundError):
            pass
        else:  # of the padding and of the meta index, which nobody reads
            assert all(torch.equal(found[name], torch.from_numpy(array)) for name, array in TENSORS.items())
        path.write_bytes(original)


def test_a_file_that_is_cut_off_is_told(prefix):
    data = prefix.parent / f'{prefix.name}.data-00000-of-00001'
    data.write_bytes(data.read_bytes()[:-4])
    with pytest.raises(BundleError, match='data-00000-of-00001 is too short'):
        read_bundle(prefix)


def test_a_compressed_table_is_told(tmp_path):
    write_bundle(tmp_path / 'm', TENSORS, compression=1)
    with pytest.raises(BundleError, match='it is compressed'):
        read_bundle(tmp_path / 'm')


def test_a_file_of_pytorch_is_told(tmp_path):
    torch.save({'w': torch.zeros(3)}, tmp_path / 'm.index')
    with pytest.raises(BundleError, match='it does not end as a table does'):
        read_bundle(tmp_path / 'm')
