"""Checkpoints that fit, fit in part, or do not, and what is said then."""

import pytest
import torch
from helpers import backbone_form, build_model, tiny_fcos, tiny_segformer

from paif_mm.fusion import FusionNet
from paif_mm.perception import to_backbone_form
from paif_mm.weights import WeightsError, load_weights, state_of


@pytest.fixture(scope='module')
def fused():
    return build_model(tiny_segformer())


@pytest.fixture(scope='module')
def state(fused):
    return build_model(tiny_segformer(), seed=1).state_dict()


def refused(model, state, **kwargs) -> str:
    with pytest.raises(WeightsError) as caught:
        load_weights(model, state, 'x.pth', **kwargs)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize('prefix', ['', 'module.'])
@pytest.mark.parametrize('nested', [True, False])
def test_what_fits_is_taken_over(fused, state, prefix, nested):
    """Nested or bare, of a wrapped model or not."""
    named = {prefix + key: value for key, value in state.items()}
    misfit = load_weights(fused, {'meta': {}, 'state_dict': named} if nested else named, 'x.pth')
    assert not misfit
    assert misfit.fitting == len(state)
    assert all(torch.equal(value, state[key]) for key, value in fused.state_dict().items())


def test_what_is_missing_left_over_or_of_other_shapes_is_counted_and_named(fused, state):
    changed = dict(state)
    heads = [key for key in state if key.startswith('decode_head.')]
    for key in heads:
        del changed[key]
    changed['more.weight'] = torch.zeros(1)
    changed['backbone.layers.0.0.norm.weight'] = torch.zeros(3)
    said = refused(fused, changed)
    missing = [key for key in heads if not key.endswith('num_batches_tracked')]
    assert said == (
        f'x.pth does not fit EncoderDecoder: {len(missing)} missing ({", ".join(missing[:3])}, ...); '
        '1 unexpected (more.weight); 1 of other shapes (backbone.layers.0.0.norm.weight)'
    )
    misfit = load_weights(fused, changed, 'x.pth', partial=True)
    assert misfit.fitting == len(state) - len(heads) - 1
    assert torch.equal(fused.state_dict()['backbone.layers.0.0.norm.bias'], state['backbone.layers.0.0.norm.bias'])


def test_counters_that_old_checkpoints_lack_are_not_missed(fused, state):
    old = {key: value for key, value in state.items() if not key.endswith('num_batches_tracked')}
    assert len(old) < len(state)
    assert not load_weights(fused, old, 'x.pth')


def test_another_models_weights_are_refused_even_in_part(fused):
    other = {'some.weight': torch.zeros(2)}
    assert 'nothing fits: it is of another model' in refused(fused, other, partial=True)


def test_a_file_without_weights_says_what_it_holds(fused):
    assert refused(fused, {'model': {'a': torch.zeros(1)}, 'epoch': 3}) == (
        'x.pth holds no weights: neither a state_dict nor tensors alone, but model, epoch'
    )


def test_segformer_weights_in_a_detector_are_refused(state):
    assert 'does not fit FCOS' in refused(build_model(tiny_fcos()), state)


HINTS = {
    'an unfused model': (
        lambda state: {key: value for key, value in state.items() if 'fusion' not in key},
        'it holds no fusion network: its model was not fused',
    ),
    'a fusion network alone': (
        lambda state: {key.split('fusion.')[1]: value for key, value in state.items() if 'fusion.' in key},
        'it holds a fusion network alone: name it in init_cfg',
    ),
    'the other form': (to_backbone_form, 'it is of the form with a FusionBackbone'),
    'a search': (
        lambda state: {key.replace('chain.0', 'chain.0.candidates.CA'): value for key, value in state.items()},
        "it is a search's: retrain the found network",
    ),
    'a release': (
        lambda state: {'enhance_net.a': torch.zeros(1), 'denoise_net.b': torch.zeros(1)},
        'python tools/model_converters/paif_release.py',
    ),
}


@pytest.mark.parametrize('kind', HINTS)
def test_the_likely_mistake_is_named(fused, state, kind):
    change, hint = HINTS[kind]
    assert hint in refused(fused, change(state))


def test_the_backbone_form_and_unfused_models_are_named(state):
    hint = 'python tools/model_converters/backbone_form.py SRC DST'
    assert hint in refused(build_model(backbone_form(tiny_segformer())), state)
    plain = tiny_segformer()
    plain.data_preprocessor = plain.data_preprocessor.task
    assert 'its model was fused, that of the config is not' in refused(build_model(plain), state)


def test_a_pretrained_fusion_network_must_fit_too(state, tmp_path):
    """mmengine takes what fits, and trains the rest from scratch."""

    def start(content, **init_cfg):
        torch.save(content, tmp_path / 'n.pth')
        network = FusionNet(
            channels=4, init_cfg={'type': 'Pretrained', 'checkpoint': str(tmp_path / 'n.pth'), **init_cfg}
        )
        network.init_weights()
        return network.state_dict()

    prefix = 'data_preprocessor.fusion.'
    alone = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    for started in (start({'state_dict': alone}), start({'state_dict': state}, prefix=prefix)):
        assert all(torch.equal(value, alone[key]) for key, value in started.items())
    with pytest.raises(WeightsError, match='prefix="data_preprocessor.fusion."'):
        start({'state_dict': state})
    with pytest.raises(WeightsError, match='8 channels|of other shapes'):
        start(FusionNet(channels=8).state_dict())


def test_versions_of_modules_survive(state):
    """By which modules convert what older ones wrote."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(2))
    assert state_of({'state_dict': model.state_dict()}, 'x')._metadata['0']['version'] == 2
