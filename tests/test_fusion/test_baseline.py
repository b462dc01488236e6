"""The plain network of the robustness analysis, and its rules."""

import pytest
import torch
from torch.nn.functional import conv2d

from paif_mm.fusion import RULES, FusionBaseline
from paif_mm.registry import OPERATIONS

RULE_NAMES = ['MAX', 'WA', 'AA', 'SUM', 'CC', 'DC']


def features(seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 3, 4, 5, 6, dtype=torch.float64).unbind(0)


def test_rules_equal_their_formulas():
    ir, vis = features()
    assert torch.equal(RULES['MAX'](4)(ir, vis), torch.where(ir > vis, ir, vis))
    torch.testing.assert_close(RULES['WA'](4)(ir, vis), 0.5 * ir + 0.5 * vis)
    torch.testing.assert_close(RULES['SUM'](4)(ir, vis), ir + vis)
    rule = RULES['CC'](4).double()
    assert torch.equal(rule(ir, vis), conv2d(torch.cat([ir, vis], 1), rule.conv.weight))
    rule = RULES['AA'](4).double()
    rule.conv.weight.data.zero_()
    torch.testing.assert_close(rule(ir, vis), (ir + vis) / 2)


@pytest.mark.parametrize('rule', RULE_NAMES)
@pytest.mark.parametrize('size', [(1, 1), (9, 14)], ids=str)
def test_every_rule_fuses_any_size(rule, size):
    network = FusionBaseline(rule=rule, channels=4, depth=1).eval()
    assert network(*torch.rand(2, 3, 1, *size)).shape == (3, 1, *size)


@pytest.mark.parametrize('operation', sorted(OPERATIONS.module_dict))
def test_every_operation_makes_a_network_that_trains(operation):
    network = FusionBaseline(operation=operation, channels=4, depth=2)
    network(*torch.rand(2, 2, 1, 8, 9)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    operations = [*network.ir[2:], *network.vis[2:], *network.decoder]
    assert len(operations) == 6
    assert {type(op) for op in operations} == {type(OPERATIONS.build({'type': operation, 'channels': 4}))}


@pytest.mark.parametrize('rule', RULE_NAMES)
def test_both_modalities_matter_and_pairs_do_not_mix(rule):
    torch.manual_seed(0)
    network = FusionBaseline(rule=rule, channels=4, depth=1).double().eval()
    ir, vis = torch.rand(2, 2, 1, 8, 8, dtype=torch.float64)
    fused = network(ir, vis)
    assert not torch.equal(network(ir.flip(-1), vis), fused)
    assert not torch.equal(network(ir, vis.flip(-1)), fused)
    torch.testing.assert_close(network(ir[1:], vis[1:]), fused[1:])


@pytest.mark.parametrize(
    ('setting', 'message'),
    [
        ({'operation': '9-XX'}, "there is no operation '9-XX': .*3-DB"),
        ({'rule': 'MIN'}, "there is no rule 'MIN': .*CC"),
        ({'depth': 0}, 'depth must be at least 1'),
    ],
    ids=['operation', 'rule', 'depth'],
)
def test_bad_settings_are_named(setting, message):
    with pytest.raises(ValueError, match=message):
        FusionBaseline(**setting)
