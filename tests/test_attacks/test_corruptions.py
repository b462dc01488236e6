"""Corruptions touch their own modality, grow with severity, and are the same wherever a pair stands."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import build_model, generators_untouched, pair_batch, tiny_segformer

from paif_mm.attacks import AdversarialAttackHook, Corruption
from paif_mm.corruptions import COMMON, CORRUPTIONS, OFF, TIME_OFFSET
from paif_mm.corruptions.frames import Frames
from paif_mm.corruptions.registration import parallax, rotation, shift
from paif_mm.corruptions.sensors import blur, contrast, crossover
from paif_mm.corruptions.weather import fog, glare, rain
from paif_mm.data.colour import INFRARED, VISIBLE
from paif_mm.registry import ATTACKS, build

OWN = [name for name, trouble in CORRUPTIONS.items() if trouble.family != COMMON and name != TIME_OFFSET]
RNG = torch.Generator()


def smooth_pair(seed=0, size=(240, 320)):
    coarse = torch.rand(1, 4, 6, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size, mode='bilinear')[0].mul(255).round()


@pytest.mark.parametrize('name', OWN)
def test_its_own_channels_are_corrupted_the_more_the_higher_the_severity(name):
    pair = smooth_pair()
    changes = []
    for severity in range(1, 6):
        with generators_untouched():
            corrupted = Corruption(name, severity).corrupt(pair)
        for channel in range(4):
            changed = channel in range(4)[CORRUPTIONS[name].channels]
            assert changed or torch.equal(corrupted[channel], pair[channel])
        assert corrupted.min() >= 0
        assert corrupted.max() <= 255
        assert torch.equal(corrupted, corrupted.round())
        changes.append((corrupted - pair).square().mean().item())
    assert changes[0] > 0
    assert all(a < b for a, b in zip(changes, changes[1:], strict=False)) or CORRUPTIONS[name].family == OFF


def test_both_modalities_are_corrupted_together():
    pair = smooth_pair()
    for name, trouble in CORRUPTIONS.items():
        if trouble.channels == slice(0, 4):
            change = (Corruption(name, 3).corrupt(pair) - pair).abs().mean((1, 2))
            assert (change > 1).all(), name


def test_by_hand():
    rng = torch.Generator().manual_seed(0)
    flat = torch.full((3, 20, 24), 100.0)
    torch.testing.assert_close(blur(flat, 100.0, rng), flat)
    assert torch.equal(fog(flat, 1.0, rng), flat)
    assert (fog(flat, 1e-9, rng) > 219).all()
    ramp = torch.tensor([90.0, 100, 110]).reshape(1, 1, 3)
    assert contrast(ramp, 3.0, rng).flatten().tolist() == [70, 100, 130]
    dead = Corruption('dead_pixels', 5).corrupt(torch.full((4, 200, 200), 100.0))[3]
    assert ((dead == 0) | (dead == 255)).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert Corruption('missing_infrared').corrupt(smooth_pair())[3].abs().sum() == 0
    impulse = torch.zeros(1, 61, 61)
    impulse[0, 30, 30] = 1000
    spread = blur(impulse, 2 * 480 / 61, rng)[0]  # sigma 2 at this height
    assert spread.sum().item() == pytest.approx(1000, rel=1e-4)
    assert (spread[30, 32] / spread[30, 30]).item() == pytest.approx(torch.tensor(-0.5).exp().item(), rel=1e-3)


def test_thermal_crossover_takes_the_contrast_and_inverts_it():
    heat = smooth_pair()[INFRARED]
    kept = [
        float(torch.corrcoef(torch.stack([heat.flatten(), crossover(heat, left, RNG).flatten()]))[0, 1])
        for left in (1.0, -1.0)
    ]
    assert kept == pytest.approx([1, -1], abs=0.01)
    gone = crossover(heat, 0.0, RNG)
    assert float(gone.std()) == pytest.approx(2, abs=0.1), "the sensor's noise alone"
    assert float(gone.mean()) == pytest.approx(float(heat.mean()), abs=0.1)


def at(image) -> tuple[float, float]:
    """Mean place (row, column) of what is bright."""
    rows, columns = torch.meshgrid(torch.arange(image.shape[1]), torch.arange(image.shape[2]), indexing='ij')
    return tuple(float((image[0] * kind).sum() / image.sum()) for kind in (rows, columns))


def dot(row: int, column: int) -> torch.Tensor:
    image = torch.zeros(1, 240, 320)
    image[0, row, column] = 255
    return image


@pytest.mark.parametrize('seed', range(3))
def test_misregistered_dots_are_where_geometry_puts_them(seed):
    """240 rows, so that lengths are half of those at 480; angles are about the middle of the image."""
    rng = torch.Generator().manual_seed(seed)
    row, column = at(shift(dot(120, 160), 20.0, rng))
    assert np.hypot(row - 120, column - 160) == pytest.approx(10, abs=0.3)
    row, column = at(rotation(dot(120, 260), 6.0, rng))
    radius, angle = np.hypot(row - 119.5, column - 159.5), np.degrees(np.arctan2(row - 119.5, column - 159.5))
    assert radius == pytest.approx(np.hypot(0.5, 100.5), abs=0.3)
    assert abs(angle - np.degrees(np.arctan2(0.5, 100.5))) == pytest.approx(6, abs=0.3)
    moves = []
    for line in (20, 110, 125, 155, 185, 235):  # above the horizon, and in each band
        row, column = at(parallax(dot(line, 160), 40.0, torch.Generator().manual_seed(seed)))
        assert row == pytest.approx(line)
        moves.append(column - 160)
    assert np.abs(moves) == pytest.approx([0, 0, 5, 10, 15, 20], abs=0.2)
    assert len({np.sign(move) for move in moves[2:]}) == 1, 'all to one side'


def test_rain_whitens_along_its_slant_and_glare_around_its_light():
    dark = torch.full((3, 240, 320), 20.0)
    wet = rain(dark, (2, 24, 0.0), torch.Generator().manual_seed(0))
    assert (wet >= 20).all(), 'streaks add light'
    assert 0.01 < float((wet[0] > 60).float().mean()) < 0.3
    along, across = ((wet[0].diff(dim=d)).abs().mean() for d in (0, 1))
    assert across > 2 * along, 'streaks are upright'
    shone = glare(dark, (0.1, 0.05), torch.Generator().manual_seed(0))[0]
    top, left = divmod(int(shone.argmax()), 320)
    assert float(shone.max()) == pytest.approx(255)
    assert top < 0.65 * 240
    assert shone.min() >= 20 + 0.05 * 235, 'a veil everywhere'
    far = torch.hypot(*torch.meshgrid(torch.arange(240.0) - top, torch.arange(320.0) - left, indexing='ij'))
    assert torch.corrcoef(torch.stack([far.flatten(), shone.flatten()]))[0, 1] < -0.4


def test_a_pair_is_corrupted_alike_in_any_batch_and_differently_by_another_seed():
    model = build_model(tiny_segformer())
    batch = pair_batch([(32, 40), (32, 40), (24, 40)])
    before = [image.clone() for image in batch['inputs']]
    attack = build(ATTACKS, {'type': 'Corruption', 'name': 'noise', 'severity': 2})
    result = attack(model, batch, index=[0, 2])
    assert result.index == [0, 2]
    assert all(torch.equal(a, b) for a, b in zip(before, batch['inputs'], strict=True))
    alone = attack(model, {key: value[2:] for key, value in batch.items()})
    assert torch.equal(alone.images[0], result.images[1])
    assert not torch.equal(Corruption('noise', 2, seed=1).corrupt(alone.clean[0]), alone.images[0])


@pytest.mark.parametrize('name', [name for name in OWN if CORRUPTIONS[name].channels == VISIBLE])
def test_a_visible_image_alone_is_corrupted_as_in_a_pair(name):
    pair = smooth_pair()
    assert torch.equal(Corruption(name, 2).corrupt(pair[:3]), Corruption(name, 2).corrupt(pair)[:3])


class Video:
    """Pairs that move by some pixels a frame, under names of two sequences; or unrelated ones."""

    def __init__(self, step: int = 3, names=('9N', '10N', '11N', '9D', '12N', '8D')):
        self.paths = [f'/data/{name}.png' for name in names]
        wide = {letter: smooth_pair(i, (64, 400)).byte() for i, letter in enumerate('ND')}
        frames = [(int(name[:-1]), name[-1]) for name in names]
        self.items = [wide[letter][:, :, step * n : step * n + 80] for n, letter in frames]
        if step == 0:
            self.items = [smooth_pair(10 + i, (64, 80)).byte() for i in range(len(names))]

    def __len__(self):
        return len(self.items)

    def get_data_info(self, i):
        return {'img_path': self.paths[i]}

    def __getitem__(self, i):
        sample = type('Sample', (), {'img_path': self.paths[i]})
        return {'inputs': self.items[i], 'data_samples': sample}


def test_infrared_comes_from_earlier_frames_of_its_own_sequence():
    video = Video()
    attack = build(ATTACKS, {'type': 'Corruption', 'name': 'time_offset', 'severity': 2})
    attack.prepare(video)
    batch = {key: [video[i][key] for i in range(6)] for key in ('inputs', 'data_samples')}
    model = torch.nn.Linear(1, 1)
    seen = attack(model, batch).images
    earlier = {0: 0, 1: 0, 2: 0, 3: 5, 4: 1, 5: 5}  # 9N and 8D are the first; 11N and 10N of 12N, 9D after 8D
    for image, before in earlier.items():
        assert torch.equal(seen[image][3:], video.items[before][3:].float()), image
        assert torch.equal(seen[image][:3], video.items[image][:3].float())
    once = build(ATTACKS, {'type': 'Corruption', 'name': 'time_offset', 'severity': 1})
    once.prepare(video)
    assert torch.equal(once(model, batch, index=[4]).images[0][3:], video.items[2][3:].float())
    batch['data_samples'][0].img_path = 'elsewhere.png'
    with pytest.raises(ValueError, match='it is no image of the data set that is tested'):
        attack(model, batch)
    with pytest.raises(ValueError, match=r'needs the data set that is tested: use tools/robustness\.py'):
        Corruption('time_offset')(model, batch)


def test_a_test_of_earlier_frames_knows_its_data_set():
    """As tools/test.py --attack runs it."""
    hook = AdversarialAttackHook({'type': 'Corruption', 'name': 'time_offset', 'severity': 1}, phases=('test',))
    model, batch, frame = build_model(tiny_segformer()).eval(), pair_batch([(64, 80)]), Video()
    batch['inputs'] = [frame.items[1]]
    batch['data_samples'][0].set_metainfo({'img_path': frame.paths[1]})
    runner = SimpleNamespace(model=model, test_dataloader=SimpleNamespace(dataset=frame))
    hook.before_test_epoch(runner)
    runner.test_dataloader = []
    hook.before_test_iter(runner, 0, batch)
    assert torch.equal(batch['inputs'][0][3:], frame.items[0][3:].float())
    assert hook.audit.max_delta['vis'] == 0


def test_a_video_is_told_from_single_scenes():
    names = [f'{i}N' for i in range(30)]
    assert Frames(Video(3, names)).is_video()
    assert not Frames(Video(0, names)).is_video()
    assert not Frames(Video(3, names[:16])).is_video(), 'too few to tell'
    for count in range(10, 60, 5):
        single = Video(0, [f'{i}{letter}' for letter in 'ND' for i in range(count)])
        for item, path in zip(single.items, single.paths, strict=True):
            item[:, :32] = 250 if 'D' in path else 5  # all by day are alike, and all by night
        assert not Frames(single).is_video(), count


@pytest.mark.parametrize('every', [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_common_corruptions_are_those_of_the_library(every):
    """By default without glass blur, which is compiled for seconds."""
    library = pytest.importorskip('imagecorruptions', reason='pip install -r requirements/corruptions.txt')
    assert [f'common_{name}' for name in library.get_corruption_names()] == [
        name for name, trouble in CORRUPTIONS.items() if trouble.family == COMMON
    ]
    pair = smooth_pair(size=(48, 64))
    if every:
        Corruption('common_glass_blur').corrupt(pair)  # compiled now, with the true np.random.seed
    for name in set(library.get_corruption_names()) - (set() if every else {'glass_blur'}):
        with generators_untouched():
            found = Corruption(f'common_{name}', 3).corrupt(pair)
        assert torch.equal(found, Corruption(f'common_{name}', 3).corrupt(pair)), f'{name} is drawn anew'
        assert torch.equal(found[3], pair[3])
        assert not torch.equal(found[:3], pair[:3])
    rgb = pair[:3].flip(0).byte().permute(1, 2, 0).numpy()
    for name in ('brightness', 'contrast', 'jpeg_compression', 'defocus_blur'):  # that draw nothing
        expected = library.corrupt(rgb, 4, name)
        found = Corruption(f'common_{name}', 4).corrupt(pair)[:3].flip(0).permute(1, 2, 0).numpy()
        assert np.array_equal(found, expected), name
    with pytest.raises(ValueError, match='common_fog needs images of at least 32x32, not 24x64'):
        Corruption('common_fog').corrupt(pair[:, :24])


def test_a_missing_package_is_named_before_anything_is_tested(monkeypatch):
    monkeypatch.setitem(sys.modules, 'imagecorruptions.corruptions', None)
    with pytest.raises(ValueError, match='common_snow needs the package imagecorruptions-imaug: pip install -r requir'):
        Corruption('common_snow')
    monkeypatch.setitem(sys.modules, 'imagecorruptions.corruptions', SimpleNamespace(glass_blur=lambda x, severity: x))
    monkeypatch.setitem(
        sys.modules, 'imagecorruptions', SimpleNamespace(corruptions=sys.modules['imagecorruptions.corruptions'])
    )
    with pytest.raises(ValueError, match='needs the fork imagecorruptions-imaug instead of imagecorruptions'):
        Corruption('common_snow')


def test_the_audit_of_a_corruption_has_its_loss():
    model = build_model(tiny_segformer()).eval()
    hook = AdversarialAttackHook({'type': 'Corruption', 'name': 'missing_visible'}, phases=('test',))

    class Runner:
        test_dataloader = ()

    runner, batch = Runner(), pair_batch()
    runner.model = model
    hook.before_test_epoch(runner)
    hook.before_test_iter(runner, 0, batch)
    assert hook.audit.max_delta == {'vis': 255, 'ir': 0}
    assert hook.audit.loss_after != hook.audit.loss_before
    assert (batch['inputs'][0][:3] == 0).all()


def test_unknown_names_severities_and_plain_images_are_refused():
    with pytest.raises(ValueError, match="there is no Corruption 'snowfall': "):
        Corruption('snowfall')
    with pytest.raises(ValueError, match='severity must be 1 to 5, not 6'):
        Corruption('fog', 6)
    for name in ('crossover', 'shift', 'rainy_night', 'missing_infrared'):
        with pytest.raises(ValueError, match=f'{name} needs pairs'):
            Corruption(name).corrupt(torch.zeros(3, 8, 8))
    with pytest.raises(ValueError, match='but an input has 1 channels'):
        Corruption('fog').corrupt(torch.zeros(1, 8, 8))
