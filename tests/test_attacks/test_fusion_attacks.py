"""Attacks on the fusion itself: known answers of their objectives, and what they do to a trained segmentor."""

import copy
import math

import pytest
import torch
from helpers import build_model, pair_batch, tiny_fcos, tiny_segformer
from test_robustness.benches import Scenes, bench, trained

from paif_mm.attacks import PGD, Disagreement, HiddenInFused, PassedOn, PixelLoss, WeakestModality, frozen
from paif_mm.attacks.attack import MODALITIES, AttackResult
from paif_mm.attacks.functional import Losses, look
from paif_mm.attacks.fusion_attacks import fused_images, passing_on
from paif_mm.attacks.objectives import Questions
from paif_mm.attacks.ramps import Ramps
from paif_mm.data.colour import bgr_to_luma
from paif_mm.fusion.average import AverageFusion
from paif_mm.losses.fusion import image_similarity
from paif_mm.perception import find_fuser
from paif_mm.registry import ATTACKS
from paif_mm.robustness.cases import make_suite

EPS = 12 / 255
BALANCED = {'type': 'PixelLoss', 'name': 'balanced_cross_entropy'}
JS = {'type': 'PixelLoss', 'name': 'jensen_shannon'}


@pytest.fixture(scope='module')
def model():
    return trained()


@pytest.fixture(scope='module')
def batch():
    scenes = Scenes(2, seed=5)
    return {key: [scenes[i][key] for i in range(2)] for key in scenes[0]}


def generators():
    return [torch.Generator().manual_seed(i) for i in range(2)]


def ask(objective, model, images, batch, clean=None):
    with frozen(model), torch.no_grad():
        return objective(model, images, batch['data_samples'], clean or images, False)


def floats(batch):
    return [image.float() for image in batch['inputs']]


def lost(model, images, batch):
    return ask(PixelLoss(), model, images, batch).harm


def test_equal_modalities_do_not_disagree(model, batch):
    """Grey pairs whose infrared image is the visible luminance: T sees the same, whichever is passed on."""
    grey = [image[3:].expand(4, -1, -1).clone() for image in floats(batch)]
    found = ask(Disagreement(), model, grey, batch)
    assert found.loss.abs().max() < 1e-5
    true = ask(Disagreement(), model, floats(batch), batch)
    assert ((true.loss > 1e-3) & (true.loss < math.log(2))).all()
    torch.testing.assert_close(true.harm, lost(model, floats(batch), batch))


def test_disagreement_is_the_divergence_of_two_predictions(model, batch):
    """Computed from the definition, of predictions of models that pass on one modality for good."""
    fuser = find_fuser(model)
    chances = []
    for ir_weight in (1.0, 0.0):
        other = copy.deepcopy(model)
        find_fuser(other).fusion = AverageFusion(ir_weight)
        chances.append(torch.stack([s.seg_logits.data for s in bench(other).predict(floats(batch), batch)]).softmax(1))
    mean = sum(chances) / 2
    expected = sum((p * (p / mean).log()).sum(1) for p in chances).mean((1, 2)) / 2
    torch.testing.assert_close(ask(Disagreement(), model, floats(batch), batch).loss, expected, atol=1e-4, rtol=1e-3)
    fusion = fuser.fusion
    with pytest.raises(KeyError), passing_on(fuser, 1.0):
        assert fuser.fusion is not fusion
        raise KeyError
    assert fuser.fusion is fusion


def test_attacks_make_modalities_disagree(model, batch):
    attack = PGD(EPS, steps=5, keep='last', objective={'type': 'Disagreement'})
    found = attack(model, batch, rng=generators())
    after, before = (ask(Disagreement(), model, images, batch).loss for images in (found.images, found.clean))
    assert (after > 1.5 * before).all()


@pytest.mark.parametrize('modality', ['ir', 'vis'])
def test_what_is_passed_on_whole_costs_nothing(model, batch, modality):
    """u = .5 x + .5 y is |x - y| / 2 away from either; N that passes one on is no distance away from it."""
    inner = ask(PixelLoss(), model, floats(batch), batch)
    found = ask(PassedOn(modality, {'type': 'PixelLoss'}, weight=3.0), model, floats(batch), batch)
    gaps = [(image[3] - bgr_to_luma(image[:3])[0]).abs().mean() / 2 / 255 for image in floats(batch)]
    torch.testing.assert_close(found.loss, inner.loss - 3 * torch.stack(gaps))
    assert torch.equal(found.harm, inner.harm)
    whole = copy.deepcopy(model)
    find_fuser(whole).fusion = AverageFusion(1.0 if modality == 'ir' else 0.0)
    kept = ask(PassedOn(modality, {'type': 'PixelLoss'}, weight=3.0), whole, floats(batch), batch)
    torch.testing.assert_close(kept.loss, ask(PixelLoss(), whole, floats(batch), batch).loss, atol=1e-5, rtol=0)


@pytest.mark.parametrize(('ir_weight', 'chosen'), [(0.9, 'ir'), (0.1, 'vis')])
def test_the_modality_that_does_more_harm_is_chosen(model, batch, ir_weight, chosen):
    model = copy.deepcopy(model)
    fuser = find_fuser(model)
    fuser.fusion, fuser.grey = AverageFusion(ir_weight), True  # no colours, which would pass on the visible image
    found = WeakestModality(EPS, steps=5, objective=JS)(model, batch, rng=generators())
    for image, clean in zip(found.images, found.clean, strict=True):
        ir, visible = (image[3:] - clean[3:]).abs().max(), (image[:3] - clean[:3]).abs().max()
        assert (float(ir), float(visible)) == pytest.approx((12, 0) if chosen == 'ir' else (0, 12), abs=1e-3)
    assert (lost(model, found.images, batch) > lost(model, found.clean, batch)).all()


def test_the_choice_is_made_for_each_pair(model, batch, monkeypatch):
    assert kept(monkeypatch, model, batch, [0.5, 0.1], [0.2, 0.3]) == ['vis', 'ir']


def kept(monkeypatch, model, batch, *harms) -> list:
    """What is changed in each pair where these are the harms done by either modality."""
    told = iter([Losses(torch.zeros(2), torch.tensor(harm)) for harm in harms])  # of vis, then of ir
    monkeypatch.setattr(WeakestModality, '_losses', lambda *_: next(told))
    found = WeakestModality(EPS, steps=1)(model, batch, rng=generators())
    return [
        '+'.join(name for name, part in MODALITIES.items() if (image[part] != clean[part]).any())
        for image, clean in zip(found.images, found.clean, strict=True)
    ]


@pytest.mark.parametrize('first', [True, False])
def test_a_harm_that_is_no_number_is_never_chosen_over_one(model, batch, monkeypatch, first):
    broken, finite = [math.nan, math.nan], [0.1, -math.inf]
    harms = (broken, finite) if first else (finite, broken)
    assert kept(monkeypatch, model, batch, *harms) == ['ir' if first else 'vis'] * 2


class Drawn:
    """A loss that is a number drawn at random."""

    def __call__(self, model, inputs, data_samples, clean, training, progress=1.0):
        return torch.rand(len(inputs))


@pytest.mark.parametrize('samples', [1, 3])
def test_the_choice_is_by_the_mean_over_draws(model, batch, samples):
    attack = WeakestModality(EPS, eot_samples=samples)
    attack.objective = Drawn()
    found = AttackResult([0, 1], floats(batch), floats(batch), None)
    state = torch.get_rng_state()
    told = [attack._losses(model, found, batch, False).harm for _ in MODALITIES]
    assert torch.equal(torch.get_rng_state(), state)
    generator = torch.Generator().manual_seed(0)
    mean = sum(torch.rand(2, generator=generator) for _ in range(samples)) / samples
    for harm in told:  # either modality meets the same draws
        torch.testing.assert_close(harm, mean)


def test_a_part_of_the_questions_is_asked_as_often(model, batch):
    questions = Questions(Drawn(), model, batch['data_samples'], floats(batch), False, eot_samples=5)
    part = questions.of([1])
    assert part.eot_samples == 5
    generator = torch.Generator().manual_seed(0)
    mean = sum(torch.rand(1, generator=generator) for _ in range(5)) / 5
    torch.testing.assert_close(look(part, part.clean).loss, mean)


class Steps:
    """An objective that counts how often its gradient is taken."""

    def __init__(self):
        self.count = 0

    def __call__(self, model, inputs, data_samples, clean, training, progress=1.0):
        self.count += torch.is_grad_enabled()
        return PixelLoss()(model, inputs, data_samples, clean, training, progress)


GROWING = {
    'PGD': {'steps': 4},
    'APGD': {'steps': 4},
    'WeakestModality': {'steps': 4},
    'NFGSM': {},
    'StepControlFGSM': {},
    'Square': {'queries': 4},
}


def test_every_attack_with_a_radius_is_in_the_matrix():
    assert set(GROWING) == {name for name, kind in ATTACKS.module_dict.items() if issubclass(kind, PGD)}


@pytest.mark.parametrize('name', GROWING)
def test_attacks_grow_as_a_training_says(model, batch, name):
    """A quarter of the radius in the first iteration, half of it in the second; two of four steps, then three."""
    attack = ATTACKS.build({'type': name, 'eps': EPS, **GROWING[name]})
    lengths = {'eps': 4, 'steps': 3} if GROWING[name] else {'eps': 4}
    reaches, taken = [], []
    for iteration in (0, 1, 10):
        grown = Ramps(attack, lengths).at(iteration)
        if name == 'WeakestModality':
            for inner in grown.attacks.values():
                inner.objective.objective = Steps()
        found = grown(model, batch, rng=generators())
        reaches.append(max(float((a - c).abs().max()) for a, c in zip(found.images, found.clean, strict=True)))
        if name == 'WeakestModality':
            taken.append([inner.objective.objective.count for inner in grown.attacks.values()])
    budget = attack.budgets(4)[0].eps
    for reach, share in zip(reaches, (0.25, 0.5, 1), strict=True):
        assert reach <= share * budget + 1e-3
        assert reach >= 0.2 * share * budget
    if name == 'WeakestModality':
        assert taken == [[2, 2], [3, 3], [4, 4]]


def similarity(model, found) -> torch.Tensor:
    with frozen(model), torch.no_grad():
        after, before = (fused_images(model, images, found.clean, False) for images in (found.images, found.clean))
    return torch.cat([image_similarity(a[None], b[None]) for a, b in zip(after, before, strict=True)])


def test_a_fused_image_stays_clean_while_the_segmentation_fails(model, batch):
    plain = PGD(EPS, EPS / 8, 20, random_start=False, objective=BALANCED)
    hidden = PGD(EPS, EPS / 8, 20, random_start=False, objective={'type': 'HiddenInFused', 'objective': BALANCED})
    seen, unseen = (attack(model, batch, rng=generators()) for attack in (plain, hidden))
    assert (similarity(model, seen) < 0.85).all(), 'anyone sees the plain attack'
    assert (similarity(model, unseen) >= 0.95).all()
    assert (lost(model, unseen.images, batch) > lost(model, unseen.clean, batch) + 0.2).all()


def test_the_clean_pair_is_fused_once_an_attack(model, batch):
    """Two passes of the fusion for a look: the task's and that of the fused image; one for the clean pair in all."""
    model, passes = copy.deepcopy(model), []
    fuser = find_fuser(model)
    fuser.fusion.register_forward_hook(lambda *_: passes.append(1))
    hidden = {'type': 'HiddenInFused', 'objective': {'type': 'PixelLoss'}}
    attack = PGD(EPS, EPS / 8, 4, random_start=False, objective=hidden)
    first = attack(model, batch)
    assert len(passes) == 2 * 5 + 1
    fuser.fusion = AverageFusion(0.9)  # as if trained: nothing is known of before
    again = attack(model, batch)
    expected = PGD(EPS, EPS / 8, 4, random_start=False, objective=hidden)(copy.deepcopy(model), batch)
    for a, b, c in zip(again.images, expected.images, first.images, strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    fresh = [ask(HiddenInFused(ssim=1.0), model, first.images, batch, first.clean).loss for _ in range(2)]
    assert torch.equal(*fresh)


def test_without_a_way_to_hide_the_pair_stays_clean(model, batch):
    strict = {'type': 'HiddenInFused', 'objective': BALANCED, 'ssim': 1.0}
    found = PGD(EPS, EPS, 2, random_start=False, objective=strict)(model, batch)
    assert all(torch.equal(a, c) for a, c in zip(found.images, found.clean, strict=True))


def test_similarity_is_the_published_ssim():
    g = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 3, 20, 24, generator=g), torch.rand(2, 3, 20, 24, generator=g)
    from pytorch_msssim import ssim

    torch.testing.assert_close(image_similarity(a, b), ssim(a, b, data_range=1.0, size_average=False))
    torch.testing.assert_close(image_similarity(a, a), torch.ones(2))
    with pytest.raises(ValueError, match='SSIM needs images of at least 11 x 11'):
        image_similarity(a[..., :5], b[..., :5])


def test_they_are_part_of_the_full_suite_of_fused_models():
    names = {case.name for case in make_suite('full', 'mIoU', (4 / 255,))}
    assert {'fusion20', 'weakest', 'hidden', 'disagree20'} <= names
    boxes = {case.name for case in make_suite('full', 'AP50', (4 / 255,))}
    assert {'fusion20', 'weakest', 'hidden'} <= boxes
    assert not {'disagree20'} & boxes
    assert not {'fusion20', 'weakest', 'hidden', 'disagree20'} & {
        case.name for case in make_suite('full', 'mIoU', (4 / 255,), fused=False)
    }


def test_mistakes_are_told(model, batch):
    with pytest.raises(ValueError, match='eps of WeakestModality is one number'):
        WeakestModality({'ir': EPS})
    with pytest.raises(ValueError, match="no modality 'visible': did you mean vis"):
        PassedOn('visible')
    with pytest.raises(ValueError, match='ssim must be within'):
        HiddenInFused(ssim=1.2)
    plain = tiny_segformer()
    plain.data_preprocessor = plain.data_preprocessor.task
    with pytest.raises(TypeError, match='Disagreement needs a fused model'):
        PGD(EPS, objective={'type': 'Disagreement'})(build_model(plain), pair_batch(channels=3))
    with pytest.raises(TypeError, match='Disagreement attacks segmentors, not FCOS'):
        PGD(EPS, objective={'type': 'Disagreement'})(build_model(tiny_fcos()), pair_batch())
