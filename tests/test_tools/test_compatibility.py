"""The tool that tries every model family, on families of which each has something of its own."""

import json

import compatibility
import pytest
from test_tools.commands import run

FAMILIES = {
    'mmseg/ddrnet': 'two outputs in training',
    'mmseg/stdc': 'a loss of boundaries',
    'mmpretrain/mobilenet_v2': 'a classifier',
    'mmpretrain/simclr': 'nothing to attack',
}
LARGE = {
    'mmseg/pidnet': 'an edge loss',
    'mmseg/knet': 'kernels instead of logits',
    'mmseg/encnet': 'a loss of classes in the image',
    'mmseg/psanet': 'an operator of ours',
    'mmdet/fcos': 'boxes',
    'mmdet/faster_rcnn': 'proposals',
    'mmdet/dynamic_rcnn': 'thresholds that training moves',
    'mmdet/deformable_detr': 'no loss in evaluation mode',
    'mmdet/dino': 'queries made of noise',
    'mmdet/carafe': 'an operator of ours',
    'mmdet/dcnv2': 'an operator of torchvision',
    'mmdet/guided_anchoring': 'both',
}


def tried(families, tmp_path) -> dict:
    args = [
        '--families',
        *families,
        '--out',
        str(tmp_path / 'page.md'),
        '--log',
        str(tmp_path / 'log'),
        '--limit',
        '600',
    ]
    print(run('compatibility.py', *args).stdout)  # a process of its own: it forks, which autograd's threads forbid
    log = tmp_path / 'log'
    print(log.read_text() if log.is_file() else '')
    return json.loads((tmp_path / 'page.json').read_text())['families']


def require_all_pass(result: dict) -> None:
    """Every stage, and that the attacks did what they say."""
    stages = dict(result['stages'])
    if stages['robustness'].startswith('not applicable'):
        del stages['robustness']
    assert set(stages.values()) == {'yes'}, result
    for stage in ('attacked train', 'attacked test'):
        assert 0 < result['figures'][stage]['max_delta_255'] <= 8 + 1e-3
    assert result['figures']['attacked test']['loss_after'] != result['figures']['attacked test']['loss_before']


@pytest.mark.slow
def test_families_are_trained_attacked_and_told_of(tmp_path, capsys):
    results = tried(FAMILIES, tmp_path)
    for family in list(FAMILIES)[:-1]:
        require_all_pass(results[family])
    assert results['mmpretrain/simclr']['config'] is not None or 'not applicable' in str(results['mmpretrain/simclr'])
    page = (tmp_path / 'page.md').read_text()
    assert all(f'| {family.partition("/")[2]} |' in page for family in FAMILIES)
    assert '4/4' in capsys.readouterr().out
    run('compatibility.py', '--families', 'mmseg/ddrnet', '--out', tmp_path / 'page.md')
    assert (tmp_path / 'page.md').read_text() == page, 'what is known is not tried again'


@pytest.mark.slow
@pytest.mark.parametrize('family', LARGE)
def test_a_family_with_something_of_its_own_is_attacked(family, tmp_path):
    require_all_pass(tried([family], tmp_path)[family])


def test_a_family_that_does_not_exist_is_named():
    with pytest.raises(SystemExit, match='mmdet has no family fcoss; it has .*fcos'):
        compatibility.named_families('mmdet/fcoss')


def test_an_operator_that_is_missing_is_named_in_the_table():
    error = NotImplementedError('mmcv operator "roi_pool_forward" is compiled code, and this mmcv has none')
    assert compatibility._note(None, 'here', error) == 'needs the compiled operator roi_pool_forward'


def test_a_process_that_takes_too_long_or_dies_is_told_of(monkeypatch):
    import os
    import time

    monkeypatch.setattr(
        compatibility, 'try_family', lambda family, log: time.sleep(60) if family == 'slow' else os._exit(3)
    )
    results = {line['family']: line for line in compatibility.in_processes(['slow', 'dead'], 2, 2, 4, None)}
    assert results['slow']['stages'] == {'train': 'took more than 2 s'}
    assert 'killed' in results['dead']['stages']['train']
