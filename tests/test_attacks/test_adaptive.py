"""Attackers who know the defence: means over its draws, and slopes in the place of hidden ones; defences are broken."""

import copy

import pytest
import torch
from helpers import build_model, generators_untouched, pair_batch, tiny_segformer
from test_robustness.benches import Scenes, bench, trained
from torch import nn

from paif_mm.attacks import APGD, NFGSM, PGD, ALMAProx, Square, StepControlFGSM, functional
from paif_mm.attacks.adaptive import adapted, read_adaptive
from paif_mm.attacks.bpda import read_bpda, substituted
from paif_mm.attacks.frozen import fingerprint
from paif_mm.robustness.cases import adapted_case, make_suite
from paif_mm.robustness.evaluate import evaluate
from paif_mm.robustness.records import Records
from paif_mm.robustness.statistics import worst_case

EPS = 8 / 255


class Quantise(nn.Module):
    """Steps of eight levels, which no gradient passes."""

    def forward(self, image):
        return (image / 8).round() * 8


class Noise(nn.Module):
    """White noise of four levels, other at every call."""

    def forward(self, image):
        return image + 4 * torch.randn_like(image)


class Dither(nn.Module):
    """Steps of eight levels, at other places at every call."""

    def forward(self, image):
        offset = 8 * torch.rand_like(image)
        return ((image + offset) / 8).round() * 8 - offset


class Files(nn.Module):
    """An image by way of numpy, as one that is written and read: out of the graph, not only flat."""

    def forward(self, image):
        return torch.from_numpy(image.numpy().round())


class Defended(nn.Module):
    """A preprocessor behind a module that changes each raw image."""

    def __init__(self, preprocessor, change: nn.Module):
        super().__init__()
        self.preprocessor, self.change = preprocessor, change

    def forward(self, data, training=False):
        return self.preprocessor({**data, 'inputs': [self.change(x.float()) for x in data['inputs']]}, training)


def defended(model, change: nn.Module):
    model = copy.deepcopy(model)
    model.data_preprocessor = Defended(model.data_preprocessor, change)
    return model.eval()


CHANGE = 'data_preprocessor.change'
IDENTITY = {CHANGE: 'identity'}


@pytest.fixture(scope='module')
def honest():
    return trained()


def accuracy(model, folder, adaptive: dict, eps: float = 10 / 255) -> float:
    """Share of right pixels that the strong suite leaves in the worst case, image by image."""
    it, records = bench(model, Scenes(2)), Records(folder, {})
    cases = [adapted_case(case, adaptive) for case in make_suite('strong', 'mIoU', (eps,), steps=20)]
    evaluate(it, cases, records, quality=False, progress=False)
    records.close()
    names = list(it.names.values())
    scores = [it.score([record['score'] for record in records.of(case.key, names)], it.class_names) for case in cases]
    found = worst_case(scores).figures['image-wise']
    return float(found.intersect.sum() / found.labelled.sum())


@pytest.fixture(scope='module')
def bare(honest, tmp_path_factory):
    return accuracy(honest, tmp_path_factory.mktemp('bare'), {})


#: Defences, the settings of an attacker who knows them, and what the plain suite leaves more than of the bare model.
DEFENCES = {
    'quantising': (Quantise(), {'bpda': IDENTITY}, 0.5),
    'dithering': (Dither(), {'bpda': IDENTITY, 'eot_samples': 4}, 0.5),
    'out of the graph': (Files(), {'bpda': IDENTITY}, None),  # has no gradient at all
    'random': (Noise(), {'eot_samples': 4}, 0.0),
}


@pytest.mark.parametrize('name', DEFENCES)
def test_defences_are_broken_by_who_knows_them(honest, bare, tmp_path, name):
    """Down to what the same suite leaves of the model without them, within 2 points."""
    change, adaptive, flattery = DEFENCES[name]
    assert 0.1 < bare < 0.5, 'something is left to tell apart'
    model = defended(honest, change)
    left = accuracy(model, tmp_path / 'adaptive', adaptive)
    assert left == pytest.approx(bare, abs=0.02)
    if flattery is None:
        with pytest.raises(RuntimeError, match='requires grad'):
            accuracy(model, tmp_path / 'plain', {})
    elif flattery:
        assert accuracy(model, tmp_path / 'plain', {}) > bare + flattery


def noisy(images, progress):
    """Losses whose gradient is 3 + 1 or 3 - 1 in turns."""
    noisy.calls += 1
    return torch.stack([(3 + (-1) ** noisy.calls) * image.sum() for image in images])


def test_losses_and_gradients_are_means_over_the_samples():
    image = torch.ones(1, 2, 2)
    noisy.calls, noisy.eot_samples = 0, 1
    losses, (gradient,) = functional.differentiate(noisy, [image], 0.0)
    assert (losses.loss.item(), gradient.unique().tolist()) == (8, [2])
    noisy.eot_samples = 4
    losses, (gradient,) = functional.differentiate(noisy, [image], 0.0)
    assert noisy.calls == 5
    assert (losses.loss.item(), losses.harm.item(), gradient.unique().tolist()) == (12, 12, [3])
    assert not losses.loss.requires_grad
    assert functional.look(noisy, [image]).harm.item() == 12
    assert noisy.calls == 9


@pytest.mark.parametrize(
    'attack',
    [
        PGD(EPS, steps=3, eot_samples=3),
        PGD(EPS, steps=3, eot_samples=3, input_diversity=0.5, keep='last'),
        APGD(EPS, 4, eot_samples=3),
        NFGSM(EPS, eot_samples=3),
        StepControlFGSM(EPS, eot_samples=3),
        Square(EPS, 3, eot_samples=3),
        ALMAProx(0.9, steps=2, eot_samples=3),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_every_attack_draws_anew_and_leaves_the_global_generators(attack):
    model = build_model(tiny_segformer())
    change = Counting()
    model.data_preprocessor = Defended(model.data_preprocessor, change)
    model.eval()
    rng = [torch.Generator().manual_seed(i) for i in range(2)]
    with generators_untouched():
        attack(model, pair_batch(), rng=rng)
    calls = torch.stack(change.drawn)
    assert len(calls) % 6 == 0, 'three draws for each look at two images'
    assert len(calls.unique(dim=0)) == len(calls), 'none is like another'
    first, change.drawn = calls, []
    again = attack(model, pair_batch(), rng=[torch.Generator().manual_seed(i) for i in range(2)])
    assert torch.equal(torch.stack(change.drawn), first), 'but an attack is the same every time'
    assert len(again.images) == 2


class Counting(Noise):
    """Notes what it draws."""

    def __init__(self):
        super().__init__()
        self.drawn = []

    def forward(self, image):
        found = super().forward(image)
        self.drawn.append((found - image).detach().flatten()[:3])
        return found


def test_a_deterministic_model_is_attacked_alike_whatever_the_samples():
    model = build_model(tiny_segformer()).eval()
    found = [
        PGD(EPS, steps=2, eot_samples=samples)(model, pair_batch(), rng=[torch.Generator().manual_seed(0)] * 2)
        for samples in (1, 2)
    ]
    for a, b in zip(*(result.images for result in found), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


def cube(image, scale=2.0):
    return scale * image**3


class Inner(nn.Module):
    """Outputs of several kinds, by position and by name."""

    def forward(self, image, scale=2.0):
        return {'a': (image * scale).round(), 'n': 3, 'b': [image.round().int(), image.round()]}


def test_the_value_is_the_modules_and_the_slope_the_surrogates():
    model = nn.ModuleDict({'inner': Quantise(), 'other': nn.Linear(2, 2)})
    x = torch.tensor([3.0, 13.0], requires_grad=True)
    with substituted(model, read_bpda({'inner': cube})):
        y = model['inner'](x)
    assert y.tolist() == [0, 16]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [6 * 9, 6 * 169]
    assert 'forward' not in vars(model['inner'])
    assert model['inner'](x).grad_fn is not None
    assert torch.autograd.grad(model['inner'](x).sum(), x)[0].tolist() == [0, 0]


def test_nested_outputs_keep_their_form():
    model = nn.ModuleDict({'inner': Inner()})

    def smooth(image, scale):
        return {'a': image * scale, 'n': 3, 'b': [image, image]}

    x = torch.tensor([1.4], requires_grad=True)
    with substituted(model, read_bpda({'inner': smooth})):
        found = model['inner'](x, scale=2.0)
        with torch.no_grad():
            assert model['inner'](x)['a'].tolist() == [3]
    assert (found['a'].tolist(), found['n'], found['b'][0].dtype) == ([3], 3, torch.int32)
    assert torch.autograd.grad(found['a'].sum() + found['b'][1].sum(), x)[0].tolist() == [3]


def test_what_was_patched_before_is_put_back_also_after_an_error():
    model = nn.ModuleDict({'inner': Quantise()})
    patched = model['inner'].forward = lambda image: image + 1
    expected = r'bpda of inner: what is differentiated gives \(1,\), but the module \(2,\)'
    first = read_bpda({'inner': lambda image: image[:1]})
    with pytest.raises(ValueError, match=expected), substituted(model, first):
        model['inner'](torch.zeros(2))
    assert vars(model['inner'])['forward'] is patched


def test_names_reach_modules_and_functions():
    nested = read_bpda({'data_preprocessor': {'change': 'identity'}, 'x.y': 'torch.nn.functional.softplus'})
    assert set(nested) == {'data_preprocessor.change', 'x.y'}
    assert nested['x.y'] is nn.functional.softplus
    for wrong in ('torch.nn.functional.softpluss', 'nowhere.at.all', 'identitty', 3):
        with pytest.raises(ValueError, match=f"bpda of x must be 'identity', a callable, .* not {wrong!r}"):
            read_bpda({'x': wrong})


def test_an_unknown_module_is_told_with_the_nearest_name(honest):
    model = defended(honest, Quantise())
    with pytest.raises(ValueError) as error:
        PGD(EPS, bpda={'data_preprocesor.chnage': 'identity'})(model, bench(model).batch([Scenes()[0]]))
    assert str(error.value) == (
        "bpda: EncoderDecoder has no module 'data_preprocesor.chnage'; the nearest name is 'data_preprocessor.change'"
    )
    with pytest.raises(ValueError, match='the nearest name is'):
        read_adaptive({'bpda': {'data_preprocesor.chnage': 'identity'}}, model)


class Holding(Quantise):
    """Holds a module that it never calls, and one that it calls without gradients."""

    def __init__(self):
        super().__init__()
        self.idle, self.list, self.aside = nn.Identity(), nn.ModuleList([nn.Identity()]), nn.Identity()

    def forward(self, image):
        with torch.no_grad():
            self.aside(image)
        return self.list[0](super().forward(image))


@pytest.mark.parametrize('attack', [PGD(EPS, steps=1), NFGSM(EPS), ALMAProx(0.9, steps=1)])
def test_a_module_that_is_never_differentiated_is_told(honest, attack):
    model = defended(honest, Holding())
    batch = bench(model).batch([Scenes()[0]])
    for name, kind in (('idle', 'Identity'), ('list', 'ModuleList'), ('aside', 'Identity')):
        attack.bpda = read_bpda({f'{CHANGE}.{name}': 'identity'})
        with pytest.raises(ValueError, match=f'bpda of {CHANGE}.{name} has no effect: no .* through that {kind}'):
            attack(model, batch)
        assert 'forward' not in vars(model.get_submodule(f'{CHANGE}.{name}'))
    attack.bpda = read_bpda({CHANGE: 'identity', f'{CHANGE}.list.0': 'identity'})
    with pytest.raises(ValueError, match=rf'bpda of {CHANGE}.list.0 has no effect'):
        attack(model, batch)  # inside of one that is replaced itself
    attack.bpda = read_bpda({f'{CHANGE}.list.0': 'identity'})
    attack(model, batch)


def test_objectives_of_a_part_of_the_model_need_none_of_the_rest(honest):
    batch = bench(honest).batch([Scenes()[0]])
    fusion, head = 'data_preprocessor.fusion', 'decode_head.conv_seg'
    for objective, name in (('FusionObjective', head), ('Disagreement', fusion)):
        for config in (
            {'type': objective},
            {'type': 'WeightedSum', 'objectives': [{'type': objective}], 'weights': [1]},
        ):
            PGD(EPS, steps=1, objective=config, bpda={name: 'identity'})(copy.deepcopy(honest), batch)


def test_an_attack_leaves_no_trace(honest):
    model = defended(honest, Quantise())
    mark = fingerprint(model)
    PGD(EPS, steps=1, bpda=IDENTITY)(model, bench(model).batch([Scenes()[0]]))
    assert fingerprint(model) == mark
    assert 'forward' not in vars(model.data_preprocessor.change)


def test_settings_of_a_test_reach_the_attacks_that_take_them():
    adaptive = {'eot_samples': 4, 'bpda': IDENTITY}
    assert adapted({'type': 'PGD', 'eps': EPS}, adaptive) == {'type': 'PGD', 'eps': EPS, **adaptive}
    assert adapted({'type': 'paif_mm.APGD', 'eps': EPS, 'eot_samples': 2}, adaptive)['eot_samples'] == 2
    assert adapted({'type': 'Square', 'eps': EPS}, adaptive) == {'type': 'Square', 'eps': EPS, 'eot_samples': 4}
    for other in ({'type': 'Corruption', 'name': 'fog'}, {'type': 'NoSuchAttack'}, {}):
        assert adapted(other, adaptive) == other
    (clean, pgd5) = (adapted_case(case, adaptive) for case in make_suite('paper', 'mIoU', (EPS,)))
    assert clean.attack is None
    assert pgd5.passes == 4 * 5.7
    assert adapted_case(pgd5, {}) == pgd5


def test_mistakes_are_told():
    with pytest.raises(ValueError, match='eot_samples must be a whole number from 1, not 0'):
        PGD(EPS, eot_samples=0)
    with pytest.raises(ValueError, match="adaptive has no setting 'eot_sample': did you mean eot_samples"):
        read_adaptive({'eot_sample': 3})
    for number in ('two', 0, 2.0, True, None):
        for read in (lambda n: read_adaptive({'eot_samples': n}), lambda n: PGD(EPS, eot_samples=n)):
            with pytest.raises(ValueError, match=f'eot_samples must be a whole number from 1, not {number!r}'):
                read(number)
        with pytest.raises(ValueError, match='eot_samples must be a whole number from 1'):
            ALMAProx(eot_samples=number)
    for wrong in ('identity', ['decode_head'], 3, ''):
        for read in (lambda value: read_adaptive({'bpda': value}), lambda value: PGD(EPS, bpda=value)):
            with pytest.raises(ValueError, match='bpda must name modules and what is differentiated') as error:
                read(wrong)
            assert str(error.value).endswith(f'not {wrong!r}')
        with pytest.raises(ValueError, match='adaptive must be a dict'):
            read_adaptive(wrong)
    assert read_adaptive(None) == {}
