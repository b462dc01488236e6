"""Every argument that a data set's base classes take is used, or refused by its name."""

import inspect

import pytest
from mmengine.registry import init_default_scope
from test_data.pairs import FOLDERS, LAYOUTS, make_set, open_set, paths_of

from paif_mm.data import M3FDDataset, MFNetDataset, MSRSDataset, PairCocoDataset, PairSegDataset, PairVOCDataset

KINDS = [*LAYOUTS, PairCocoDataset]
SEG = (MFNetDataset, MSRSDataset, PairSegDataset)
VOC = (M3FDDataset, PairVOCDataset)
IDS = ['00001D', '00002N', '00003D']


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


#: What is not used by a class: its value in the test. Everything else of the signatures must be in USED.
REFUSED = {
    **dict.fromkeys(SEG, {'img_suffix': '.jpg', 'seg_map_suffix': '.jpg', 'filter_cfg': {'min_size': 9}}),
    **dict.fromkeys(
        VOC,
        {
            'img_subdir': 'Vis',
            'ann_subdir': 'Annotation',
            'seg_map_suffix': '.jpg',
            'return_classes': True,
            'caption_prompt': {'Car': {}},
        },
    ),
    PairCocoDataset: {'seg_map_suffix': '.jpg'},
}
for kind_of_seg in SEG:  # values that would not be what they say
    REFUSED[kind_of_seg] = {**REFUSED[kind_of_seg], 'ignore_index': 254, 'reduce_zero_label': True}
REFUSED_BY_MMDET = {'file_client_args'}


def signature(kind: type) -> set[str]:
    names = set()
    for base in kind.__mro__:
        if '__init__' in vars(base):
            names |= {
                name for name, entry in inspect.signature(base.__init__).parameters.items() if entry.kind in (1, 3)
            }
    return names - {'self'}


def is_named(data) -> bool:
    return data.metainfo['classes'] == tuple('abcdefghi')


def used(root, kind: type) -> dict:
    """How to see that an argument is used: name -> (value, what must hold of the data set)."""
    (root / 'one.txt').write_text('00002N')
    moved = {
        PairCocoDataset: {'img': 'moved', 'ir': 'thermal'},
    }.get(kind, {'img_path': 'moved'})
    (root / 'moved').symlink_to(root / FOLDERS[kind]['img_path'])
    classes = ('person',) if kind is PairCocoDataset else ('Car',) if kind in VOC else ('car', 'person')
    named = dict.fromkeys(FOLDERS[kind], 'none_*')
    common = {
        'ann_file': ('one.txt', lambda data: len(data) == 1),
        'data_root': (str(root), lambda data: len(data) == 3),
        'data_prefix': (moved, lambda data: all('/moved/' in paths['img_path'] for paths in paths_of(data))),
        'metainfo': ({'classes': classes}, lambda data: data.metainfo['classes'] == classes),
        'indices': ([2, 0], lambda data: [paths['img_path'][-10:-4] for paths in paths_of(data)] == [IDS[2], IDS[0]]),
        'serialize_data': (True, lambda data: len(data.data_address) == 3),
        'pipeline': ([lambda info: info['img_path']], lambda data: data[0].endswith('00001D.png')),
        'test_mode': (True, lambda data: data.test_mode),
        'lazy_init': (True, lambda data: not data._fully_initialized and len(data) == 3),
        'max_refetch': (7, lambda data: data.max_refetch == 7),
        'backend_args': ({'backend': 'local'}, lambda data: len(data) == 3 and data.backend_args),
    }
    if kind in SEG:
        return {
            **common,
            'names': (named, ValueError),
            'lighting': ('night', lambda data: len(data) == 1),
            'label_classes': (tuple('abcdefghi'), is_named),
        }
    boxes = {
        'clip_boxes': (True, lambda data: data.clip_boxes),
        'filter_cfg': ({'min_size': 13}, ValueError),
        'proposal_file': ('none.pkl', FileNotFoundError),
    }
    if kind in VOC:
        boxes = {**boxes, 'others': ({'Dog': 'Cat'}, ValueError), 'names': (named, ValueError)}
        boxes |= {'aliases': ({'Dog': 'Cat'}, ValueError), 'border': (100, ValueError)}
        return {**common, **boxes}
    return {
        **common,
        **boxes,
        'ann_file': ('nowhere.json', FileNotFoundError),
        'ir_name': (('00', '99'), FileNotFoundError),
        'return_classes': (True, lambda data: data.get_data_info(0)['text'] == ('person', 'bicycle', 'car')),
        'caption_prompt': (None, lambda data: data.caption_prompt is None),  # handed on with return_classes
    }


def test_arguments_are_used_or_refused_by_name(tmp_path, kind):
    make_set(tmp_path, kind, IDS)
    table, refused = used(tmp_path, kind), REFUSED[kind]
    assert signature(kind) == {*table, *refused} | (REFUSED_BY_MMDET if kind not in SEG else set())
    for name, (value, holds) in table.items():
        if isinstance(holds, type):
            with pytest.raises(holds):
                open_set(kind, tmp_path, **{name: value})
        else:
            assert holds(open_set(kind, tmp_path, **{name: value})), name
    for name, value in refused.items():
        with pytest.raises(ValueError, match=name) as caught:
            open_set(kind, tmp_path, **{name: value})
        assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('argument', 'value'),
    [
        ('data_prefix', {'img_pth': 'vi', 'img': 'rgb', 'ir': 'thermal'}),
        ('metainfo', {'CLASSES': ('car',)}),
        ('metainfo', {'classes': ('car', 'car')}),
        ('metainfo', {'classes': 'car'}),
        ('metainfo', {'classes': {'car': 3}}),
        ('metainfo', {'classes': ('car', 'Persn')}),
        ('metainfo', {'classes': ('Car', 'persn')}),
        ('filter_cfg', {'filter_empty': True}),
        ('colour', 3),
    ],
    ids=str,
)
def test_misspelt_keys_and_classes_are_named(tmp_path, said, kind, argument, value):
    make_set(tmp_path, kind, IDS)
    words = {'img_pth', 'CLASSES', 'car', 'Persn', 'persn', 'filter_empty', 'colour', 'filter_cfg'}
    try:
        open_set(kind, tmp_path, **{argument: value})
    except (ValueError, TypeError, FileNotFoundError) as error:
        assert any(word in str(error) for word in words)
    else:  # VOC has no list of categories: what has no box is told; other segmentation classes are the user's own
        assert (kind in VOC and any('no box of' in text for text in said('WARNING'))) or (
            kind in SEG and value['classes'] == ('Car', 'persn')
        )


@pytest.mark.parametrize('indices', [4, -4, [0, 3], [-4]], ids=str)
def test_indices_beyond_the_samples_are_refused(tmp_path, kind, indices):
    make_set(tmp_path, kind, IDS)
    with pytest.raises(ValueError, match=r'indices=.* go beyond the 3 samples of'):
        open_set(kind, tmp_path, indices=indices)
    assert len(open_set(kind, tmp_path, indices=3)) == len(open_set(kind, tmp_path, indices=[2, 2, -3])) == 3


def test_filters_in_test_mode_are_refused(tmp_path):
    for kind in (*VOC, PairCocoDataset):
        make_set(tmp_path, kind, IDS)
        with pytest.raises(ValueError, match='filter_cfg=.* has no effect with test_mode=True'):
            open_set(kind, tmp_path, filter_cfg={'min_size': 5}, test_mode=True)


def test_a_file_of_class_names_is_read(tmp_path):
    make_set(tmp_path, MSRSDataset, IDS)
    (tmp_path / 'classes.txt').write_bytes('road\r\n\r\nsky\r\n'.encode('utf-8-sig'))
    data = open_set(MSRSDataset, tmp_path, metainfo={'classes': str(tmp_path / 'classes.txt')})
    assert data.metainfo['classes'] == ('road', 'sky')
    assert len(data.metainfo['palette']) == data.get_data_info(0)['num_labels'] == 2
    assert data.get_data_info(0)['label_map'] is None
