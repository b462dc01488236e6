"""Files of any names in any folders: each is used, counted in the log, or named in an error."""

import re

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from test_data.pairs import OBJECT, XML, make_set, open_set, paths_of, write_file

from paif_mm.data import PairSegDataset, PairVOCDataset
from paif_mm.data.naming import Naming


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


@pytest.mark.parametrize(
    ('pattern', 'name', 'sample'),
    [
        ('*', 'a.png', 'a'),
        ('*', 'a.b.PNG', 'a.b'),
        ('*', 'a.txt', None),
        ('*', 'png', None),
        ('*', '.png', None),
        ('*', 'x/a.png', None),
        ('*_RGB', 'FLIR_00002_RGB.jpg', 'FLIR_00002'),
        ('*_RGB', 'FLIR_00002_rgb.jpg', None),
        ('*_RGB', '_RGB.jpg', None),
        ('*_RGB.jpg', 'a_RGB.jpg', 'a'),
        ('*_RGB.jpg', 'a_RGB.png', None),
        ('*/*/visible/*', 'set00/V000/visible/I00001.jpg', 'set00/V000/I00001'),
        ('*/*/visible/*', 'set00/V000/lwir/I00001.jpg', None),
        ('*_*_*', 'set00_V000_I00001.png', 'set00/V000/I00001'),
        ('(*)+[x]', '(a)+[x].png', 'a'),
    ],
)
def test_a_name_holds_its_sample_and_a_sample_its_name(pattern, name, sample):
    naming = Naming('img_path', pattern)
    assert naming.read(name) == sample
    if sample is not None:
        stem = name.rpartition('.')[0]
        assert naming.write(sample) == stem
        assert naming.read_stem(stem) == sample


@pytest.mark.parametrize(
    ('role', 'pattern'), [('img_path', 'visible'), ('img_path', '*.xml'), ('xml_path', '*.png'), ('img_path', '')]
)
def test_patterns_that_cannot_be_meant_are_refused(role, pattern):
    with pytest.raises(ValueError, match=rf'names\.{role}=.* must have a \* for the id'):
        Naming(role, pattern)


ROLES = {PairSegDataset: ('img_path', 'ir_path', 'seg_map_path'), PairVOCDataset: ('img_path', 'ir_path', 'xml_path')}
PATTERNS = {
    'by folder': ({'img_path': 'v', 'ir_path': 'i'}, '*', '*', '*', 1),
    'in one folder': ({'img_path': 'all', 'ir_path': 'all'}, '*_RGB', '*_IR', '*_GT', 1),
    'one of them without a mark': ({'img_path': 'all', 'ir_path': 'all'}, '*', '*_IR', '*_GT', 1),
    'by ending': ({'img_path': 'all', 'ir_path': 'all'}, '*.jpg', '*.png', '*', 1),
    'in subfolders': ({'img_path': 'v', 'ir_path': 'i'}, '*/*', '*/*', '*_*', 2),
    'in subfolders of one': ({'img_path': 'all', 'ir_path': 'all'}, '*/rgb/*', '*/thermal/*', '*/*', 2),
}


@pytest.mark.parametrize('seed', range(4))
@pytest.mark.parametrize('layout', PATTERNS)
@pytest.mark.parametrize('kind', ROLES, ids=lambda kind: kind.__name__)
def test_every_file_of_every_layout_is_used_or_counted(tmp_path, said, kind, layout, seed):
    rng = np.random.default_rng([seed, list(PATTERNS).index(layout)])
    folders, visible, infrared, truth, parts = PATTERNS[layout]
    leading, partner, label = ROLES[kind]
    prefix = {**folders, label: 'gt'}
    names = {leading: visible, partner: infrared, label: truth}
    samples = ['/'.join([f's{i // 3}', f'{i}'][-parts:]) for i in range(8)]
    lonely = {partner: rng.integers(4), label: rng.integers(4)}
    for role, pattern in names.items():
        ending = '.xml' if role == 'xml_path' else '' if '.' in pattern else '.png'
        for sample in samples + ['/'.join(['z', f'lonely{i}'][-parts:]) for i in range(lonely.get(role, 0))]:
            stem = pattern
            for part in sample.split('/'):
                stem = stem.replace('*', part, 1)
            write_file(tmp_path / prefix[role] / f'{stem}{ending}', kind, role)
    strange = {folder: rng.integers(3) for folder in set(prefix.values())}
    for folder, number in strange.items():
        for i in range(number):
            (tmp_path / folder / f'notes{i}.md').touch()
    listed = rng.permutation(samples)[: rng.integers(1, 9)].tolist()
    how = rng.choice([leading, label])
    lines = [Naming(how, names[how]).write(sample) for sample in listed] if rng.random() < 0.5 else listed
    (tmp_path / 'list.txt').write_text('\n'.join(lines))
    dataset = open_set(kind, tmp_path, ann_file='list.txt', data_prefix=prefix, names=names)
    stems = [
        {role: re.sub(r'\.\w+$', '', info[role].replace(f'{tmp_path}/{prefix[role]}/', '')) for role in names}
        for info in map(dataset.get_data_info, range(len(dataset)))
    ]
    assert stems == [{role: Naming(role, pattern).write(s) for role, pattern in names.items()} for s in listed]
    told = said('WARNING') + said('INFO')
    for folder in set(prefix.values()):
        about = [text for text in told if text.startswith(f'{tmp_path / folder}: ')]
        unread = [int(re.search(r': (\d+) ', text).group(1)) for text in about if 'not read' in text]
        unused = [int(re.search(r': (\d+) ', text).group(1)) for text in about if 'not used' in text]
        assert sum(unread) == strange[folder]
        assert sum(unused) == sum(number for role, number in lonely.items() if prefix[role] == folder)
    left = [text for text in told if 'are in no line of' in text]
    assert len(left) == (len(listed) < 8)


def test_names_that_contradict_each_other_are_refused(tmp_path):
    make_set(tmp_path, PairSegDataset, ['a'])
    for names, message in (
        ({'img_path': '*/*'}, r"as many \* for every role.*'img_path': '\*/\*', 'ir_path': '\*'"),
        (
            {'imgpath': '*'},
            r"names has the unknown key 'imgpath', which nothing reads: known are .* \(did you mean img_path\?\)",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            open_set(PairSegDataset, tmp_path, names=names)
    one = {'img_path': 'Visible', 'ir_path': 'Visible'}
    with pytest.raises(ValueError, match=r'one folder for two things.*names=dict\('):
        open_set(PairSegDataset, tmp_path, data_prefix=one)
    with pytest.raises(FileNotFoundError, match=r'Visible holds no a_IR \(\.png, .*: the infrared partner of .*a\.png'):
        open_set(PairSegDataset, tmp_path, data_prefix=one, names={'ir_path': '*_IR'})
    with pytest.raises(FileNotFoundError, match=r'Label holds no a_GT \(\.png\): the label of .*Visible/a\.png'):
        open_set(PairSegDataset, tmp_path, names={'seg_map_path': '*_GT.png'})


def test_annotations_of_other_splits_in_one_folder_are_as_it_should_be(tmp_path, said):
    make_set(tmp_path, PairVOCDataset, ['a'])
    (tmp_path / 'Annotations' / 'b.xml').write_text(XML.format(OBJECT.format('Car', 2, 3, 9, 9)))
    assert len(paths_of(open_set(PairVOCDataset, tmp_path))) == 1
    assert any('Annotations: 1 file (b.xml) not used' in text for text in said('INFO'))
    assert not any('not used' in text for text in said('WARNING'))
