"""Where processes of slurm meet, and the strides of what they share."""

import pytest
import torch
from torch import nn

from paif_mm.compat.distributed import PORTS, match_gradient_strides, name_meeting_point

STEP = {'SLURM_PROCID': '3', 'SLURM_NTASKS': '4', 'SLURM_LOCALID': '1', 'SLURM_JOB_ID': '4711'}


def meeting(**env) -> dict:
    name_meeting_point(env)
    return env


def test_a_step_is_translated():
    env = meeting(**STEP, SLURM_JOB_NODELIST='gpu-7', LOCAL_RANK='0')
    expected = {'RANK': '3', 'WORLD_SIZE': '4', 'LOCAL_RANK': '1', 'MASTER_ADDR': 'gpu-7', 'MASTER_PORT': '14711'}
    assert {name: env[name] for name in expected} == expected


def test_jobs_and_steps_have_their_own_ports():
    jobs = [meeting(SLURM_JOB_ID=str(4711 + i // 2), SLURM_STEP_ID=str(i % 2))['MASTER_PORT'] for i in range(40)]
    assert len(set(jobs)) == 40
    assert int(meeting(SLURM_JOB_ID='67043328', SLURM_STEP_ID='12')['MASTER_PORT']) in PORTS


def test_what_is_set_stays():
    env = meeting(**STEP, SLURM_JOB_NODELIST='gpu-7', MASTER_ADDR='10.0.0.1', MASTER_PORT='29500')
    assert (env['MASTER_ADDR'], env['MASTER_PORT']) == ('10.0.0.1', '29500')
    assert meeting(HOME='/') == {'HOME': '/'}, 'outside of slurm'


def test_slurm_takes_lists_of_hosts_apart(tmp_path, monkeypatch):
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(RuntimeError, match=r'scontrol.*: set MASTER_ADDR to the first of the hosts n\[03-05,08\],g1'):
        meeting(SLURM_JOB_NODELIST='n[03-05,08],g1')
    (tmp_path / 'scontrol').write_text(
        '#!/bin/sh\n[ "$*" = "show hostnames n[03-05,08],g1" ] && echo "n03\nn04\nn05"\n'
    )
    (tmp_path / 'scontrol').chmod(0o755)
    assert meeting(SLURM_JOB_NODELIST='n[03-05,08],g1')['MASTER_ADDR'] == 'n03'
    assert meeting(SLURM_JOB_NODELIST='n[03-05,08],g1', SLURM_STEP_NODELIST='n05')['MASTER_ADDR'] == 'n05', (
        'of the step'
    )


def gradients(layer, x):
    layer(x).square().sum().backward()
    return {name: parameter.grad for name, parameter in layer.named_parameters()}


@pytest.mark.parametrize('layout', [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(('channels', 'groups'), [(1, 1), (6, 6), (6, 1)], ids=['stem', 'depthwise', 'ordinary'])
def test_gradients_have_the_strides_of_their_parameters(layout, channels, groups):
    def layer():
        torch.manual_seed(0)
        return nn.Conv2d(channels, 6, 3, groups=groups)

    x = torch.randn(2, channels, 8, 8).as_strided((2, channels, 8, 8), (64 * channels, 1, 8 * channels, channels))
    plain, matched = layer(), layer()
    match_gradient_strides(matched)
    x = x.contiguous(memory_format=layout) if layout is torch.contiguous_format else x
    expected, found = gradients(plain, x), gradients(matched, x)
    for name, parameter in matched.named_parameters():
        assert torch.equal(expected[name], found[name])
        assert found[name].stride() == parameter.stride()
    if layout is torch.channels_last and groups == channels:
        assert expected['weight'].stride() != plain.weight.stride(), 'what would be without it'
