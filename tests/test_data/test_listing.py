"""Folders and lists: every file and every line is used, named or counted."""

import codecs

import pytest
from mmengine.registry import init_default_scope
from test_data.pairs import FOLDERS, LAYOUTS, make_set, open_set, paths_of, write_file

from paif_mm.data import MFNetDataset
from paif_mm.data.listing import read_lines
from paif_mm.data.naming import IMAGES

IDS = ['00001D', '00002N', '00003D']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


@pytest.fixture(params=LAYOUTS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.mark.parametrize('ending', [*IMAGES, '.PNG', '.JPG', '.Tiff'])
def test_images_of_every_ending_are_found_and_read(tmp_path, kind, ending):
    make_set(tmp_path, kind, IDS[:2], ending)
    make_set(tmp_path, kind, IDS[2:])  # a folder of mixed endings
    dataset = open_set(kind, tmp_path, pipeline=[{'type': 'paif_mm.LoadPairFromFile'}])
    assert len(dataset) == 3
    if kind is MFNetDataset and ending.lower() in ('.jpg', '.jpeg'):  # found, but JPEG has no fourth channel
        with pytest.raises(ValueError, match='no infrared one'):
            dataset[0]
        return
    assert [dataset[i]['img'].shape for i in range(len(dataset))] == [(12, 16, 4)] * 3


def test_two_files_of_one_id_are_refused_by_name(tmp_path, kind):
    make_set(tmp_path, kind, IDS)
    for role, folder in FOLDERS[kind].items():
        ending = '.XML' if role == 'xml_path' else '.bmp'
        write_file(tmp_path / folder / f'00002N{ending}', kind, role)
        with pytest.raises(ValueError, match=rf'{folder} holds 00002N\..* and 00002N\..*two files of one id'):
            open_set(kind, tmp_path)
        (tmp_path / folder / f'00002N{ending}').unlink()
    assert len(open_set(kind, tmp_path)) == 3


ENCODED = {
    'plain': '\n'.join(IDS).encode(),
    'without a last line break, CRLF, blank lines, spaces': '\r\n \r\n'.join(f' {name}\t' for name in IDS).encode(),
    'byte order mark': codecs.BOM_UTF8 + '\n'.join(IDS).encode(),
    'UTF-16, little end': codecs.BOM_UTF16_LE + '\r\n'.join(IDS).encode('utf-16-le'),
    'UTF-16, big end': codecs.BOM_UTF16_BE + '\r\n'.join(IDS).encode('utf-16-be'),
    'UTF-32': '\n'.join(IDS).encode('utf-32'),
    'with endings': '\n'.join([IDS[0], *(f'{name}.png' for name in IDS[1:])]).encode(),
}


@pytest.mark.parametrize('content', ENCODED.values(), ids=ENCODED)
def test_lists_are_read_in_their_order_as_any_editor_saves_them(tmp_path, kind, content):
    make_set(tmp_path, kind, ['00000D', *IDS])
    (tmp_path / 'list.txt').write_bytes(content)
    dataset = open_set(kind, tmp_path, ann_file='list.txt')
    assert [paths['img_path'].split('/')[-1] for paths in paths_of(dataset)] == [f'{name}.png' for name in IDS]


@pytest.mark.parametrize(
    ('content', 'error', 'message'),
    [
        (b'00001D\n\xff\xfe\xfa', ValueError, r'list\.txt cannot be read as utf-8, save it as UTF-8'),
        ('00001D'.encode('utf-16-le'), ValueError, r'list\.txt holds zero bytes'),
        (b'\n \n', ValueError, r'list\.txt is empty'),
        (b'00001D\n00009D\n', FileNotFoundError, r'holds no 00009D .*list\.txt'),
        (b'images/00001D.png\n', FileNotFoundError, r'holds no images/00001D\.png .*list\.txt'),
        (None, FileNotFoundError, r'list\.txt does not exist: set data_root'),
    ],
)
def test_lists_that_cannot_be_meant_are_named(tmp_path, kind, content, error, message):
    make_set(tmp_path, kind, IDS)
    if content is not None:
        (tmp_path / 'list.txt').write_bytes(content)
    with pytest.raises(error, match=message) as caught:
        open_set(kind, tmp_path, ann_file='list.txt')
    assert '\n' not in str(caught.value)


def test_a_sample_listed_twice_is_taken_once_and_told(tmp_path, kind, said):
    make_set(tmp_path, kind, IDS)
    (tmp_path / 'list.txt').write_text('00001D\n00002N\n00001D.png\n')
    assert len(open_set(kind, tmp_path, ann_file='list.txt')) == 2
    assert [text.split('list.txt')[-1] for text in said('WARNING') if 'listed more' in text] == [
        ': 1 id (00001D) listed more than once, taken once'
    ]
    assert any(text.startswith('1 of 3 images in') for text in said('INFO'))


def test_lighting_needs_ids_that_tell_it(tmp_path, said):
    make_set(tmp_path, MFNetDataset, IDS)
    assert len(open_set(MFNetDataset, tmp_path, lighting='day')) == 2
    assert "1 of 3 pairs left out by lighting='day'" in said('INFO')
    make_set(tmp_path, MFNetDataset, ['00004'])
    with pytest.raises(ValueError, match='ids that end in D or N, which 00004 does not'):
        open_set(MFNetDataset, tmp_path, lighting='day')


def test_one_folder_for_two_roles_is_refused(tmp_path, kind):
    make_set(tmp_path, kind, IDS)
    first, second = list(FOLDERS[kind].items())[:2]
    with pytest.raises(ValueError, match='names one folder for two things'):
        open_set(kind, tmp_path, data_prefix={second[0]: f'{first[1]}/'})


def test_lines_of_an_empty_file_are_none(tmp_path):
    (tmp_path / 'a.txt').write_text('')
    assert read_lines(str(tmp_path / 'a.txt')) == []
