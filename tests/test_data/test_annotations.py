"""Annotations are held against themselves and their image; what is missing is made up where certain, or named."""

import copy
import json
import math

import numpy as np
import pytest
from mmengine.registry import init_default_scope
from test_data.pairs import OBJECT, XML, coco_of, make_set, open_set, write_coco

from paif_mm.data import M3FDDataset, PairCocoDataset, PairVOCDataset

LOAD = [{'type': 'paif_mm.LoadPairFromFile'}]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmdet')


@pytest.fixture
def coco(tmp_path):
    """Opens a set of one pair after a change to its annotations, and gives its boxes as x0, y0, x1, y1."""
    make_set(tmp_path, PairCocoDataset, ['a'])

    def read(change=lambda content: None, **kwargs):
        content = copy.deepcopy(coco_of(['a.png']))
        change(content)
        write_coco(tmp_path, content)
        dataset = open_set(PairCocoDataset, tmp_path, pipeline=LOAD, **kwargs)
        return [instance['bbox'] for instance in dataset.get_data_info(0)['instances']], dataset

    return read


@pytest.fixture
def voc(tmp_path):
    """As ``coco``, for the text of an XML file."""
    make_set(tmp_path, M3FDDataset, ['a'])

    def read(text: str | bytes, **kwargs):
        path = tmp_path / 'Annotation' / 'a.xml'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        dataset = open_set(M3FDDataset, tmp_path, pipeline=LOAD, **kwargs)
        return [instance['bbox'] for instance in dataset.get_data_info(0)['instances']], dataset

    return read


#: x0, y0, x1, y1 in an image of 16x12, and what is said of it.
WRONG_BOXES = {
    'no width': ((3, 4, 3, 9), 'no width or no height'),
    'no height': ((3, 4, 9, 4), 'no width or no height'),
    'corners exchanged': ((9, 4, 3, 9), 'corners exchanged'),
    'rows exchanged': ((3, 9, 9, 4), 'corners exchanged'),
    'nan': ((math.nan, 4, 9, 9), 'not four finite numbers'),
    'infinite': ((3, 4, math.inf, 9), 'not four finite numbers'),
    'to the right': ((3, 4, 18, 9), 'lies outside its image of 16x12'),
    'above': ((3, -3, 9, 9), 'lies outside its image of 16x12'),
    'beside, within a pixel': ((16, 4, 17, 9), 'lies outside its image of 16x12'),
}


@pytest.mark.parametrize('name', WRONG_BOXES)
def test_boxes_that_cannot_be_meant_are_refused_with_file_and_object(coco, voc, name):
    (x0, y0, x1, y1), message = WRONG_BOXES[name]
    with pytest.raises(ValueError, match=rf'boxes\.json: annotation 1 of a\.png: the box .*{message}') as caught:
        coco(lambda c: c['annotations'][0].update(bbox=[x0, y0, x1 - x0, y1 - y0]))
    assert '\n' not in str(caught.value)
    with pytest.raises(ValueError, match=rf'a\.xml: object 1 \(Car\): the box .*{message}'):
        voc(XML.format(OBJECT.format('Car', x0 + 1, y0 + 1, x1 + 1, y1 + 1)))


@pytest.mark.parametrize(('box', 'left'), [((3, -3, 20, 9), [[3, 0, 16, 9]]), ((18, 4, 20, 9), [])])
def test_clipping_keeps_what_is_inside_and_counts_what_is_not(coco, voc, said, box, left):
    x0, y0, x1, y1 = box
    assert coco(lambda c: c['annotations'][0].update(bbox=[x0, y0, x1 - x0, y1 - y0]), clip_boxes=True)[0] == left
    assert voc(XML.format(OBJECT.format('Car', x0 + 1, y0 + 1, x1 + 1, y1 + 1)), clip_boxes=True)[0] == left
    told = ['1 of 1 boxes left out: nothing of them is inside' in text for text in said('INFO')]
    assert told == ([] if left else [True, True])


BOX = [[2, 3, 9, 9]]


@pytest.mark.parametrize(
    'change',
    [
        lambda c: c['annotations'][0].pop('area'),
        lambda c: c['annotations'][0].update(area=None),
        lambda c: c['annotations'][0].pop('iscrowd'),
        lambda c: c['annotations'][0].pop('id'),
        lambda c: [c['images'][0].pop(key) for key in ('width', 'height')],
        lambda c: c['images'][0].update(width=None),
        lambda c: c['annotations'][0].update(iscrowd=True),
    ],
)
def test_what_is_certain_is_made_up(coco, change):
    boxes, dataset = coco(change)
    info = dataset.get_data_info(0)
    assert boxes == BOX
    assert (info['height'], info['width']) == (12, 16)
    assert dataset[0]['img'].shape == (12, 16, 4)


def test_ids_that_are_made_up_are_free_ones(coco, said):
    def change(content):
        first = content['annotations'][0]
        content['annotations'] = [
            {**first, 'id': 2},
            *({k: v for k, v in first.items() if k != 'id'} for _ in range(3)),
        ]

    assert len(coco(change)[0]) == 4
    assert any('id of 3 annotations completed here' in text for text in said('WARNING'))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c.pop('annotations'), 'has no list of annotations'),
        (lambda c: c.pop('categories'), 'has no list of categories'),
        (lambda c: c.update(images={}), 'has no list of images'),
        (lambda c: c.update(images=[]), 'has no pairs'),
        (lambda c: c['images'].append(c['images'][0]), 'image id is there more than once: 1'),
        (lambda c: c['images'].append({**c['images'][0], 'id': 2}), r'image file_name is there .*: a\.png'),
        (lambda c: c['images'][0].pop('file_name'), 'image 1 has no file_name'),
        (lambda c: c['images'][0].pop('id'), 'has no id'),
        (lambda c: c['images'][0].update(width='16'), "width '16', no positive whole number"),
        (lambda c: c['images'][0].update(height=0), 'height 0, no positive whole number'),
        (lambda c: c['annotations'].append(c['annotations'][0]), 'annotation id is there more than once: 1'),
        (lambda c: c['annotations'][0].pop('image_id'), 'annotation 1 has no image_id'),
        (lambda c: c['annotations'][0].update(image_id=[1]), 'annotation 1 has no image_id'),
        (lambda c: c['annotations'][0].pop('category_id'), 'unknown category None'),
        (lambda c: c['annotations'][0].update(category_id=[1]), r'unknown category \[1\]'),
        (lambda c: c['annotations'][0].update(bbox=None), 'has the bbox None: expected four numbers'),
        (lambda c: c['annotations'][0].update(bbox=[1, 2, 3]), 'expected four numbers'),
        (lambda c: c['annotations'][0].update(bbox=['1', '2', '3', '4']), 'expected four numbers'),
        (lambda c: c['annotations'][0].update(area=0), 'has the area 0: remove it'),
        (lambda c: c['annotations'][0].update(area='42'), "has the area '42'"),
        (lambda c: c['annotations'][0].update(area=math.nan), 'has the area nan'),
        (lambda c: c['annotations'][0].update(iscrowd='no'), "has iscrowd 'no': write 0 or 1"),
        (lambda c: c['categories'][0].pop('name'), 'needs an id, a whole number, and a name'),
        (lambda c: c['categories'][0].update(id='1'), 'needs an id, a whole number, and a name'),
        (lambda c: c['categories'][1].update(id=1), 'category id is there more than once: 1'),
        (lambda c: c['categories'][1].update(name='person'), 'category name is there more than once: person'),
        (lambda c: c['annotations'].append(None), 'has no list of annotations'),
    ],
)
def test_what_coco_files_lack_or_contradict_is_named(coco, change, message):
    with pytest.raises(ValueError, match=rf'boxes\.json.*{message}') as caught:
        coco(change)
    assert '\n' not in str(caught.value)


def test_a_file_without_annotations_is_a_test_set_in_test_mode(coco, said):
    boxes, dataset = coco(lambda c: c.pop('annotations'), test_mode=True)
    assert boxes == []
    assert dataset[0]['img'].shape == (12, 16, 4)
    assert any('has no annotations: taken as a test set' in text for text in said('INFO'))


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
def test_coco_and_voc_are_read_in_the_encodings_of_editors(coco, voc, tmp_path, encoding):
    _, dataset = coco()
    (tmp_path / 'boxes.json').write_bytes(json.dumps(coco_of(['a.png'])).encode(encoding))
    assert len(open_set(PairCocoDataset, tmp_path).get_data_info(0)['instances']) == 1
    (tmp_path / 'boxes.json').write_bytes(b'{"images": [')
    with pytest.raises(ValueError, match=r'boxes\.json cannot be read as JSON'):
        open_set(PairCocoDataset, tmp_path)
    if encoding != 'utf-32':  # which XML parsers do not know
        assert voc(XML.format(OBJECT.format('Car', 3, 4, 10, 10)).encode(encoding))[0] == BOX


ONE = OBJECT.format('Car', 3, 4, 10, 10)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('<annotation', 'cannot be read as a VOC annotation'),
        ('', 'cannot be read as a VOC annotation'),
        (f'<?xml version="1.0" encoding="gb2312"?>{XML.format(ONE)}', 'save it as XML in UTF-8'),
        (f'<?xml version="1.0" encoding="nonsense"?>{XML.format(ONE)}', 'save it as XML in UTF-8'),
        (XML.format(ONE.replace('<name>Car</name>', '')), r'object 1 \(without a name\) has no name'),
        (XML.format(ONE.replace('Car', '')), r'object 1 \(without a name\) has no name'),
        (XML.format(ONE.replace('bndbox', 'ellipse')), r'object 1 \(Car\) has no bndbox'),
        (XML.format(ONE.replace('bndbox', 'polygon')), r'object 1 \(Car\) has no x1'),
        (XML.format(ONE.replace('<ymin>4</ymin>', '')), 'has no ymin'),
        (XML.format(ONE.replace('<ymin>4', '<ymin>four')), "has ymin='four', no number"),
        (
            XML.format(ONE.replace('</name>', '</name><difficult>Unspecified</difficult>')),
            "'Unspecified': write 0 or 1",
        ),
        (XML.format(ONE).replace('<width>16</width>', ''), 'its size has no width'),
        (XML.format(ONE).replace('16', '0'), 'its size says 0x12 pixels'),
        (XML.format(ONE).replace('16', 'nan'), 'its size says nanx12 pixels'),
        (XML.format(ONE.replace('Car', 'Dog')), "names the class 'Dog': known are People"),
    ],
)
def test_what_voc_files_lack_or_contradict_is_named(voc, text, message):
    with pytest.raises(ValueError, match=rf'a\.xml.*{message}') as caught:
        voc(text)
    assert '\n' not in str(caught.value)


def test_voc_files_may_leave_out_the_size_and_mark_difficult_objects(voc):
    text = XML.format(ONE + ONE.replace('</name>', '</name><difficult> 1 </difficult>').replace('Car', ' Car '))
    boxes, dataset = voc(text.replace('<size><width>16</width><height>12</height></size>', ''))
    assert boxes == BOX * 2
    info = dataset.get_data_info(0)
    assert [instance['ignore_flag'] for instance in info['instances']] == [0, 1]
    assert (info['height'], info['width']) == (12, 16)
    small = voc(text, filter_cfg={'bbox_min_size': 7})[1].get_data_info(0)  # of 7 x 6
    assert [instance['ignore_flag'] for instance in small['instances']] == [1, 1]


def test_a_size_that_the_image_contradicts_is_refused_when_it_is_loaded(coco, voc):
    for dataset, source in (
        (coco(lambda c: c['images'][0].update(width=32, height=24))[1], r'boxes\.json'),
        (voc(XML.format('').replace('16', '32').replace('12', '24'))[1], r'a\.xml'),
    ):
        with pytest.raises(ValueError, match=rf'a\.png is 12x16 but .*{source} says 24x32 \(height x width\)'):
            dataset[0]
    for dataset in (coco()[1], voc(XML.format(''))[1]):
        assert dataset[0]['img'].shape == (12, 16, 4)


def test_an_image_without_annotated_size_must_be_readable(coco, tmp_path):
    (tmp_path / 'rgb' / 'a.png').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'rgb/a\.png cannot be read as an image'):
        coco(lambda c: c['images'][0].pop('width'))


@pytest.mark.parametrize('seed', range(5))
def test_no_sound_box_is_lost_or_moved(tmp_path, seed):
    """Random boxes inside their image come through both formats, in order and to the last digit."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform([0, 0], [8, 6], (20, 2))
    boxes = np.hstack([corners, corners + rng.uniform(1, [7, 5], (20, 2))])
    make_set(tmp_path, PairCocoDataset, ['a'])
    content = coco_of(['a.png'])
    content['annotations'] = [
        {'image_id': 1, 'category_id': 1, 'bbox': [x0, y0, x1 - x0, y1 - y0]} for x0, y0, x1, y1 in boxes.tolist()
    ]
    write_coco(tmp_path, content)
    make_set(tmp_path, M3FDDataset, ['a'])
    objects = ''.join(OBJECT.format('Bus', *box) for box in (boxes + 1).tolist())
    (tmp_path / 'Annotation' / 'a.xml').write_text(XML.format(objects))
    for kind in (PairCocoDataset, M3FDDataset):
        found = [instance['bbox'] for instance in open_set(kind, tmp_path).get_data_info(0)['instances']]
        assert np.allclose(found, boxes, atol=1e-9)


BBGT = '% bbGt version=3\n{}\n'


@pytest.fixture
def text(tmp_path):
    """As ``voc``, for annotations as text, of the classes Car and, ignored as cars, Vans; dogs are left out."""
    make_set(tmp_path, PairVOCDataset, ['a'])
    prefix = {'xml_path': None, 'txt_path': 'texts'}
    arguments = {'data_prefix': prefix, 'metainfo': {'classes': ('Car',)}, 'others': {'Van': 'Car', 'Dog': None}}

    def read(content: str, **kwargs):
        (tmp_path / 'texts').mkdir(exist_ok=True)
        (tmp_path / 'texts' / 'a.txt').write_text(content)
        dataset = open_set(PairVOCDataset, tmp_path, pipeline=LOAD, **{**arguments, **kwargs})
        return dataset.get_data_info(0)['instances']

    return read


def test_annotations_as_text_are_read(text, said):
    lines = 'Car 2 3 7 6 0 0 0 0 0 0 0\nCar 2 3 7 6\nCar 2 3 7 6 0 0 0 0 0 1 0\nVan 0 0 4 5\nDog 1 1 2 2'
    found = text(BBGT.format(lines))
    assert [instance['bbox'] for instance in found] == [*BOX, *BOX, *BOX, [0, 0, 4, 5]]
    assert [instance['ignore_flag'] for instance in found] == [0, 0, 1, 1]
    assert {instance['bbox_label'] for instance in found} == {0}
    assert any('1 of 5 boxes left out: Dog is not in metainfo.classes' in line for line in said('INFO'))
    assert any('1 of 5 boxes ignored: Van, as Car' in line for line in said('INFO'))
    assert text(BBGT.format('')) == []


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('Car 2 3 7', r"line 2 \(Car\) is 'Car 2 3 7': expected a name, then the numbers x, y, w and h"),
        ('Car 2 3 seven 6', r'line 2 \(Car\) is .*: expected a name'),
        ('Car 2 3 0 6', 'no width or no height'),
        ('Car 2 3 -4 6', 'corners exchanged'),
        ('Car 2 3 nan 6', 'not four finite numbers'),
        ('Car 2 3 70 6', 'lies outside its image of 16x12'),
        ('Car 2 3 7 6 0 0 0 0 0 2 0', 'has the ignore flag 2: write 0 or 1'),
        (
            'Cra 2 3 7 6',
            r"names the class 'Cra': known are Car, Van, Dog \(did you mean Car\?\); .*others=\{'Cra': None\}",
        ),
    ],
)
def test_what_texts_lack_or_contradict_is_named(text, line, message):
    with pytest.raises(ValueError, match=rf'texts/a\.txt.*{message}') as caught:
        text(BBGT.format(line))
    assert '\n' not in str(caught.value)


def test_texts_are_clipped_as_other_annotations(text, said):
    assert text(BBGT.format('Car 2 3 70 6\nCar 17 3 7 6'), clip_boxes=True)[0]['bbox'] == [2, 3, 16, 9]
    assert any('1 of 2 boxes left out: nothing of them is inside' in line for line in said('INFO'))


def test_xml_may_give_width_and_height_instead_of_a_corner(voc):
    box = '<x>2</x><y>3</y><w>7</w><h>6</h>'
    xml = f'<annotation><object><name>Car</name><bndbox>{box}</bndbox></object></annotation>'
    assert voc(xml)[0] == BOX
    with pytest.raises(ValueError, match=r'a\.xml: object 1 \(Car\) has no y'):
        voc(xml.replace('<y>3</y>', ''))


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'metainfo': None}, 'PairVOCDataset needs the names of its classes'),
        ({'others': {'Car': None}}, 'others names Car, which is one of metainfo.classes'),
        ({'others': {'Van': 'Caar'}}, r"others has 'Van': 'Caar', .*take None, or one of Car \(did you mean Car\?\)"),
        ({'data_prefix': {'xml_path': None, 'txt_path': None}}, 'must name one folder of annotations'),
        ({'data_prefix': {'txt_path': 'texts'}}, 'must name one folder of annotations'),
        ({'data_prefix': {'img_path': None}}, 'names no folder of visible images'),
    ],
    ids=str,
)
def test_arguments_that_cannot_be_meant_are_refused(text, arguments, message):
    with pytest.raises(ValueError, match=message):
        text(BBGT.format('Car 2 3 7 6'), **arguments)


def test_pairs_without_annotations_are_a_test_set(tmp_path, said):
    for kind, none in ((PairVOCDataset, {'xml_path': None}), (M3FDDataset, {'xml_path': None})):
        make_set(tmp_path, kind, ['a', 'b'])
        dataset = open_set(kind, tmp_path, data_prefix=none, test_mode=True, pipeline=LOAD)
        assert [dataset.get_data_info(i)['instances'] for i in range(len(dataset))] == [[], []]
        assert dataset[0]['img'].shape == (12, 16, 4)
    assert sum('has no annotations: taken as a test set' in text for text in said('INFO')) == 2
