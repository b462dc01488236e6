"""Whatever holds pairs gives the same pairs."""

import cv2
import numpy as np
import pytest

from paif_mm.apis.pairs import source_of
from paif_mm.apis.results import spared


@pytest.fixture
def folders(tmp_path):
    """Three visible and three infrared images, two of which belong together."""
    rng = np.random.default_rng(0)
    for folder, names in (('rgb', ('a.png', 'b.jpg', 'c.png', 'notes.txt')), ('ir', ('a.bmp', 'b.png', 'd.png'))):
        (tmp_path / folder).mkdir()
        for name in names:
            image = rng.integers(0, 256, (6, 8, 3), np.uint8)
            if name.endswith('txt'):
                (tmp_path / folder / name).write_text('no image')
            else:
                cv2.imwrite(str(tmp_path / folder / name), image)
    return tmp_path


def test_files_of_two_folders_belong_together_by_their_names(folders):
    (folders / 'rgb' / 'd.png').mkdir()  # a folder is no image
    (folders / 'rgb' / '.hidden').write_text('')
    source = source_of((folders / 'rgb', folders / 'ir'))
    assert [(pair.name, pair.visible, pair.infrared) for pair in source.pairs] == [
        ('a', str(folders / 'rgb' / 'a.png'), str(folders / 'ir' / 'a.bmp')),
        ('b', str(folders / 'rgb' / 'b.jpg'), str(folders / 'ir' / 'b.png')),
    ]
    assert source.total == 2 and not source.single and source.fps is None
    assert [line.split()[0] for line in source.left_out] == [
        str(folders / 'rgb' / 'c.png'),
        str(folders / 'ir' / 'd.png'),
        f'{folders / "rgb"}:',
    ]
    assert '2 entries (d.png, notes.txt) not read' in source.left_out[2]


def test_one_pair_is_a_tuple_or_a_dict_and_several_are_a_list(folders):
    one, two = (
        (folders / 'rgb' / 'a.png', folders / 'ir' / 'a.bmp'),
        (folders / 'rgb' / 'b.jpg', folders / 'ir' / 'b.png'),
    )
    for given in (one, dict(zip(('visible', 'infrared'), one, strict=True))):
        source = source_of(given)
        assert source.single and [pair.name for pair in source.pairs] == ['a']
    for several in ([one, two], iter([one, two])):
        assert [pair.name for pair in source_of(several).pairs] == ['a', 'b']


def test_arrays_are_numbered(folders):
    visible, infrared = np.zeros((4, 5, 3), np.uint8), np.ones((4, 5), np.uint8)
    (pair,) = source_of((visible, infrared)).pairs
    assert pair.visible is visible and pair.infrared is infrared
    names = [pair.name for pair in source_of([(visible, infrared), np.zeros((4, 5, 4), np.uint8)]).pairs]
    assert names == ['000000', '000001']


def test_frames_of_two_videos_come_in_turns(tmp_path):
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None] * 40 + np.zeros((1, 32, 48, 3), np.uint8)
    for name, count in (('rgb.avi', 5), ('ir.avi', 4)):
        video = cv2.VideoWriter(str(tmp_path / name), cv2.VideoWriter_fourcc(*'MJPG'), 12.5, (48, 32))
        for frame in frames[:count]:
            video.write(frame)
        video.release()
    source = source_of((tmp_path / 'rgb.avi', tmp_path / 'ir.avi'))
    assert source.total == 4 and source.fps == pytest.approx(12.5)
    assert 'has 5 frames' in source.left_out[0]
    pairs = list(source.pairs)
    assert [pair.name for pair in pairs] == ['000000', '000001', '000002', '000003']
    for index, pair in enumerate(pairs):
        assert abs(pair.visible.mean() - 40 * index) < 3 and abs(pair.infrared.mean() - 40 * index) < 3


@pytest.mark.parametrize(
    ('inputs', 'error', 'words'),
    [
        ('nowhere', FileNotFoundError, 'nowhere does not exist'),
        (('nowhere', 'rgb'), FileNotFoundError, 'nowhere does not exist'),
        (('rgb', 'rgb/a.png'), TypeError, 'folder and image file'),
        ((1, 2, 3), TypeError, 'not 3 things'),
        ({'visible': 'rgb'}, TypeError, 'keys visible and infrared'),
        (5.0, TypeError, 'not as float'),
        ([{'rgb': 'a', 'ir': 'b'}], TypeError, 'keys visible and infrared, not rgb, ir'),
        (['rgb/a.png', 'ir/a.bmp'], TypeError, 'rgb/a.png in a list is no RGBA image .*: give a pair as a tuple'),
        ([np.zeros((4, 4, 3)), np.zeros((4, 4))], TypeError, r'an array \(4, 4, 3\) in a list'),
        (('rgb', 'other'), ValueError, 'no file of .* has a partner'),
        (('rgb', 'empty'), ValueError, 'holds no images'),
        (('rgb', 'twice'), ValueError, 'two images of one name'),
        (('a.mp4', 'a.mp4'), ValueError, 'can not be opened as a video'),
    ],
)
def test_what_is_no_pair_is_named(folders, monkeypatch, inputs, error, words):
    monkeypatch.chdir(folders)
    for folder, names in (('other', ['z.png']), ('empty', []), ('twice', ['a.png', 'a.jpg'])):
        (folders / folder).mkdir()
        for name in names:
            cv2.imwrite(f'{folder}/{name}', np.zeros((4, 4), np.uint8))
    (folders / 'a.mp4').write_bytes(b'no video')
    with pytest.raises(error, match=words):
        source_of(inputs)


def test_items_of_a_list_are_pairs_of_images_with_names_of_their_own(folders):
    again = folders / 'again'
    again.mkdir()
    cv2.imwrite(str(again / 'a.png'), np.zeros((4, 4, 3), np.uint8))
    missing = ('nowhere/x.png', 'nowhere/y.png')  # told when it is read
    pairs = [
        (folders / 'rgb' / 'a.png', folders / 'ir' / 'a.bmp'),
        (again / 'a.png', folders / 'ir' / 'a.bmp'),
        missing,
    ]
    assert [pair.name for pair in source_of(pairs).pairs] == ['a', 'a_000001', 'x']
    named = ['a_000002', 'a', 'z/a', 'a_000001']
    names = [pair.name for pair in source_of([(f'{name}.png', 'y.png') for name in named]).pairs]
    assert len(set(names)) == 4 and names[:2] == ['a_000002', 'a']
    for wrong in ((folders / 'rgb', folders / 'ir'), (np.zeros((4, 4)), 'a.png'), (1, 2), ('a', 'b', 'c'), ['a']):
        with pytest.raises(TypeError, match='^item 0 is'):
            list(source_of([wrong]).pairs)


def test_results_are_never_written_beside_what_is_read(folders, monkeypatch):
    monkeypatch.chdir(folders)
    (folders / 'links').mkdir()
    (folders / 'links' / 'a.png').symlink_to(folders / 'rgb' / 'a.png')
    (folders / 'other').symlink_to(folders / 'rgb')
    pair = ('rgb/a.png', 'ir/a.bmp')
    by_names = {'visible': 'rgb', 'infrared': 'ir'}
    for inputs in (('rgb', 'ir'), pair, [pair], by_names, 'rgb', 'rgb/a.png', ['rgb/a.png']):
        for out in ('rgb', 'ir/../rgb', 'other', str(folders / 'rgb')):
            with pytest.raises(ValueError, match='^results would be written beside .*rgb/'):
                spared(source_of(inputs), 'new', out)
        assert list(spared(source_of(inputs), 'new', '.').pairs)
    with pytest.raises(ValueError, match='beside links/a.png'):  # a link to what would be overwritten
        spared(source_of('links'), 'rgb')
    lazily = spared(source_of(iter([('x/a.png', 'y/a.png'), pair])), 'ir').pairs
    assert next(lazily).name == 'a'
    with pytest.raises(ValueError, match='beside ir/a.bmp'):
        next(lazily)
