"""Every planted way of hiding gradients is caught, and an honest model is not accused."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import box_batch, build_model, tiny_fcos
from test_robustness.benches import (
    LivelierModality,
    MaximumFusion,
    Scenes,
    bench,
    trained,
)
from torch import nn

from paif_mm.attacks import PixelLoss
from paif_mm.perception import find_fuser
from paif_mm.robustness.cases import config_case, make_suite
from paif_mm.robustness.diagnostics import CHECKS, THREAT_CHECKS, VERDICTS, Finding, Probe, overall
from paif_mm.robustness.evaluate import Bench, evaluate
from paif_mm.robustness.masking import diagnose, suite_blind
from paif_mm.robustness.records import Records

EPS = 8 / 255
EVERY = {**CHECKS, **THREAT_CHECKS}


@pytest.fixture(scope='module')
def honest():
    return trained()


def probe_of(model, **settings) -> Probe:
    return Probe(bench(model), [0, 1, 2], EPS, **{'steps': 20, 'queries': 60, **settings})


def finding(model, check: str, **settings) -> Finding:
    return EVERY[check](probe_of(model, **settings))


class Defence(nn.Module):
    """A preprocessor behind a change of the raw images."""

    def __init__(self, preprocessor, change):
        super().__init__()
        self.preprocessor, self.change = preprocessor, change

    def forward(self, data, training=False):
        return self.preprocessor({**data, 'inputs': self.change([x.float() for x in data['inputs']])}, training)


def defended(honest, change):
    """A copy of a model whose images are changed first."""
    model = copy.deepcopy(honest)
    model.data_preprocessor = Defence(model.data_preprocessor, change)
    return model.eval()


def one_by_one(function):
    return lambda images: [function(image) for image in images]


def stretched_together(images):
    """The darkest and the lightest value of the batch become 50 and 180."""
    low, high = min(image.min() for image in images), max(image.max() for image in images)
    return [(image - low) / (high - low) * 130 + 50 for image in images]


def keeps_its_accuracy(model, honest) -> bool:
    """A cheat that predicts nothing would be no defence."""
    accuracy = [np.mean(p.worths([p.pixels(b) for b in p.batches])) for p in (probe_of(model), probe_of(honest))]
    return accuracy[0] > accuracy[1] - 0.1


def test_an_honest_model_passes_every_check(honest):
    probe = Probe(bench(honest), [0, 1], 2 * EPS, steps=40, queries=60)
    assert probe.worth([probe.pixels(batch) for batch in probe.batches]) > 0.95, 'it has not learnt its task'
    findings = {name: check(probe) for name, check in EVERY.items()}
    assert {name: it.verdict for name, it in findings.items()} == dict.fromkeys(EVERY, 'passed')
    assert all(it.check == name and it.evidence for name, it in findings.items())
    assert overall([it.to_dict() for it in findings.values()]) == 'passed'
    curve = findings['loss against steps'].figures['loss']
    assert curve[-1] > 3 * curve[0], 'an attack that does nothing proves nothing'
    assert findings['gradient direction'].figures['kept'] == pytest.approx(1, abs=0.1)


class Boxes:
    """Two pairs with two boxes each, as mmdet's data sets give them."""

    metainfo = {'classes': ('a', 'b', 'c')}
    batch = box_batch()

    def __getitem__(self, i):
        return {key: values[i] for key, values in self.batch.items()}

    def get_data_info(self, i):
        return {'img_path': f'{i}.png'}


def test_an_honest_detector_is_not_accused():
    probe = Probe(Bench(build_model(tiny_fcos()).eval(), Boxes(), [0, 1]), [0, 1], EPS)
    for check in (*list(CHECKS)[:6], 'loss against steps'):  # the others ask for accuracy, and it has learnt nothing
        found = EVERY[check](probe)
        assert found.verdict == 'passed', found


def test_a_detector_that_looks_at_its_batch_is_caught():
    model = build_model(tiny_fcos()).eval()
    model.bbox_head.conv_cls.weight.data *= 30  # untrained scores hardly depend on the image
    probe = Probe(Bench(model, Boxes(), [0, 1]), [0, 1], EPS)
    assert CHECKS['independence of the batch'](probe).verdict == 'passed'
    model.data_preprocessor = Defence(model.data_preprocessor, centred_together).eval()
    found = CHECKS['independence of the batch'](probe)
    assert found.verdict == 'failed'
    assert found.figures['difference'] > 0.01


def centred_together(images):
    mean = sum(image.mean() for image in images) / len(images)
    return [image - mean + 127 for image in images]


def test_images_without_labels_are_left_out(honest):
    scenes = Scenes()
    scenes.items[1][1][:] = 255
    probe = Probe(bench(honest, scenes), [0, 1, 2], EPS)
    assert (probe.images, probe.names, len(probe.batches)) == ([0, 2], ['0.png', '2.png'], 2)
    assert replace(probe, worst={'0.png': 1.0}).images == [0, 2]
    assert CHECKS['input gradients'](probe).verdict == 'passed', 'an image without a loss has no gradient'
    with pytest.raises(ValueError, match='need images with labels'):
        Probe(bench(honest, scenes), [1], EPS)


def test_a_quantising_preprocessor_is_caught(honest):
    model = defended(honest, one_by_one(lambda image: (image / 8).round() * 8))
    assert keeps_its_accuracy(model, honest)
    found = finding(model, 'input gradients')
    assert found.verdict == 'failed'
    assert 0.9 < found.figures.pop('hidden') <= 1
    assert found.figures == {
        'zero_share': 1.0,
        'dead_images': 3,
        'broken_share': 0.0,
        'blind': 0,
        'attacks': 0,
        'size': 0.0,
        'saturated_share': 0.0,
    }
    assert '100.0% of the gradient values of a channel are exactly 0; 3 of 3 images' in found.evidence
    assert 'to pixel values whose gradient is 0 the prediction reacts: ' in found.evidence
    assert finding(model, 'loss against steps').verdict == 'failed'
    black = finding(model, 'black box against white box')
    assert black.verdict == 'failed'
    assert black.figures['square60']['black_box'] < black.figures['square60']['white_box'] - 0.01


def test_who_knows_the_quantising_is_not_told_of_hidden_gradients(honest):
    """What attacks differentiate in its place has all of its gradients, and they lead somewhere."""
    quantise = Quantised()
    model = defended(honest, one_by_one(quantise))
    model.data_preprocessor.quantise = quantise
    known = {'adaptive': {'bpda': {'data_preprocessor.quantise': 'identity'}}}
    for check in ('input gradients', 'gradient direction', 'loss against steps', 'very large radius'):
        assert finding(model, check).verdict == 'failed', check
        assert finding(model, check, **known).verdict in ('passed', 'suspect'), check
    assert finding(model, 'input gradients', **known).figures['zero_share'] < 0.2


class Quantised(nn.Module):
    def forward(self, image):
        return (image / 8).round() * 8


def test_a_random_defence_that_attacks_average_over_is_suspect(honest):
    model = defended(honest, one_by_one(lambda image: image + 4 * torch.randn_like(image)))
    assert finding(model, 'repeatability').verdict == 'failed'
    found = finding(model, 'repeatability', adaptive={'eot_samples': 3})
    assert found.verdict == 'suspect'
    assert found.evidence.endswith('the attacks averaged over 3 draws for each step')
    assert finding(model, 'loss against steps', adaptive={'eot_samples': 3}).verdict == 'passed'


def test_checks_of_a_random_model_draw_the_same_again(honest, tmp_path):
    it = bench(defended(honest, one_by_one(lambda image: image + 4 * torch.randn_like(image))))
    cases = make_suite('paper', 'mIoU', (EPS,))
    found = []
    for seed in (1, 2):
        records = Records(tmp_path / str(seed), {})
        torch.manual_seed(seed)
        evaluate(it, cases, records, quality=False, progress=False)
        found.append(diagnose(it, cases, records, [0], EPS, steps=3, queries=9, progress=False))
        records.close()
    assert found[0] == found[1]


def test_a_preprocessor_that_cuts_gradients_is_caught(honest):
    """As files or numpy in between do; attacks then start, and get nowhere."""
    cut = defended(honest, one_by_one(lambda image: image.detach().byte().float()))
    found = finding(cut, 'input gradients')
    assert found.verdict == 'failed'
    assert found.figures['dead_images'] == 3
    assert finding(cut, 'loss against steps').verdict == 'failed'
    assert finding(cut, 'very large radius').verdict == 'failed'


def test_a_random_noise_defence_is_caught(honest):
    model = defended(honest, one_by_one(lambda image: image + 4 * torch.randn_like(image)))
    assert keeps_its_accuracy(model, honest)
    found = finding(model, 'repeatability')
    assert found.verdict == 'failed'
    assert found.figures['difference'] > 0.01
    assert f'{found.figures["difference"]:.1e}' in found.evidence


def staircase(image, width=8):
    """Flat steps with a hard clamp between them, steep over an eighth of the way."""
    place = image / width
    return width * (place.floor() + (8 * (place - place.floor()) - 3.5).clamp(0, 1))


def test_a_gradient_shattering_clamp_is_caught(honest):
    model = defended(honest, one_by_one(staircase))
    assert keeps_its_accuracy(model, honest)
    found = finding(model, 'input gradients')
    assert found.verdict == 'failed'
    assert found.figures['zero_share'] > 0.5
    assert found.figures['dead_images'] == 0, 'all zero would be the quantising defence'
    assert f'{found.figures["zero_share"]:.1%}' in found.evidence


def test_a_ripple_that_shatters_gradients_is_caught(honest):
    model = defended(honest, one_by_one(lambda image: image + 2 * torch.sin(100 * image)))
    assert keeps_its_accuracy(model, honest)
    assert finding(model, 'input gradients').verdict == 'passed', 'its gradients are large'
    found = finding(model, 'gradient direction')
    assert found.verdict == 'failed'
    assert found.figures['kept'] < 0.1
    assert f'keeps {found.figures["kept"]:.2f} of what it promises' in found.evidence


def test_a_ripple_that_only_short_steps_can_follow_is_caught(honest):
    """Gradients keep their promise over a quarter of a level, and lead nowhere over an attack's steps."""
    model = defended(honest, one_by_one(lambda image: image + 2 * torch.sin(5 * image)))
    assert keeps_its_accuracy(model, honest)
    assert finding(model, 'input gradients').verdict == 'passed'
    direction = finding(model, 'gradient direction')
    assert direction.verdict == 'failed'
    assert 0.5 < direction.figures['near']['all'] < 2, 'short steps get what they are promised'
    assert max(direction.figures['far'].values()) < 0.1
    steps = finding(model, 'loss against steps')
    assert steps.verdict == 'failed'
    assert steps.figures['loss'][-1] < steps.figures['loss'][0]
    found = finding(model, 'black box against white box')
    assert found.verdict == 'failed'
    row = found.figures['square60']
    assert row['white_box'] - row['black_box'] > 0.01
    assert f'square60 {row["black_box"]:.3f} against {row["white_box"]:.3f}' in found.evidence


def test_a_sawtooth_whose_gradients_point_the_wrong_way_is_caught(honest):
    def sawtooth(image):
        steps = 8 * (image / 8).round()
        return steps - 0.5 * (image - steps)

    model = defended(honest, one_by_one(sawtooth))
    assert keeps_its_accuracy(model, honest)
    assert finding(model, 'input gradients').verdict == 'passed', 'none of them is small'
    found = finding(model, 'loss against steps')
    assert found.verdict == 'failed'
    assert found.figures['loss'][-1] < found.figures['loss'][0]
    assert f'{found.figures["loss"][-1]:.3f} after 20' in found.evidence
    left = finding(model, 'very large radius')
    assert left.verdict == 'failed'
    assert left.figures['attacked'] > 0.3 * left.figures['clean']


def test_shattering_of_some_images_is_caught(honest):
    """Three of eight, which no median tells."""
    scenes = Scenes(8)
    brightness = [float(image[3].float().mean()) for image, _ in scenes.items]
    limit = (sorted(brightness)[4] + sorted(brightness)[5]) / 2
    model = defended(honest, one_by_one(lambda image: ripple(image) if image[3].mean() > limit else image))
    probe = Probe(bench(model, scenes), list(range(8)), EPS, steps=10, queries=100)
    found = EVERY['gradient direction'](probe)
    assert min(*found.figures['near'].values(), *found.figures['far'].values()) > 0.9, 'the median image is honest'
    assert found.figures['broken'] == 3 / 8
    assert 'on 3 of 8 images gradients of a channel break their promise' in found.evidence
    assert found.verdict == 'failed'
    few = replace(probe, images=[i for i in range(8) if brightness[i] < limit])
    assert EVERY['gradient direction'](few).verdict == 'passed', 'the others are honest'


class MoreBoxes(Boxes):
    batch = box_batch([(32, 40)] * 3)


def test_shattering_of_some_images_is_caught_of_detectors_in_one_stage():
    """Losses of single images jump where another proposal is sampled: in two stages it is no proof."""
    model = sure_detector()
    brightest = max(image[3].float().mean() for image in MoreBoxes.batch['inputs'])
    found = []
    for change in (lambda x: x, lambda x: ripple(x) if x[3].mean() > brightest - 1e-3 else x):
        probe = Probe(Bench(defended(model, one_by_one(change)), MoreBoxes(), range(3)), [0, 1, 2], EPS, threat='ir')
        found.append(EVERY['gradient direction'](probe))
    probe.bench.model.roi_head = nn.Identity()
    found.append(EVERY['gradient direction'](probe))
    assert [it.verdict for it in found] == ['passed', 'failed', 'suspect']
    assert [it.figures['broken'] for it in found] == [0, 1 / 3, 1 / 3]


def test_large_leads_without_gradients_count_on_some_images_alone(honest):
    """A lead of 10 points on 1 of 8, although attacks with gradients are far ahead in the mean; not so of boxes."""
    probe = Probe(bench(honest, Scenes(8)), list(range(8)), EPS)
    probe.worst = dict.fromkeys(probe.names, 0.5)
    probe.black = {'square9': dict.fromkeys(probe.names, 0.9) | {'0.png': 0.4}}
    found = EVERY['black box against white box'](probe)
    assert found.figures['square9']['clear_wins'] == 1 / 8
    assert 'worse on 12% of 8, by more than 0.05 on 12%' in found.evidence
    assert found.verdict == 'failed'
    detector = Probe(Bench(build_model(tiny_fcos()).eval(), Boxes(), [0, 1]), [0, 1], EPS)
    detector.worths = lambda images: np.ones(2)  # it has learnt nothing, and random signs leave as much of it
    detector.worst = {'0.png': 0.5, '1.png': 0.5}
    detector.black = {'square9': {'0.png': 0.25, '1.png': 0.9}}
    assert EVERY['black box against white box'](detector).verdict == 'suspect', 'AP50 turns on a single box'


def predicting_by(model, change):
    """A copy whose test step alone sees changed images, behind preprocessing."""

    kind = type(model)

    def predict(self, inputs, data_samples=None, **kwargs):
        return kind.predict(self, change(inputs), data_samples, **kwargs)

    model = copy.deepcopy(model)
    model.__class__ = type(kind.__name__, (kind,), {'predict': predict})
    return model


OTHERWISE = {
    'rounded': lambda x: (2.5 * x).round() / 2.5,
    'blurred': lambda x: nn.functional.avg_pool2d(x, 9, 1, 4),
}


@pytest.mark.parametrize('name', [*OTHERWISE, 'other weights'])
def test_a_segmentor_that_predicts_by_something_else_is_caught(honest, name):
    if name == 'other weights':
        other = trained(seed=2)
        model = predicting_by(honest, lambda x: x)
        model.__class__.predict = lambda self, *args, **kwargs: other.predict(*args, **kwargs)
    else:
        model = predicting_by(honest, OTHERWISE[name])
    assert keeps_its_accuracy(model, honest)
    found = finding(model, 'what is attacked is what predicts')
    assert found.verdict == 'failed'
    assert found.figures['attacked'] > 0.005
    assert f'{found.figures["attacked"]:.2%} of an attacked one' in found.evidence
    assert found.evidence.endswith('by --bpda where it has no gradient')
    for check in ('input gradients', 'gradient direction', 'repeatability', 'loss against steps'):
        assert finding(model, check).verdict == 'passed', 'no other check sees it'


class Resized(Scenes):
    """Shown at another size than that of the labels, as a Resize of a test pipeline does."""

    def __getitem__(self, index):
        item = super().__getitem__(index)
        small = nn.functional.interpolate(item['inputs'][None].float(), size=(32, 44), mode='bilinear')[0]
        item['inputs'] = small.round().byte()
        item['data_samples'].set_metainfo({'img_shape': (32, 44)})
        return item


@pytest.mark.parametrize('noise', [0, 4])
def test_resizing_and_known_noise_are_not_taken_for_something_else(honest, noise):
    model = defended(honest, one_by_one(lambda image: image + noise * torch.randn_like(image)))
    found = EVERY['what is attacked is what predicts'](Probe(bench(model, Resized()), [0, 1], EPS))
    assert found.figures == {'clean': 0, 'attacked': 0}
    assert found.verdict == 'passed'


class AtTest(Defence):
    """A change of raw images in tests alone."""

    def forward(self, data, training=False):
        return self.preprocessor(data, training) if training else super().forward(data, training)


def sure_detector():
    model = build_model(tiny_fcos()).eval()
    model.bbox_head.conv_cls.weight.data *= 30  # untrained scores hardly depend on the image
    return model


@pytest.mark.parametrize('name', ['honest', 'rounded', 'grey', 'rounded behind preprocessing', 'elsewhere', 'constant'])
def test_a_detector_that_predicts_by_something_else_is_caught(name):
    model = sure_detector()
    if name in ('rounded', 'grey'):
        change = (lambda image: (image / 32).round() * 32) if name == 'rounded' else (lambda image: image * 0 + 127)
        model.data_preprocessor = AtTest(model.data_preprocessor, one_by_one(change)).eval()
    elif name == 'rounded behind preprocessing':
        model = predicting_by(model, OTHERWISE['rounded'])
    elif name == 'elsewhere':
        other = sure_detector()
        model = predicting_by(model, lambda x: x)
        model.__class__.predict = lambda self, *args, **kwargs: other.predict(*args, **kwargs)
    elif name == 'constant':
        model.bbox_head.predict_by_feat = constant(model.bbox_head.predict_by_feat)
    found = EVERY['what is attacked is what predicts'](Probe(Bench(model, Boxes(), [0, 1]), [0, 1], EPS))
    assert found.verdict == ('passed' if name == 'honest' else 'failed'), found
    assert found.figures['reacts'] == (name not in ('grey', 'constant'))
    assert (max(found.figures['clean'], found.figures['attacked']) > 0.01) == (name not in ('honest', 'constant'))
    assert found.evidence.endswith('by --bpda where it has no gradient') == (name != 'honest')


def constant(predict):
    """What a head answers to the first image, whatever it is shown."""
    answers = []

    def predict_by_feat(*args, **kwargs):
        answers[:] = answers or [predict(*args, **kwargs)]
        return copy.deepcopy(answers[0])

    return predict_by_feat


def test_a_batch_normalising_stretch_is_caught(honest):
    model = defended(honest, stretched_together)
    found = finding(model, 'independence of the batch')
    assert found.verdict == 'failed'
    assert found.figures['difference'] > 0.05
    assert f'{found.figures["difference"]:.1e}' in found.evidence
    assert finding(model, 'repeatability').verdict == 'passed', 'a batch of one is not told from itself'


@pytest.mark.parametrize('kept_in', ['buffer', 'attribute'])
def test_a_defence_with_memory_is_caught(honest, kept_in):
    class Memory(Defence):
        def __init__(self, preprocessor):
            super().__init__(preprocessor, one_by_one(self.centred))
            if kept_in == 'buffer':
                self.register_buffer('mean', torch.tensor(100.0))
            else:
                self.mean = torch.tensor(100.0)

        def centred(self, image):
            self.mean = 0.9 * self.mean + 0.1 * image.detach().mean()
            return image + 100 - self.mean

    model = copy.deepcopy(honest)
    model.data_preprocessor = Memory(model.data_preprocessor)
    found = finding(model.eval(), 'state and modes')
    assert found.verdict == 'failed'
    assert found.figures['changed'] == (kept_in == 'buffer')
    assert found.figures['drift'] > 1e-3
    assert f'drifts by {found.figures["drift"]:.1e}' in found.evidence


@pytest.mark.parametrize('stubborn', [True, False])
def test_a_module_left_in_training_mode_is_caught(honest, stubborn):
    """For good, or because someone forgot it."""
    model = copy.deepcopy(honest)
    dropout = model.decode_head.dropout = nn.Dropout2d(0.0)  # so that nothing else gives it away
    dropout.train()
    if stubborn:
        dropout.train = lambda mode=True: dropout
    found = finding(model, 'state and modes')
    assert found.verdict == 'failed'
    assert found.figures['training'] == ['decode_head.dropout']
    assert (found.figures['changed'], found.figures['drift']) == (False, 0.0)
    assert 'decode_head.dropout' in found.evidence
    assert dropout.training, 'a check leaves no trace'


def test_batch_norm_without_statistics_of_its_own_is_caught(honest):
    model = copy.deepcopy(honest)
    norm = model.backbone[1]
    norm.running_mean = norm.running_var = None
    found = finding(model, 'state and modes')
    assert found.verdict == 'failed'
    assert found.figures['without_statistics'] == ['backbone.1']
    assert finding(model, 'independence of the batch').verdict == 'failed'


def test_vanishing_gradients_are_caught(honest):
    """Logits so large that the softmax is 1 and 0 for floats: right pixels give no gradient at all."""
    model = copy.deepcopy(honest)
    model.decode_head.conv_seg.weight.data *= 1e3
    model.decode_head.conv_seg.bias.data *= 1e3
    assert keeps_its_accuracy(model, honest)
    found = finding(model, 'input gradients')
    assert found.verdict == 'failed'
    assert found.figures['saturated_share'] > 0.95
    assert f'{found.figures["saturated_share"]:.1%} of the labelled pixels' in found.evidence
    assert finding(honest, 'input gradients').figures['saturated_share'] == 0


def test_a_radius_that_leaves_accuracy_is_caught(honest):
    """Without any gradient, half of the whole range does no harm."""
    model = defended(honest, one_by_one(lambda image: image.detach() + 0 * image))
    found = finding(model, 'very large radius')
    assert found.verdict == 'failed'
    assert found.figures['attacked'] > 0.3 * found.figures['clean']
    assert f'{found.figures["attacked"]:.3f} of {found.figures["clean"]:.3f} is left at 128/255' in found.evidence


def test_the_large_radius_is_attacked_in_earnest_whatever_steps_the_suite_takes(honest):
    """Eight steps left 70 % of one real image, and an honest model was accused."""
    few, many = (finding(honest, 'very large radius', steps=steps) for steps in (1, 100))
    assert few == many
    assert few.evidence.endswith('after 50 steps of Auto-PGD')


def test_too_few_steps_are_caught(honest):
    found = finding(honest, 'more steps and restarts', steps=3)
    assert found.verdict == 'suspect'
    figures = found.figures
    assert figures['base'] - min(figures['longer'], figures['restarted']) > 0.02
    assert f'{figures["base"]:.3f} after 3 steps' in found.evidence


def test_what_the_suite_found_is_compared_without_attacking_again(honest, monkeypatch):
    probe = probe_of(honest)
    probe.worst = {'0.png': 0.5, '1.png': 0.6}
    probe.black = {'square9': {'0.png': 0.4, '1.png': 0.7, '2.png': 0.0}, 'transfer20': {'0.png': 0.9}}
    monkeypatch.setattr(Probe, 'attacked', lambda *args: pytest.fail('it attacks although all is known'))
    found = EVERY['black box against white box'](probe)
    row = found.figures['square9']
    assert row == {'black_box': pytest.approx(0.55), 'white_box': 0.55, 'wins': 0.5, 'clear_wins': 0.5, 'images': 2}
    assert found.figures['transfer20']['images'] == 1
    assert found.verdict == 'failed', 'equal means, but far worse on one image'
    probe.black['square9'] |= {'0.png': 0.46, '1.png': 0.64}
    assert EVERY['black box against white box'](probe).verdict == 'suspect', 'a little worse on one image'
    probe.black['square9'] |= {'0.png': 0.46, '1.png': 0.6}
    assert EVERY['black box against white box'](probe).verdict == 'failed', 'worse in the mean'


def test_segmentors_are_attacked_by_the_strongest_loss_at_few_steps(honest):
    assert probe_of(honest).strongest == {'type': 'PixelLoss', 'name': 'jensen_shannon'}
    assert isinstance(probe_of(honest).question(probe_of(honest).batches[0]).objective, PixelLoss)


def test_the_worst_verdict_is_the_overall_one():
    verdicts = [{'check': 'repeatability', 'verdict': verdict} for verdict in VERDICTS]
    assert overall(verdicts) == 'failed'
    assert overall(verdicts[:2]) == 'suspect'
    assert overall(verdicts[:1] + verdicts[3:]) == 'passed'
    assert overall([]) == overall(verdicts[3:]) == 'not run'


def in_channels(part, change):
    """A change of some channels of raw images."""

    def changed(image):
        image = image.clone()
        image[part] = change(image[part])
        return image

    return one_by_one(changed)


def ripple(image):
    return image + 2 * torch.sin(5 * image)


class Shattered(nn.Module):
    """A module behind a ripple of what it returns."""

    def __init__(self, module, height: float, waves: float):
        super().__init__()
        self.module, self.height, self.waves = module, height, waves

    def forward(self, *args):
        found = self.module(*args)
        return found + self.height * torch.sin(self.waves * found)


def behind_a_resize(image):
    small = nn.functional.interpolate(image[None], scale_factor=0.5, mode='bilinear', antialias=True)
    return ripple(nn.functional.interpolate(small, image.shape[-2:], mode='bilinear')[0])


def in_the_fusion(model):
    fuser = find_fuser(model)
    fuser.fusion = Shattered(fuser.fusion, 2 / 255, 5 * 255)
    return model


CHEATS = {
    'infrared': lambda honest: defended(honest, in_channels(slice(3, 4), ripple)),
    'one visible channel': lambda honest: defended(honest, in_channels(slice(1, 2), ripple)),
    'one channel, fast': lambda honest: defended(
        honest, in_channels(slice(1, 2), lambda x: x + 2 * torch.sin(100 * x))
    ),
    'behind a resize': lambda honest: defended(honest, one_by_one(behind_a_resize)),
    'fusion network': lambda honest: in_the_fusion(copy.deepcopy(honest)),
}


@pytest.mark.parametrize('cheat', CHEATS)
def test_shattering_in_a_part_of_the_model_is_caught_while_both_modalities_are_attacked(honest, cheat):
    model = CHEATS[cheat](honest)
    assert keeps_its_accuracy(model, honest)
    assert finding(model, 'input gradients').verdict == 'passed', 'its gradients are large'
    found = finding(model, 'gradient direction')
    assert found.verdict == 'failed'
    assert min(found.figures['far'].values()) < 0.1
    if 'visible' in cheat or cheat == 'infrared':
        channel = 'channel 3' if cheat == 'infrared' else 'channel 1'
        assert min(found.figures['far'], key=found.figures['far'].get) in (channel, 'ir')
        assert found.figures['far']['channel 0'] > 0.5, 'the others are honest'
        assert channel in found.evidence or '(ir)' in found.evidence


def test_a_modality_whose_gradients_are_masked_shows_where_it_alone_is_attacked(honest):
    """Attacks on both go around it; of infrared alone, Square takes what gradients can't."""
    model = CHEATS['infrared'](honest)
    for check in ('loss against steps', 'black box against white box'):
        assert finding(model, check, threat='ir').verdict == 'failed', check
        assert finding(honest, check, threat='ir').verdict == 'passed', check
        assert finding(model, check, threat='vis').verdict == 'passed', 'the other one is honest'


def test_shattering_in_a_detectors_head_is_caught():
    model = build_model(tiny_fcos()).eval()
    model.bbox_head.conv_cls.weight.data *= 30  # untrained scores hardly depend on the image
    probe = Probe(Bench(model, Boxes(), [0, 1]), [0, 1], EPS)
    assert EVERY['gradient direction'](probe).verdict == 'passed'
    model.bbox_head.conv_cls = Shattered(model.bbox_head.conv_cls, 0.2, 300.0)
    assert EVERY['input gradients'](probe).verdict == 'passed'
    found = EVERY['gradient direction'](probe)
    assert found.verdict == 'failed', found


def test_a_modality_that_no_prediction_depends_on_hides_nothing(honest):
    model = defended(honest, in_channels(slice(3, 4), torch.zeros_like))
    assert finding(model, 'input gradients').verdict == 'passed', 'the channels that are looked at have gradients'
    assert finding(model, 'gradient direction').verdict == 'passed'
    assert not probe_of(model, threat='ir').reacts()
    assert probe_of(model, threat='vis').reacts()
    assert probe_of(honest, threat='ir').reacts()
    cut = defended(honest, in_channels(slice(3, 4), lambda x: x.detach().round()))
    assert finding(cut, 'input gradients').verdict == 'failed', 'it is looked at, but has no gradient'


def test_gradients_that_the_suite_found_not_to_be_finite_count_by_their_share(honest):
    for blind, verdict in (((0, 400), 'passed'), ((1, 400), 'suspect'), ((4, 400), 'suspect'), ((5, 400), 'failed')):
        found = finding(honest, 'input gradients', blind=blind)
        assert found.verdict == verdict, blind
    assert '5 of 400 attacks of the suite met such' in found.evidence


@pytest.mark.parametrize(('pixels', 'verdict'), [(1, 'suspect'), (1000, 'failed')])
def test_values_without_a_finite_gradient_count_by_their_share(honest, pixels, verdict):
    """A square root of 0 at a corner pixel, or at a third of each image; the others lead attacks as ever."""

    def rooted(image):
        first, rest = image.flatten(1).split([pixels, image[0].numel() - pixels], 1)
        return torch.cat([first + (0 * first).sqrt(), rest], 1).view_as(image)

    model = defended(honest, one_by_one(rooted))
    found = finding(model, 'input gradients')
    assert found.figures['broken_share'] == pytest.approx(pixels / (48 * 64), rel=1e-3)
    assert found.figures['dead_images'] == 0
    assert found.verdict == verdict
    assert finding(model, 'gradient direction').verdict == 'passed', 'bad values do not spoil the others'


def test_every_threat_of_a_suite_is_probed(honest, tmp_path):
    """Through the entry point, with the attacks of the suite; the planted ripple shows in its own modality."""
    it = bench(CHEATS['infrared'](honest))
    cases = make_suite('strong', 'mIoU', (EPS,), ('both', 'ir'), steps=3)
    records = Records(tmp_path, {})
    evaluate(it, cases, records, quality=False, progress=False)
    found = {f['check']: f for f in diagnose(it, cases, records, [0], EPS, steps=3, queries=60, progress=False)}
    records.close()
    assert set(found) == {*EVERY, *(f'{name}, ir' for name in THREAT_CHECKS)}
    assert found['gradient direction']['verdict'] == 'failed'
    assert found['loss against steps, ir']['verdict'] == 'failed'
    assert found['black box against white box, ir']['figures']['square60']['images'] == 1


def test_attacks_beside_the_suite_are_no_white_box_reference(honest, tmp_path):
    """An attack with another aim does less harm than random signs: that accuses nobody."""
    it = bench(honest)
    weak = {'type': 'PGD', 'steps': 1, 'eps': EPS, 'objective': {'type': 'Disagreement'}}
    cases = [*make_suite('paper', 'mIoU', (EPS,), ('ir',)), config_case('aimed', weak)]
    records = Records(tmp_path, {})
    evaluate(it, cases, records, quality=False, progress=False)
    found = {}
    for eps in (EPS, EPS / 2):
        findings = diagnose(it, cases, records, [0], eps, steps=9, queries=60, progress=False)
        (found[eps],) = (one for one in findings if one['check'].startswith('black box'))
    records.close()
    assert found[EPS]['check'] == 'black box against white box, ir', 'both are attacked by a further attack alone'
    assert found[EPS]['verdict'] == 'passed', found[EPS]['evidence']
    assert all(f'left at {eps * 255:.3g}/255' in one['evidence'] for eps, one in found.items())


def test_gradients_that_break_under_attack_alone_are_counted(honest, tmp_path):
    """Where values fall below those of the clean images, a square root has no finite slope."""
    lowest = min(float(item.min()) for item, _ in Scenes().items)

    def rooted(image):
        dark = image < lowest
        found = image.clone()
        found[dark] = image[dark] + (0 * image[dark]).sqrt()
        return found

    it = bench(defended(honest, one_by_one(rooted)))
    cases = make_suite('paper', 'mIoU', (EPS,))
    records = Records(tmp_path, {})
    evaluate(it, cases, records, quality=False, progress=False)
    records.close()
    blind = [records.found['pgd5-8'][f'{i}.png']['audit']['blind'] for i in range(4)]
    assert any(blind)
    assert finding(it.model, 'input gradients').figures['dead_images'] == 0, 'clean images have all of theirs'
    named = {case.key: case for case in cases}
    assert suite_blind([named['clean'], named['pgd5-8']], records, it) == (sum(blind), 4)
    elsewhere = [replace(named['pgd5-8'], kind=kind) for kind in ('fusion', 'transfer', 'query')]
    assert suite_blind(elsewhere, records, it) == (0, 0), 'gradients of the model and its own loss alone'


def nearest_half(image):
    """Three of four pixels are never read."""
    small = nn.functional.interpolate(image[None], scale_factor=0.5, mode='nearest')
    return nn.functional.interpolate(small, image.shape[-2:], mode='nearest')[0]


def lightest(image):
    """The visible channels become their maximum, the V of HSV."""
    return torch.cat([image[:3].amax(0, keepdim=True).expand(3, -1, -1), image[3:]])


def overexposed(image):
    """Most of the visible image is clipped."""
    return torch.cat([(2.6 * image[:3]).clamp(max=255), image[3:]])


HONEST = {
    'maximum': lambda honest: trained(fusion=MaximumFusion),
    'local energy': lambda honest: trained(fusion=LivelierModality),
    'lightest channel': lambda honest: defended(honest, one_by_one(lightest)),
    'nearest pixels': lambda honest: defended(honest, one_by_one(nearest_half)),
    'overexposed': lambda honest: defended(honest, one_by_one(overexposed)),
}


@pytest.mark.parametrize('name', HONEST)
def test_selection_of_pixels_is_no_deceit(honest, name):
    """Zeros of what no prediction reads make nobody fail."""
    model = HONEST[name](honest)
    found = finding(model, 'input gradients')
    assert found.figures['zero_share'] > (0.2 if name == 'local energy' else 0.5), 'else it is no case of this kind'
    assert found.verdict == 'suspect', found.evidence
    assert found.figures['hidden'] < 0.08
    assert ('the prediction hardly reacts' in found.evidence) or found.figures['zero_share'] < 0.5
    assert finding(model, 'gradient direction').verdict != 'failed'
    assert finding(model, 'loss against steps', threat='ir').verdict != 'failed'


def test_a_detector_behind_a_maximum_is_told_from_one_behind_steps():
    model = build_model(tiny_fcos(fusion={'type': MaximumFusion})).eval()
    model.bbox_head.conv_cls.weight.data *= 30  # untrained scores hardly depend on the image
    for change, verdict in ((lambda x: x, 'suspect'), (lambda x: (x / 8).round() * 8, 'failed')):
        changed = defended(model, in_channels(slice(3, 4), change))
        for threat in ('both', 'ir'):
            found = EVERY['input gradients'](Probe(Bench(changed, Boxes(), [0, 1]), [0, 1], EPS, threat=threat))
            assert found.figures['zero_share'] > 0.5
            assert found.verdict == verdict, found


def test_a_maximum_is_not_failed_by_any_check_of_a_suite(honest, tmp_path):
    """Through the entry point, behind the suite's attacks on each modality."""
    not_accused(HONEST['maximum'](honest), tmp_path, 6, [0])


@pytest.mark.slow
@pytest.mark.parametrize('name', HONEST)
def test_no_check_of_a_suite_fails_a_selection_of_pixels(honest, name, tmp_path):
    not_accused(HONEST[name](honest), tmp_path, 20, [0, 1])


def not_accused(model, folder, steps, images):
    it = bench(model, Scenes(len(images)))
    cases = make_suite('strong', 'mIoU', (EPS,), ('both', 'ir', 'vis'), steps=steps)
    records = Records(folder, {})
    evaluate(it, cases, records, quality=False, progress=False)
    found = diagnose(it, cases, records, images, EPS, steps=steps, queries=60, progress=False)
    records.close()
    assert {f['check']: f['evidence'] for f in found if f['verdict'] == 'failed'} == {}
    assert len(found) == len(CHECKS) + 3 * len(THREAT_CHECKS)


@pytest.mark.parametrize(
    ('width', 'part'), [(1, 'one channel'), (2, 'all'), (8, 'ir'), (8, 'one channel'), (32, 'all'), (32, 'ir')]
)
def test_steps_of_any_width_are_told_from_selection(honest, width, part):
    channels = {'all': slice(0, 4), 'ir': slice(3, 4), 'one channel': slice(0, 1)}[part]
    model = defended(honest, in_channels(channels, lambda x: (x / width).round() * width))
    found = finding(model, 'input gradients')
    assert found.verdict == 'failed', found.evidence
    assert found.figures['hidden'] > 0.4
