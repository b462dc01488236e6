"""Patches and universal perturbations: what is learned where the best one is known, and how it is shown."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers import build_model, pair_batch, tiny_segformer
from test_robustness.benches import Scenes, bench, trained
from test_robustness.benches import untrained as segmentor

from paif_mm.attacks import PatchAttack, PixelLoss, UniversalPerturbation, frozen
from paif_mm.attacks.bank import write_pair
from paif_mm.attacks.frozen import fingerprint
from paif_mm.attacks.patches import (
    PatchRange,
    checked_scale,
    grey_level,
    learn_patch,
    learn_universal,
    paste,
    random_place,
)


class Brightness:
    """An objective whose best perturbation is known: bright and hot on the left, dark and cold on the right of it."""

    def __init__(self, signs=(1.0, 1.0, -1.0, 1.0)):
        self.signs = torch.tensor(signs)[:, None, None]

    def __call__(self, model, inputs, data_samples, clean, training, progress=1.0):
        return torch.stack([(self.signs * image).mean() for image in inputs])


@pytest.fixture(scope='module')
def model():
    return build_model(tiny_segformer()).eval()


def batches(count: int):
    return (pair_batch(seed=i) for i in range(count))


def test_the_best_patch_is_found(model):
    mark = fingerprint(model)
    patch = learn_patch(model, batches(60), size=8, objective=Brightness())
    assert patch.shape == (4, 8, 8)
    assert patch.dtype == torch.uint8
    for channel, value in enumerate((255, 255, 0, 255)):
        assert (patch[channel] == value).all()
    assert fingerprint(model) == mark


class Flat(torch.nn.Module):
    """A preprocessor that notes what it draws and lets no gradient pass: it rounds, or leaves the graph."""

    def __init__(self, preprocessor, detaches: bool = False):
        super().__init__()
        self.preprocessor, self.steps, self.drawn = preprocessor, torch.nn.Identity(), []
        self.steps.forward = lambda image: image.detach() if detaches else image.round()

    def forward(self, data, training=False):
        self.drawn.append(float(torch.rand(())))
        return self.preprocessor({**data, 'inputs': [self.steps(image) for image in data['inputs']]}, training)


def slopes(model, **adaptive):
    scenes = [Scenes(1)[0]]
    batch = {key: [item[key] for item in scenes] for key in scenes[0]}
    return learn_universal(model, [batch], 8 / 255, objective={'type': 'TaskLoss'}, **adaptive)


def test_what_is_learned_takes_the_way_around_a_defence():
    """Rounded pixels have slopes of 0, which move nothing; those of the identity are those without the defence."""
    free = slopes(segmentor())
    assert free.abs().max() > 0.1
    model = segmentor()
    model.data_preprocessor = Flat(model.data_preprocessor)
    assert not slopes(model).any()
    surrogate = {'data_preprocessor': {'steps': 'identity'}}
    assert torch.equal(slopes(model, bpda=surrogate), free)
    patches = [
        learn_patch(model, [bench(model).batch([Scenes()[0]])], size=8, bpda=bpda).float() for bpda in (None, surrogate)
    ]
    assert (patches[0] - patches[1]).abs().median() == 8, 'a step of 8/255, but at the ends of the range'


def test_what_is_learned_averages_over_draws():
    model = segmentor()
    model.data_preprocessor = Flat(model.data_preprocessor)
    for samples in (1, 3):
        model.data_preprocessor.drawn.clear()
        slopes(model, eot_samples=samples)
        assert len(set(model.data_preprocessor.drawn)) == samples
    torch.testing.assert_close(slopes(segmentor(), eot_samples=2), slopes(segmentor()))


class Weighed:
    """An objective whose slope towards each channel is what the model says."""

    def __call__(self, model, inputs, data_samples, clean, training, progress=1.0):
        return torch.stack([(model.says[:, None, None] * image).mean() for image in inputs])


def test_no_model_of_a_bank_outweighs_another():
    """A thousandfold loss pulls its own channel up and the next one down; the other model, scaled alike, turns that."""
    loud, quiet = segmentor(), segmentor(1)
    loud.says, quiet.says = torch.tensor([1e3, -1e3, 0, 0]), torch.tensor([0, 1.0, 0, 0])
    batch = {key: [item[key] for item in [Scenes(1)[0]]] for key in Scenes(1)[0]}
    delta = learn_universal(loud, [batch], 10 / 255, objective=Weighed(), others=[{'model': quiet}])
    assert [sorted(channel.unique().tolist()) for channel in delta] == [[1.0], [1.0], [0.0], [0.0]]
    alone = learn_universal(loud, [batch], 10 / 255, objective=Weighed())
    assert [sorted(channel.unique().tolist()) for channel in alone] == [[1.0], [-1.0], [0.0], [0.0]]
    same = learn_universal(loud, [batch], 10 / 255, objective=Weighed(), others=[{'model': loud}])
    assert torch.equal(same, alone)


def test_a_model_out_of_the_graph_is_told():
    model = segmentor()
    model.data_preprocessor = Flat(model.data_preprocessor, detaches=True)
    with pytest.raises(ValueError, match='no gradient of TaskLoss reaches the images: give the module'):
        slopes(model)
    assert slopes(model, bpda={'data_preprocessor.steps': 'identity'}).any()


def test_a_patch_keeps_to_what_is_physical(model):
    limits = PatchRange(visible=(0.1, 0.9), infrared=(0.2, 0.6), blocks=4)
    patch = learn_patch(model, batches(60), size=8, objective=Brightness(), limits=limits)
    assert patch[0].unique().tolist() == [230]
    assert patch[2].unique().tolist() == [26]
    assert patch[3].unique().tolist() == [153]
    halves = learn_patch(model, batches(3), size=8, objective=Brightness(), limits=limits)[3]
    assert set(halves.unique().tolist()) <= {51, 153}, 'hot or cold, nothing between'
    blocks = halves.view(4, 2, 4, 2).permute(0, 2, 1, 3).reshape(16, 4)
    assert (blocks == blocks[:, :1]).all(), 'each block is of one temperature'


@pytest.mark.parametrize(('modality', 'kept'), [('ir', slice(0, 3)), ('vis', slice(3, 4))])
def test_one_modality_alone_is_covered(model, modality, kept, tmp_path):
    patch = learn_patch(model, batches(2), size=8, modality=modality, objective=Brightness())
    assert (patch[kept] == 127).all()
    write_pair(tmp_path / 'patch.png', patch)
    attack = PatchAttack(str(tmp_path / 'patch.png'), modality)
    found = attack(model, pair_batch(), rng=[torch.Generator().manual_seed(i) for i in range(2)])
    for image, clean in zip(found.images, found.clean, strict=True):
        assert torch.equal(image[kept], clean[kept])
        assert not torch.equal(image, clean)


def test_degrees_become_grey_levels():
    assert grey_level(30, 10, 50) == 0.5
    assert grey_level(0, 10, 50) == 0
    assert grey_level(90, 10, 50) == 1
    with pytest.raises(ValueError, match='range must be rising'):
        grey_level(0, 50, 10)


def test_a_pasted_patch_is_where_and_as_large_as_it_is_said_to_be():
    image, patch = torch.zeros(4, 20, 30), torch.full((4, 8, 8), 200.0)
    shown, covered = paste(image, patch, slice(0, 4), 5, 3, 10)
    assert covered.sum() == 25
    assert covered[3:8, 10:15].all()
    assert (shown[:, covered] - 200).abs().max() < 1e-3
    assert (shown[:, ~covered] == 0).all()
    half = torch.cat([torch.zeros(4, 8, 4), torch.full((4, 8, 4), 100.0)], 2)
    same = paste(image, half, slice(0, 4), 8, 0, 0)[0]
    torch.testing.assert_close(same[:, :8, :8], half)


def test_places_are_anywhere_within_the_image():
    g = torch.Generator().manual_seed(0)
    places = [random_place((20, 30), (0.2, 0.4), g) for _ in range(3000)]
    sides = Counter(side for side, _, _ in places)
    assert set(sides) == {4, 5, 6, 7, 8}
    assert min(sides.values()) > 500
    assert {top for side, top, _ in places if side == 4} == set(range(17))
    assert {left for side, _, left in places if side == 8} == set(range(23))
    assert random_place((20, 30), (1.0, 1.0), g)[:2] == (20, 0)


def test_what_a_patch_covers_has_no_label(model):
    seen = []

    class Watching(Brightness):
        def __call__(self, model, inputs, data_samples, *args):
            seen.append(torch.stack([sample.gt_sem_seg.data == 255 for sample in data_samples]))
            return super().__call__(model, inputs, data_samples, *args)

    batch = pair_batch(ignored=False)
    learn_patch(model, [batch], size=8, objective=Watching(), scale=(0.5, 0.5))
    assert seen[0].flatten(1).sum(1).tolist() == [256, 256], 'a square of half of 32 pixels'
    assert not any((sample.gt_sem_seg.data == 255).any() for sample in batch['data_samples'])


def test_the_best_universal_perturbation_is_found(model):
    delta = learn_universal(model, batches(12), 8 / 255, objective=Brightness())
    assert delta.shape == (4, 32, 40)
    for channel, sign in enumerate((1, 1, -1, 1)):
        assert (delta[channel] == 8 * sign).float().mean() > 0.95, 'but for values at the end of the range'
    alone = learn_universal(model, batches(12), 8 / 255, 'ir', objective=Brightness())
    assert not alone[:3].any()
    assert alone[3].abs().max() == 8


def test_a_universal_perturbation_harms_images_that_it_has_not_seen(tmp_path):
    model, scenes, others = trained(), Scenes(8, seed=3), Scenes(2, seed=5)
    items = [scenes[i] for i in range(8)]
    drawn = ({key: [items[i][key], items[(i + 1) % 8][key]] for key in items[0]} for _ in range(3) for i in range(8))
    eps = 16 / 255
    delta = learn_universal(model, drawn, eps, objective={'type': 'PixelLoss'})
    np.save(tmp_path / 'u.npy', delta.numpy())
    batch = bench(model, others).batch([others[0], others[1]])
    attack = UniversalPerturbation(str(tmp_path / 'u.npy'), eps)
    found = attack(model, batch)
    noise = [(clean + 16 * torch.randn_like(clean).sign()).clamp(0, 255) for clean in found.clean]

    def lost(images):
        with frozen(model), torch.no_grad():
            return PixelLoss()(model, images, batch['data_samples'], images, False).harm.mean()

    assert max((a - c).abs().max() for a, c in zip(found.images, found.clean, strict=True)) <= 16
    assert lost(found.images) > lost(noise) + 0.05
    assert [budget.eps for budget in attack.budgets(4)] == [16]


def test_mistakes_are_told(model, tmp_path):
    with pytest.raises(FileNotFoundError, match='learn it by tools/learn_patch.py'):
        PatchAttack('nowhere.png')
    with pytest.raises(FileNotFoundError, match='--universal'):
        UniversalPerturbation('nowhere.npy', 0.1)
    write_pair(tmp_path / 'three.png', torch.zeros(3, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match='has 3 channels, but a patch has B, G, R and IR'):
        PatchAttack(str(tmp_path / 'three.png'))
    np.save(tmp_path / 'u.npy', np.full((4, 32, 40), 9.0, np.float32))
    with pytest.raises(ValueError, match='goes as far as 9/255, not 8'):
        UniversalPerturbation(str(tmp_path / 'u.npy'), 8 / 255)
    with pytest.raises(ValueError, match=r'was learned on images \(4, 32, 40\), but one is \(4, 24, 40\)'):
        UniversalPerturbation(str(tmp_path / 'u.npy'), 9 / 255)(model, pair_batch([(24, 40)]))
    with pytest.raises(ValueError, match='images of one size'):
        learn_universal(model, [pair_batch([(24, 40), (32, 40)])], 0.1)
    with pytest.raises(ValueError, match='but there are none'):
        learn_universal(model, [], 0.1)
    with pytest.raises(ValueError, match='scale must be two shares'):
        checked_scale((0.5, 0.2))
    with pytest.raises(ValueError, match='the infrared range must be rising'):
        PatchRange(infrared=(0.5, 0.5))
    with pytest.raises(ValueError, match='a patch covers pairs'):
        paste(torch.zeros(3, 8, 8), torch.zeros(4, 2, 2), slice(0, 3), 2, 0, 0)
