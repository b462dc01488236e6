"""What happens to one image is its own affair: random numbers, restarts, settled images, views, and other sources."""

import math

import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from mmengine.config import Config, ConfigDict
from test_meta_init.banks import LEVELS, noise_bank

from paif_mm.attacks import APGD, PGD, BankAttack, Budget, Losses, PixelLoss, Square, TransferAttack
from paif_mm.attacks.auto_pgd import auto_pgd
from paif_mm.attacks.bank import round_into_ball
from paif_mm.attacks.functional import projected_gradient
from paif_mm.attacks.objectives import Questions
from paif_mm.attacks.square import square_attack
from paif_mm.attacks.transfer import NoTransferError
from paif_mm.attacks.transforms import diversify, smooth_gradient

WHOLE = slice(None)
EPS = 8 / 255
STAGES = ((0.3, 2.0), (0.3, 1.5), (0.4, 1.0))
BUDGETS = [Budget(WHOLE, 8, 1.7)]


def rugged(images, progress=1.0):
    """Many maxima, so that another start ends elsewhere."""
    return torch.stack([torch.sin(x / 2 + torch.arange(x.size(2))).sum() for x in images])


def pictures(count=3):
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(4, 6 + i, 7, generator=generator) * 255 for i in range(count)]


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds]


ATTACKS = {
    'pgd': lambda images, rng: projected_gradient(rugged, images, BUDGETS, 6, rng=rng),
    'pgd restarted': lambda images, rng: projected_gradient(rugged, images, BUDGETS, 4, restarts=3, rng=rng),
    'pgd l2': lambda images, rng: projected_gradient(rugged, images, [Budget(WHOLE, 60, 9)], 6, 'l2', rng=rng),
    'transferable': lambda images, rng: projected_gradient(
        rugged, images, BUDGETS, 6, keep='last', momentum=1.0, input_diversity=0.5, smoothing=3, rng=rng
    ),
    'apgd': lambda images, rng: auto_pgd(rugged, images, BUDGETS, 12, rng=rng),
    'apgd staged': lambda images, rng: auto_pgd(rugged, images, BUDGETS, 12, restarts=2, stages=STAGES, rng=rng),
    'apgd l2': lambda images, rng: auto_pgd(rugged, images, [Budget(WHOLE, 60, 0)], 12, 'l2', rng=rng),
    'square': lambda images, rng: square_attack(rugged, images, BUDGETS, 30, rng=rng),
}


@pytest.mark.parametrize('attack', ATTACKS.values(), ids=ATTACKS)
def test_a_result_does_not_depend_on_the_rest_of_the_batch(attack):
    images = pictures()
    together = attack(images, generators(5, 6, 7))[0]
    turned = attack(images[::-1], generators(7, 6, 5))[0][::-1]
    for i, seed in enumerate((5, 6, 7)):
        (alone,), _ = attack([images[i]], generators(seed))
        assert torch.equal(alone, together[i])
        assert torch.equal(turned[i], together[i])
    (other,), _ = attack([images[0]], generators(8))
    assert not torch.equal(other, together[0]), 'nothing is random, so that nothing is shown'


@pytest.mark.parametrize(
    'attack',
    [
        PGD(EPS, objective={'type': 'PixelLoss'}),
        PGD(2.0, norm='l2'),
        APGD(EPS, steps=6, objective={'type': 'PixelLoss', 'name': 'jensen_shannon'}),
        Square(EPS, queries=10),
    ],
    ids=['pgd', 'l2', 'apgd', 'square'],
)
def test_nor_does_it_on_a_segmentor(attack):
    model, batch = build_model(tiny_segformer()).eval(), pair_batch([(32, 40)] * 3)
    together = attack(model, batch, rng=generators(1, 2, 3)).images
    part = attack(model, batch, index=[2, 0], rng=generators(3, 1))
    assert part.index == [2, 0]
    unlike = attack(model, batch, index=[0], rng=generators(9)).images[0]
    for one, same, other in ((part.images[0], together[2], None), (part.images[1], together[0], unlike)):
        torch.testing.assert_close(one.mean(), same.mean(), atol=1e-2, rtol=0)
        moved = ((one - same).abs() > 1e-2).float().mean()
        assert moved < 0.02, 'but for signs of gradients that are nearly 0'
        assert other is None or ((one - other).abs() > 1e-2).float().mean() > 0.2


def test_generators_leave_the_global_one_alone():
    state = torch.get_rng_state()
    for attack in ATTACKS.values():
        attack(pictures(), generators(1, 2, 3))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('at_once', [2, 3, 5, 9])
@pytest.mark.parametrize('attack', [projected_gradient, auto_pgd])
@pytest.mark.parametrize('norm', ['linf', 'l2'])
@pytest.mark.parametrize('own', [True, False])
def test_restarts_at_once_are_those_of_one_after_the_other(attack, norm, at_once, own):
    def results(restarts_at_once, restarts=5):
        torch.manual_seed(3)
        return attack(
            rugged,
            pictures(),
            [Budget(slice(0, 3), 8, 1), Budget(slice(3, 4), 4, 1)],
            5,
            norm,
            restarts=restarts,
            restarts_at_once=restarts_at_once,
            rng=generators(1, 2, 3) if own else None,
        )

    (expected, losses), (found, found_losses) = results(1), results(at_once)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert torch.equal(found_losses.loss, losses.loss)
    first = results(1, restarts=1)[1].loss
    assert (losses.loss >= first).all()
    assert (losses.loss > first).any(), 'no restart was of use'


def test_restarts_at_once_share_forward_passes():
    sizes = []

    def counted(images, progress):
        sizes.append(len(images))
        return rugged(images)

    projected_gradient(counted, pictures(), BUDGETS, 4, restarts=5, restarts_at_once=2)
    assert sizes == [6] * 5 + [6] * 5 + [3] * 5


class Towards:
    """Raises the mean; the harm is 1 for an image whose mean has come to a limit, which is a data sample here."""

    greatest_harm = 1.0

    def __init__(self):
        self.asked = []

    def __call__(self, model, inputs, samples, clean, training, progress=1.0):
        self.asked.append(list(samples))
        assert all((x - c).abs().max() <= 16 for x, c in zip(inputs, clean, strict=True)), 'images and places differ'
        means = torch.stack([x.mean() for x in inputs])
        return Losses(means, (means.detach() / torch.tensor(samples)).clamp_max(1))


def climb(limits, attack=projected_gradient, **settings):
    """Three grey images of 100, 140 and 180, whose limits are so much above them."""
    objective, images = Towards(), [torch.full((1, 2, 2), 100.0 + 40 * i) for i in range(3)]
    limits = [float(x.mean()) + limit for x, limit in zip(images, limits, strict=True)]
    questions = Questions(objective, None, limits, images, training=False)
    found, losses = attack(questions, images, [Budget(WHOLE, 8, 2)], **settings)
    asked = [[limits.index(limit) for limit in samples] for samples in objective.asked]
    return [float(x.mean() - c.mean()) for x, c in zip(found, images, strict=True)], losses, asked


@pytest.mark.parametrize('training', [False, True])
def test_questions_of_some_images_are_the_same_questions(training):
    """Same objective, model, annotations, clean images and kind of batch; what is settled stays so, and is not told."""
    heard = []

    class Hears(Towards):
        def __call__(self, model, inputs, samples, clean, training, progress=1.0):
            heard.append((model, samples, clean, training, progress))
            return super().__call__(model, inputs, samples, clean, training, progress)

    images = [torch.full((1, 2, 2), 100.0 + 40 * i) for i in range(3)]
    questions = Questions(Hears(), 'model', [90.0, 300.0, 250.0], images, training)
    questions.found(torch.tensor([1.0, 0.5, 0.5]))
    part = questions.of([2, 0])
    losses = part([images[2], images[0]], 0.25)
    assert losses.loss.tolist() == [180, -torch.inf], 'the first image was settled'
    ((model, samples, clean, was_training, progress),) = heard
    assert (model, samples, was_training, progress) == ('model', [250.0], training, 0.25)
    assert len(clean) == 1
    assert clean[0] is images[2]
    part.found(torch.tensor([1.0, 1.0]))
    assert questions.settled == [True, False, False]


def test_settled_images_are_not_asked_about_again():
    rises, losses, asked = climb([3, 100, 6], steps=5, random_start=False)
    assert asked == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [1, 2], [1], [1]]
    assert rises == [4, 8, 6], 'each at the point that settled it, not beyond'
    assert losses.harm.tolist() == [1, pytest.approx(148 / 240), 1]
    assert losses.loss.tolist() == [104, 148, 186]


@pytest.mark.parametrize('at_once', [1, 3])
def test_restarts_do_not_ask_about_settled_images(at_once):
    rises, losses, asked = climb([3, 100, 6], steps=3, restarts=3, restarts_at_once=at_once, random_start=False)
    assert rises == [4, 6, 6]
    assert losses.harm.tolist() == [1, pytest.approx(146 / 240), 1]
    first = [[0, 1, 2] * at_once] * 3 + [[1, 2] * at_once]
    assert asked == (first + [[1]] * 8 if at_once == 1 else first)


def test_when_all_are_settled_the_model_is_left_alone():
    rises, losses, asked = climb([0, 0, 0], steps=50, restarts=4, random_start=False)
    assert asked == [[0, 1, 2]]
    assert rises == [0, 0, 0]
    assert losses.harm.tolist() == [1, 1, 1]


@pytest.mark.parametrize('stages', [((1.0, 1.0),), STAGES])
def test_auto_pgd_and_square_keep_what_settled_an_image(stages):
    torch.manual_seed(0)
    rises, losses, asked = climb([1, 100, 4], attack=auto_pgd, steps=20, stages=stages)
    assert losses.harm.tolist() == [1, pytest.approx(148 / 240), 1]
    assert rises[1] == 8
    assert 1 <= rises[0] <= 8
    assert 4 <= rises[2] <= 8
    assert asked[-1] == [1]
    if len(stages) == 1:
        rises, losses, asked = climb([1, 100, 4], attack=square_attack, queries=60)
        assert losses.harm.tolist()[::2] == [1, 1]
        assert asked[-1] == [1]


def test_settled_in_a_larger_ball_is_not_settled():
    """All of 2 eps would do the greatest harm, nothing within eps does."""
    rises, losses, asked = climb([12, 100, 13], attack=auto_pgd, steps=20, stages=STAGES)
    assert asked == [[0, 1, 2]] * len(asked)
    assert rises == [8, 8, 8]
    assert (losses.harm < 1).all()


def test_a_segmentation_that_is_all_wrong_costs_one_forward_pass():
    model, batch = build_model(tiny_segformer()).eval(), pair_batch([(32, 40)] * 2, ignored=False)
    for sample, prediction in zip(batch['data_samples'], model.test_step(pair_batch([(32, 40)] * 2)), strict=True):
        sample.gt_sem_seg.data = (prediction.pred_sem_seg.data + 1) % 9
    sizes, forward = [], model.backbone.forward
    model.backbone.forward = lambda x: sizes.append(len(x)) or forward(x)
    result = PGD(EPS, steps=9, random_start=False, objective={'type': 'PixelLoss', 'name': 'margin'})(model, batch)
    assert sizes == [2]
    assert all(torch.equal(image, clean) for image, clean in zip(result.images, result.clean, strict=True))
    assert PixelLoss.greatest_harm == 1


def test_a_resampled_view_keeps_size_and_level_and_is_seldom_the_image():
    seen = []

    def look(images, progress):
        seen.append(images)
        return torch.stack([x.square().sum() for x in images])

    images = [*pictures(), torch.full((4, 9, 8), 77.0)]
    diversify(look, 1.0, generators(1, 2, 3, 4))(images, 0.5)
    for image, view in zip(images, seen[0], strict=True):
        assert view.shape == image.shape
        assert view.mean() == pytest.approx(image.mean().item(), rel=0.05)
    assert not any(torch.equal(a, b) for a, b in zip(seen[0][:3], images, strict=False))
    torch.testing.assert_close(seen[0][3], images[3])
    assert seen[0][0].std() < images[0].std(), 'a smaller image is a smoother one'


def test_views_come_as_often_as_their_probability():
    counts, image = [], torch.rand(4, 40, 48, generator=torch.Generator().manual_seed(0)) * 255
    for probability in (1e-9, 0.3, 1.0):
        view = diversify(lambda images, progress: images, probability, generators(*range(200)))
        counts.append(sum(not torch.equal(x, image) for x in view([image] * 200, 0.0)))
    assert counts[0] == 0
    assert 40 < counts[1] < 80
    assert counts[2] >= 190, 'a resampling to the own size may change nothing'


def test_gradients_flow_through_views():
    image = torch.rand(4, 40, 48, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = diversify(lambda images, progress: torch.stack([x.sum() for x in images]), 1.0, generators(0))([image], 0.0)
    (gradient,) = torch.autograd.grad(loss.sum(), image)
    assert gradient.sum() == pytest.approx(image.numel(), rel=0.1)
    assert gradient.abs().max() > gradient.abs().median()


@pytest.mark.parametrize('side', [3, 7])
def test_a_smoothed_delta_is_the_gaussian(side):
    delta = torch.zeros(2, 15, 17)
    delta[0, 7, 8] = 1
    smooth = smooth_gradient(delta, side)
    reach = side // 2
    weights = [math.exp(-0.5 * (k / (side / 6)) ** 2) for k in range(-reach, reach + 1)]
    row = torch.tensor(weights) / sum(weights)
    torch.testing.assert_close(smooth[0, 7 - reach : 8 + reach, 8 - reach : 9 + reach], row[:, None] * row)
    assert smooth[0].sum() == pytest.approx(1)
    assert not smooth[1].any(), 'channels do not mix'
    constant = smooth_gradient(torch.full((3, 15, 17), -2.5), side)
    torch.testing.assert_close(
        constant[:, reach:-reach, reach:-reach], torch.full((3, 15 - 2 * reach, 17 - 2 * reach), -2.5)
    )


def test_smoothing_changes_which_way_an_attack_goes():
    weights = torch.full((1, 9, 9), -1.0)
    weights[0, 4, 4] = 3.0  # its neighbours outvote it, but for a narrow window

    def loss(images, progress):
        return torch.stack([(weights * x).sum() for x in images])

    moved = {}
    for side in (0, 3, 9):
        image = torch.full((1, 9, 9), 100.0)
        settings = {'random_start': False, 'keep': 'last', 'smoothing': side}
        moved[side] = (projected_gradient(loss, [image], [Budget(WHOLE, 4, 4)], 1, **settings)[0][0] - image)[0, 4, 4]
    assert moved == {0: 4, 3: 4, 9: -4}


def saved(folder, config, seed):
    """Files of a source model, and the model."""
    model = build_model(config, seed).eval()
    Config({'default_scope': 'mmseg', 'model': config.to_dict()}).dump(str(folder / 'source.py'))
    torch.save({'state_dict': model.state_dict()}, folder / 'source.pth')
    return (str(folder / 'source.py'), str(folder / 'source.pth')), model


ATTACK = {'type': 'PGD', 'eps': EPS, 'steps': 3, 'momentum': 1.0, 'keep': 'last'}


def test_a_transferred_attack_is_the_attack_on_its_source(tmp_path):
    files, source = saved(tmp_path, tiny_segformer(), seed=1)
    victim, batch = build_model(tiny_segformer(), seed=2).eval(), pair_batch()
    attack = TransferAttack(*files, ATTACK)
    found = attack(victim, batch, index=[1], rng=generators(4))
    direct = PGD(**{key: value for key, value in ATTACK.items() if key != 'type'})
    expected = direct(source, batch, index=[1], rng=generators(4))
    assert found.index == [1]
    assert torch.equal(found.images[0], expected.images[0])
    assert torch.equal(found.clean[0], batch['inputs'][1].float())
    other = direct(victim, batch, index=[1], rng=generators(4))
    assert not torch.equal(found.images[0], other.images[0])
    assert found.losses is None
    assert attack.budgets(4) == direct.budgets(4)


def test_a_source_of_plain_images_leaves_infrared_alone(tmp_path):
    config = tiny_segformer()
    config.data_preprocessor = config.data_preprocessor.task
    files, source = saved(tmp_path, config, seed=1)
    batch = pair_batch()
    attack = TransferAttack(*files, ATTACK)
    found = attack(build_model(tiny_segformer(), seed=2).eval(), batch, rng=generators(4, 5))
    direct = PGD(**{key: value for key, value in ATTACK.items() if key != 'type'})
    visible = {**batch, 'inputs': [pair[:3] for pair in batch['inputs']]}
    expected = direct(source, visible, rng=generators(4, 5))
    for image, pair, plain in zip(found.images, batch['inputs'], expected.images, strict=True):
        assert torch.equal(image[3], pair[3].float())
        assert torch.equal(image[:3], plain)
        assert 7 < (image[:3] - pair[:3]).abs().max() <= 8
    (budget,) = attack.budgets(4)
    assert (budget.channels, budget.eps) == (slice(0, 3), 8)


def test_a_source_of_two_streams_is_shown_pairs(tmp_path):
    config = tiny_segformer()
    config.data_preprocessor = ConfigDict(type='SegDataPreProcessor', mean=[100.0] * 4, std=[50.0] * 4, size=(32, 48))
    config.backbone.in_channels = 4
    files, source = saved(tmp_path, config, seed=1)
    victim, batch = build_model(tiny_segformer(), seed=2).eval(), pair_batch()
    attack = TransferAttack(*files, ATTACK)
    found = attack(victim, batch, rng=generators(4, 5))
    expected = PGD(**{key: value for key, value in ATTACK.items() if key != 'type'})(
        source, batch, rng=generators(4, 5)
    )
    assert all(torch.equal(*both) for both in zip(found.images, expected.images, strict=True))
    assert all((image[3] - pair[3]).abs().max() > 7 for image, pair in zip(found.images, batch['inputs'], strict=True))
    assert attack.budgets(4) == attack.attack.budgets(4)


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match='the source .*nowhere.py does not exist'):
        TransferAttack(str(tmp_path / 'nowhere.py'), str(tmp_path / 'x.pth'), ATTACK)


def banked(bank, names):
    """A batch of a bank's clean images."""
    batch = pair_batch([(40, 48)] * len(names))
    batch['inputs'] = [bank.read('clean', name)[1] for name in names]
    for sample, name in zip(batch['data_samples'], names, strict=True):
        sample.set_metainfo({'img_path': f'elsewhere/{int(name)}.png'})
    return batch


def test_a_bank_shows_its_images(tmp_path):
    bank = noise_bank(tmp_path, count=3)
    model, names = build_model(tiny_segformer()).eval(), bank.names[::-1]
    attack = BankAttack(str(tmp_path), 'heavy')
    found = attack(model, banked(bank, names), index=[2, 0])
    for image, clean, name in zip(found.images, found.clean, (names[2], names[0]), strict=True):
        attacked, before = bank.read('heavy', name)
        assert torch.equal(image, attacked.float())
        assert torch.equal(clean, before.float())
        assert (image - clean).abs().max() == 4
    assert attack.budgets(4) == [Budget(slice(0, 4), pytest.approx(LEVELS['heavy'] * 255), 0.0)]


def test_a_bank_refuses_what_it_does_not_hold(tmp_path):
    bank = noise_bank(tmp_path, count=2)
    model = build_model(tiny_segformer()).eval()
    with pytest.raises(ValueError, match="has the levels small, moderate, heavy, not 'huge'"):
        BankAttack(str(tmp_path), 'huge')
    attack = BankAttack(str(tmp_path), 'small')
    batch = banked(bank, bank.names)
    batch['data_samples'][1].set_metainfo({'img_path': 'some/9.png'})
    with pytest.raises(NoTransferError, match='holds no 9.png'):
        attack(model, batch)
    attack(model, batch, index=[0])
    batch['inputs'][0] = batch['inputs'][0].clone()
    batch['inputs'][0][0, 0, 0] ^= 1
    with pytest.raises(NoTransferError, match='holds another 0.png'):
        attack(model, batch, index=[0])
    batch['inputs'][0] = bank.read('clean', bank.names[0])[1][:, :32]
    with pytest.raises(NoTransferError, match=r'of the shape \(4, 40, 48\) instead of \(4, 32, 48\)'):
        attack(model, batch, index=[0])


@pytest.mark.parametrize(('ir', 'vis'), [(3.0, 40.0), (25.5, 0.0), (0.4, 12.0)])
def test_rounding_keeps_each_modality_in_its_l2_ball(ir, vis):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (4, 20, 24), generator=generator).byte()
    budgets = [Budget(slice(0, 3), vis, 0), Budget(slice(3, 4), ir, 0)]
    (attacked,), _ = projected_gradient(
        lambda images, progress: torch.stack([x[:, :9, :9].sum() for x in images]), [clean.float()], budgets, 1, 'l2'
    )
    rounded = round_into_ball(attacked + 0.3, clean, budgets, norm='l2').float() - clean.float()
    assert rounded[:3].norm() <= vis + 1e-3
    assert rounded[3:].norm() <= ir + 1e-3
    assert (rounded[:3].norm() > 0) == (vis > 0)


@pytest.mark.parametrize(('ir', 'vis', 'levels'), [(2.0, 8.0, (2, 8)), (3.7, 0.6, (3, 0)), (0.0, 1.0, (0, 1))])
def test_rounding_keeps_each_modality_in_its_linf_ball(ir, vis, levels):
    generator = torch.Generator().manual_seed(0)
    clean = torch.randint(0, 256, (4, 20, 24), generator=generator).byte()
    budgets = [Budget(slice(0, 3), vis, 0), Budget(slice(3, 4), ir, 0)]
    attacked = clean + 30 * torch.randn(clean.shape, generator=generator)
    rounded = round_into_ball(attacked, clean, budgets).int() - clean.int()
    assert (rounded[3:].abs().max(), rounded[:3].abs().max()) == levels
