"""Attackers who know the defence, and smallest radii, as users of the tools ask for them."""

import json
import sys

import pytest
import torch
from test_attacks.test_adaptive import Files
from test_tools import commands
from test_tools.test_robustness import call, load_tool, untrained
from torch import nn

from paif_mm.robustness import cases

FUSION, HEAD = 'data_preprocessor.fusion', 'decode_head'
FAST = [
    '--suite',
    'paper',
    '--eps',
    '4/255',
    '--limit',
    '2',
    '--bootstrap',
    '20',
    '--strips',
    '0',
    '--diagnostics',
    '0',
]


@pytest.fixture(scope='module')
def fused(tmp_path_factory, synthetic_root):
    folder = tmp_path_factory.mktemp('fused')
    return untrained(commands.config_file(folder, synthetic_root, 'general'), folder)


def report(out) -> dict:
    return json.loads((out / 'report.json').read_text())


def pgd5(found: dict) -> dict:
    return next(row for row in found['rows'] if row['name'] == 'pgd5')


def test_flags_and_config_say_the_same(fused, tmp_path, monkeypatch):
    expected = {'eot_samples': 2, 'bpda': {HEAD: 'torch.nn.functional.relu'}}
    surrogate = 'paif_mm.robustness.evaluate.evenly'  # anything that can be imported
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'a', *FAST, '--eot-samples', 2)
    assert pgd5(report(tmp_path / 'a'))['attack']['eot_samples'] == 2
    assert pgd5(report(tmp_path / 'a'))['passes'] == pytest.approx(2 * 5.7)
    assert report(tmp_path / 'a')['settings']['adaptive'] == {'eot_samples': 2}
    assert "'eot_samples': 2" in (tmp_path / 'a' / 'report.md').read_text()
    with pytest.raises(SystemExit, match=r'--bpda decode_head: write MODULE=SURROGATE, e.g. decode_head=identity'):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'b', *FAST, '--bpda', HEAD)
    with pytest.raises(SystemExit, match="no module 'decode_haed'; the nearest name is 'decode_head'"):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'b', *FAST, '--bpda', f'decode_haed={surrogate}')
    with pytest.raises(SystemExit, match="adaptive has no setting 'eott'"):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'b', *FAST, '--cfg-options', 'adaptive.eott=2')
    tool = load_tool('robustness')
    monkeypatch.setattr(sys, 'argv', ['robustness'])
    args = tool.parse_args(
        [*map(str, fused), '--out', 'x', '--eot-samples', '2', '--bpda', f'{HEAD}=torch.nn.functional.relu']
    )
    config = tool.read_config(str(fused[0]))
    model, _ = tool.load_model(config, str(fused[1]))
    assert tool.adaptive_settings(args, config, model) == expected
    options = {'adaptive.eot_samples': 2, f'adaptive.bpda.{HEAD}': 'torch.nn.functional.relu'}
    config = tool.read_config(str(fused[0]), options)
    assert tool.adaptive_settings(tool.parse_args([*map(str, fused), '--out', 'x']), config, model) == expected


def test_a_substituted_module_changes_what_gradients_find(fused, tmp_path, monkeypatch, capsys):
    """The identity in the place of a fusion network gives another gradient: that of the infrared image alone."""
    options = ['--cfg-options', f'adaptive.bpda.{FUSION}=identity']
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'plain', *FAST)
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'bpda', *FAST, *options)
    assert 'warning: ' not in capsys.readouterr().err, 'the option is read'
    plain, other = (report(tmp_path / name) for name in ('plain', 'bpda'))
    assert plain['rows'][0]['figures'] == other['rows'][0]['figures'], 'predictions are those of the model itself'
    assert pgd5(other)['attack']['bpda'] == {'data_preprocessor': {'fusion': 'identity'}}
    assert pgd5(plain)['loss'] != pgd5(other)['loss']


#: Tools that attack, with few images and steps.
ATTACKING = {
    'robustness': ['robustness', '--out', '{out}', *FAST],
    'test': ['test', '--attack', 'fgsm_eps4', '--work-dir', '{out}'],
    'targeted': ['targeted', '--out', '{out}', '--limit', '1', '--steps', '1'],
    'patch': ['learn_patch', '--out', '{out}', '--steps', '1', '--size', '8', '--split', 'test'],
    'universal': ['learn_patch', '--out', '{out}', '--steps', '1', '--universal', '4/255', '--split', 'test'],
    'bank': ['craft_attacks', '{out}/bank', '--num', '1', '--steps', '1', '--levels', 'small=1/255'],
}


@pytest.mark.parametrize('name', ATTACKING)
def test_every_tool_that_attacks_takes_the_defence_from_the_config(fused, tmp_path, monkeypatch, name):
    """Known by what an attack says of a surrogate that has no effect: the module only holds others."""
    (tool, *flags), (config, weights) = ATTACKING[name], fused
    knowing = tmp_path / 'knowing.py'
    knowing.write_text(f"_base_ = '{config}'\nadaptive = dict(bpda={{'{HEAD}.convs': 'identity'}})\n")
    with pytest.raises(SystemExit, match=r'bpda of decode_head.convs has no effect: .* that ModuleList'):
        call(monkeypatch, tool, knowing, weights, *(flag.format(out=tmp_path / 'out') for flag in flags))


class FusedByFiles(nn.Module):
    """The average of a pair that went by way of numpy: no gradient passes ``f``."""

    def __init__(self):
        super().__init__()
        self.f = Files()

    def forward(self, ir, vis):
        return self.f(255 * (ir + vis) / 2) / 255


def test_the_diagnostics_know_what_the_attacks_know(fused, tmp_path, monkeypatch):
    """Without it they stop where a module leaves the graph; with it they say of the surrogate what they say of any."""
    planted = tmp_path / 'planted.py'
    planted.write_text(
        f"_base_ = '{fused[0]}'\n"
        "model = dict(data_preprocessor=dict(fusion=dict(_delete_=True, type='test_tools.test_adaptive.FusedByFiles')))"
    )
    model = untrained(planted, tmp_path)
    weights = torch.load(model[1], weights_only=True)['state_dict']
    weights['decode_head.conv_seg.weight'] *= 100  # else an untrained prediction is one class
    torch.save({'state_dict': weights}, model[1])
    args = ['--bpda', f'{FUSION}.f=identity', '--diagnostics', '1', '--limit', '1', '--steps', '3', '--queries', '5']
    call(monkeypatch, 'robustness', *model, '--out', tmp_path / 'a', *FAST, *args)
    found = {one['check']: one for one in report(tmp_path / 'a')['masking']['findings']}
    for check in ('input gradients', 'gradient direction', 'loss against steps', 'repeatability', 'state and modes'):
        assert found[check]['verdict'] in ('passed', 'suspect'), found[check]
    assert found['input gradients']['figures']['dead_images'] == 0
    assert found['loss against steps']['figures']['loss'][-1] > found['loss against steps']['figures']['loss'][0]


def test_tests_are_adapted_by_the_config(fused, tmp_path, monkeypatch):
    options = ['--cfg-options', 'adaptive.eot_samples=2', f'adaptive.bpda.{FUSION}=identity']
    call(monkeypatch, 'test', *fused, '--attack', 'pgd5_eps4', '--work-dir', tmp_path, *options)
    found = commands.latest_results(tmp_path)
    assert found['pgd5_eps4']['attack']['eot_samples'] == 2
    assert found['pgd5_eps4']['attack']['bpda'] == {'data_preprocessor': {'fusion': 'identity'}}
    assert found['pgd5_eps4']['audit']['model_unchanged']


def test_values_that_are_none_end_in_one_line(fused, tmp_path, monkeypatch):
    for option, message in (
        ('adaptive.bpda=identity', "bpda must name modules .* not 'identity'"),
        ('adaptive.eot_samples=two', "eot_samples must be a whole number from 1, not 'two'"),
        ('adaptive=identity', "adaptive must be a dict, .* not 'identity'"),
    ):
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, 'robustness', *fused, '--out', tmp_path, *FAST, '--cfg-options', option)
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, 'test', *fused, '--attack', 'fgsm_eps4', '--work-dir', tmp_path, '--cfg-options', option)


def test_functions_in_a_config_are_asked_for_by_name(fused, tmp_path, monkeypatch):
    path = tmp_path / 'mine.py'
    path.write_text("attack = dict(type='PGD', eps=4 / 255, bpda={'decode_head': lambda x: x})\n")
    with pytest.raises(SystemExit, match=r"holds an object, .* name a function as 'package.module.function'"):
        call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'a', *FAST, '--attack', path)


def test_smallest_radii_are_part_of_the_report(fused, tmp_path, monkeypatch):
    asked = ['--smallest-radius', 'linf', 'l2', '--steps', '4']
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'a', *FAST, *asked)
    found = report(tmp_path / 'a')
    assert [one['key'] for one in found['smallest_radius']] == [
        'alma90_linf',
        'alma99_linf',
        'alma90_l2',
        'alma99_l2',
    ]
    assert all(len(one['radius']) == 2 for one in found['smallest_radius'])
    assert 'smallest radius against the suite' in {f['check'] for f in found['masking']['findings']}
    page = (tmp_path / 'a' / 'report.html').read_text()
    assert '<h2>Smallest radius</h2>' in page
    assert '90 % of the pixels wrong' in page
    text = (tmp_path / 'a' / 'report.md').read_text()
    assert '| 90 % wrong, L-inf, /255 |' in text
    assert 'Smallest radii promise none: what they found is not in the worst case' in text


def test_the_baselines_are_part_of_the_report_where_asked_for(fused, tmp_path, monkeypatch):
    """DAG knows no L2. What each found is an upper limit of its own row; the check looks at all of them."""
    asked = ['--smallest-radius', 'linf', 'l2', '--smallest-radius-by', 'alma', 'pdpgd', 'dag', '--steps', '2']
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'a', *FAST, '--limit', '1', *asked)
    found = report(tmp_path / 'a')
    assert [one['key'] for one in found['smallest_radius']] == [
        f'{name}{share}_{norm}'
        for name, norms in (('alma', ('linf', 'l2')), ('pdpgd', ('linf', 'l2')), ('dag', ('linf',)))
        for norm in norms
        for share in (90, 99)
    ]
    assert found['settings']['smallest_radius_by'] == ['alma', 'pdpgd', 'dag']
    text = (tmp_path / 'a' / 'report.md').read_text()
    for row in (
        '| 90 % wrong, L-inf, /255 |',
        '| 99 % wrong, L2, [0, 1] units, PDPGD |',
        '| 90 % wrong, L-inf, /255, DAG |',
    ):
        assert row in text
    for flags, message in (
        (['--smallest-radius-by', 'dag'], '--smallest-radius-by says how, but not that'),
        (['--smallest-radius', 'l2', '--smallest-radius-by', 'dag'], '--smallest-radius-by dag knows L-inf alone'),
    ):
        with pytest.raises(SystemExit, match=message):
            call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'b', *FAST, *flags)


def test_the_report_says_where_an_image_falls_below_what_the_worst_case_claims(fused, tmp_path, monkeypatch):
    """Every pixel is called the first class, by little, and so surely that the softmax is saturated: PGD-5 on the
    cross-entropy finds nothing, and the suite claims that pixels survive which ALMA prox, on margins, makes wrong."""
    weights = torch.load(fused[1], weights_only=True)['state_dict']
    weights['decode_head.conv_seg.bias'][0] += 0.2
    for name in ('weight', 'bias'):
        weights[f'decode_head.conv_seg.{name}'] *= 1e5
    torch.save({'state_dict': weights}, tmp_path / 'model.pth')
    flags = ['--limit', '1', '--smallest-radius', 'linf', '--steps', '40', '--eps', '64/255']
    call(monkeypatch, 'robustness', fused[0], tmp_path / 'model.pth', '--out', tmp_path / 'a', *FAST, *flags)
    found = report(tmp_path / 'a')
    assert 0 < found['smallest_radius'][0]['radius'][0] < 64 / 255
    check = next(one for one in found['masking']['findings'] if one['check'] == 'smallest radius against the suite')
    assert check['verdict'] == 'suspect'
    assert check['figures']['missed']['64/255']
    assert 'claims that more is left: at 64/255 1 images' in (tmp_path / 'a' / 'report.md').read_text()


@pytest.mark.parametrize('more', [['--suite', 'trouble'], ['--suite', 'paper', '--modality', 'ir']], ids=str)
def test_radii_alone_pass_no_verdict_on_gradients(fused, tmp_path, monkeypatch, more):
    monkeypatch.setattr(cases, 'corruption_names', lambda *args: ['missing_infrared'])
    args = ['--limit', '1', '--smallest-radius', 'linf', '--steps', '2', *more]
    call(monkeypatch, 'robustness', *fused, '--out', tmp_path / 'a', *FAST, *args)
    found = report(tmp_path / 'a')
    ir = 'ir' in more
    assert found['masking']['verdict'] in (('not run', 'suspect') if ir else ('not run',)), 'never passed'
    assert 'Gradient masking: passed' not in (tmp_path / 'a' / 'report.md').read_text()
    assert [one['threat'] for one in found['smallest_radius']] == [('ir' if ir else 'both')] * 2
    if ir:
        alma = [row for row in found['rows'] if row['kind'] == 'minimum']
        assert [row['audit']['max_delta_255']['vis'] for row in alma] == [0.0, 0.0]


def test_alma_is_an_attack_of_the_test_tool(fused, tmp_path, monkeypatch):
    path = tmp_path / 'alma.py'
    path.write_text("attack = dict(type='ALMAProx', share=0.5, steps=3)\n")
    call(monkeypatch, 'test', *fused, '--attack', path, '--work-dir', tmp_path / 'w')
    assert commands.latest_results(tmp_path / 'w')['alma']['audit']['images'] == 4
