"""Classes of models and data sets are held against each other, before anything is trained."""

import re

import pytest
from helpers import build_model, tiny_fcos, tiny_segformer
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from paif_mm import checks
from paif_mm.checks import ClassCountError, SettingError, check_class_count, check_same_classes, check_settings

NINE = {'classes': tuple('abcdefghi')}


def head(count=None, **attributes) -> nn.Module:
    made = nn.Module()
    for name, value in {'num_classes': count, **attributes}.items():
        setattr(made, name, value)
    return made


def model(**parts) -> nn.Module:
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, nn.ModuleList(part) if isinstance(part, list) else part)
    return made


def test_the_key_both_numbers_and_the_mend_are_named():
    with pytest.raises(ValueError, match='classes') as caught:
        check_class_count(build_model(tiny_segformer()), {'classes': ('road', 'car')})
    assert str(caught.value) == (
        'model.decode_head.num_classes is 9, but the data set has 2 classes (road, car): set '
        'model.decode_head.num_classes=2, or metainfo.classes of the data sets'
    )


WRONG = {
    'model.auxiliary_head[1].num_classes is 12': model(decode_head=head(9), auxiliary_head=[head(9), head(12)]),
    'model.decode_head[1].num_classes is 5': model(decode_head=[head(9), head(5)]),
    'model.auxiliary_head.num_classes is 1': model(decode_head=head(9), auxiliary_head=head(1)),
    'model.bbox_head.num_classes is 80': model(bbox_head=head(80)),
    'model.roi_head.bbox_head[2].num_classes is 8': model(
        roi_head=model(bbox_head=[head(9), head(9), head(8)], mask_head=head(9))
    ),
    'model.roi_head.mask_head.num_classes is 80': model(roi_head=model(bbox_head=head(9), mask_head=head(80))),
    'model.panoptic_head.num_things_classes + num_stuff_classes is 133': model(
        panoptic_head=head(None, num_things_classes=80, num_stuff_classes=53)
    ),
    'model.head.num_classes is 1000': model(head=head(1000)),
    'model.student.bbox_head.num_classes is 7': model(student=model(bbox_head=head(7))),
}


@pytest.mark.parametrize('said', WRONG)
def test_every_head_is_checked(said):
    with pytest.raises(ClassCountError, match=re.escape(said)):
        check_class_count(WRONG[said], NINE)


PANOPTIC = {'classes': tuple(range(9)), 'thing_classes': tuple(range(5)), 'stuff_classes': tuple(range(4))}
RIGHT = {
    'segmentor': (model(decode_head=head(9), auxiliary_head=[head(9)]), NINE),
    'two classes in one logit': (model(decode_head=head(2, out_channels=1)), {'classes': ('no', 'yes')}),
    'one class in one logit': (model(decode_head=head(1, out_channels=1)), {'classes': ('no', 'yes')}),
    'objectness': (model(rpn_head=model(bbox_head=head(1)), roi_head=model(bbox_head=head(9))), NINE),
    'masks of any class': (model(roi_head=model(bbox_head=head(9), mask_head=head(80, class_agnostic=True))), NINE),
    'edges': (model(decode_head=head(9), auxiliary_head=[head(9), head(2, boundary_threshold=0.1)]), NINE),
    'things and stuff': (model(panoptic_head=head(None, num_things_classes=5, num_stuff_classes=4)), PANOPTIC),
    'boxes of things': (model(roi_head=model(bbox_head=head(5))), PANOPTIC),
    'identities': (model(detector=model(bbox_head=head(9)), reid=model(head=head(380))), NINE),
    'words': (model(language_model=nn.Identity(), bbox_head=head(256)), NINE),
    'several tasks': (model(head=model(task_heads=nn.ModuleDict({'head': head(3)}))), NINE),
    'no classes': (model(decode_head=head(5)), {}),
    'no names': (model(head=head(5)), {'classes': None}),
}


@pytest.mark.parametrize('case', RIGHT)
def test_what_is_right_is_not_refused(case):
    check_class_count(*RIGHT[case])


def test_real_detectors_classifiers_and_augmented_models_pass():
    check_class_count(build_model(tiny_fcos(classes=3)), {'classes': ('a', 'b', 'c')})
    init_default_scope('mmseg')
    augmented = MODELS.build({'type': 'SegTTAModel', 'module': tiny_segformer()})
    check_class_count(augmented, NINE)
    with pytest.raises(ClassCountError, match='model.decode_head.num_classes is 9'):
        check_class_count(augmented, {'classes': ('a',)})


def test_data_sets_must_agree():
    check_same_classes({'train': NINE, 'val': {'classes': list('abcdefghi')}, 'test': {}})
    with pytest.raises(ClassCountError, match=r'the classes of val_dataloader.dataset \(b, a\) are not those of train'):
        check_same_classes({'train': {'classes': ('a', 'b')}, 'val': {'classes': ('b', 'a')}})


def test_synchronised_batch_norms_are_those_that_there_are(monkeypatch):
    check_settings({'sync_bn': 'torch'})
    check_settings({'sync_bn': None})
    with pytest.raises(SettingError, match="^sync_bn: there is no 'toch': did you mean torch\\?"):
        check_settings({'sync_bn': 'toch'})
    with pytest.raises(SettingError, match='^sync_bn: there is no True: '):
        check_settings({'sync_bn': True})
    monkeypatch.setattr(checks, 'has_compiled_ops', lambda: False)
    with pytest.raises(SettingError, match="^sync_bn='mmcv' needs .*: set sync_bn='torch'$"):
        check_settings({'sync_bn': 'mmcv'})
    monkeypatch.setattr(checks, 'has_compiled_ops', lambda: True)
    check_settings({'sync_bn': 'mmcv'})
