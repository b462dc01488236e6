"""Gradient masking: whether the figures of attacks with gradients can be trusted.

A defence may only hide its gradients, and lose as much to anyone who finds another way (Athalye et al., ICML 2018;
Carlini et al. 2019). Each check looks for one sign of it on a few images and says what it saw. A model without masking
passes all of them; one failed check means that low robustness was not found, not that there is robustness.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from torch import Tensor, nn

from paif_mm.attacks import PGD, Attack, PixelLoss, TaskLoss, frozen
from paif_mm.attacks.adaptive import adapted
from paif_mm.attacks.attack import MODALITIES
from paif_mm.attacks.bpda import read_bpda, substituted
from paif_mm.attacks.frozen import fingerprint
from paif_mm.attacks.functional import complete, differentiate, look
from paif_mm.attacks.objectives import Questions, own_losses, pixel_logits
from paif_mm.evaluation.score import MeanIoU
from paif_mm.files import hash_seed
from paif_mm.randomness import fixed_draws
from paif_mm.registry import ATTACKS, build

from .cases import budget, strongest
from .evaluate import Bench

PASSED, SUSPECT, FAILED, SKIPPED = VERDICTS = ('passed', 'suspect', 'failed', 'not run')
REACTS = 0.12  # share of a reaction from which pixel values without a gradient are said to have one
LARGE_STEPS = 50  # of Auto-PGD at the very large radius
BROKEN = 0.01  # share of gradients that may fail to be finite
FEW = 0.1  # share of images from which a sign of masking counts, however the others look
OTHER = 0.005  # share of pixels that may be told from what is attacked: float ties
LEAD = 0.05  # of a black-box attack on one image: more than luck, in accuracy of pixels
SMALLEST_RADIUS = 'smallest radius against the suite'  # of :mod:`.smallest_radius`: says nothing of gradients


@dataclass
class Finding:
    """What one check saw.

    Attributes:
        check (str): which.
        verdict (str): one of :data:`VERDICTS`.
        evidence (str): a sentence with the numbers.
        figures (dict): the numbers.
    """

    check: str
    verdict: str
    evidence: str
    figures: dict = field(default_factory=dict)

    def to_dict(self) -> dict:
        return asdict(self)


@dataclass
class Probe:
    """What the checks share.

    Attributes:
        bench (Bench): the model and its data.
        images (list[int]): indices of the images looked at; those without a labelled pixel are left out.
        eps (float): L-inf radius in [0, 1] units.
        threat (str): what it may be spent on, see :attr:`~.cases.Case.threat`.
        steps (int): of Auto-PGD in the suite.
        queries (int): of Square.
        seed (int): of all random numbers.
        worst (dict): image name -> the lowest :meth:`worth` that white-box attacks left at ``eps``, the suite's
            Auto-PGD among them; empty: Auto-PGD is run.
        black (dict): case -> image name -> what an attack without the model's gradients left at ``eps``.
        blind (tuple): attacks of the suite through the model's gradients, on single images, that met values of these
            that are not finite; and all of them.
        adaptive (dict): what the suite's attacks know of the defence, see :mod:`paif_mm.attacks.adaptive`: the checks'
            attacks and gradients know it, too.

    Raises:
        ValueError: none of the images has a label.
    """

    bench: Bench
    images: list[int]
    eps: float
    steps: int = 100
    queries: int = 300
    seed: int = 0
    worst: Mapping[str, float] = field(default_factory=dict)
    black: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    blind: tuple[int, int] = (0, 0)
    threat: str = 'both'
    adaptive: Mapping = field(default_factory=dict)

    def __post_init__(self):
        batches = {i: self.bench.batch([self.bench.dataset[i]]) for i in self.images}
        batches = {i: batch for i, batch in batches.items() if self._labelled(batch)}
        if not batches:
            raise ValueError('the masking diagnostics need images with labels, but these have none')
        self.images, self.batches = list(batches), list(batches.values())
        self.names = [self.bench.names[i] for i in self.images]
        self.surrogates, self.samples = read_bpda(self.adaptive.get('bpda')), self.adaptive.get('eot_samples', 1)

    @contextmanager
    def asked(self) -> Iterator[None]:
        """The model held still, and differentiated as the attacker does who knows it."""
        with frozen(self.bench.model), substituted(self.bench.model, self.surrogates):
            yield

    def attack(self, kind: str, eps: float | dict, **settings) -> Attack:
        """An attack that knows the defence."""
        return build(ATTACKS, adapted({'type': kind, 'eps': eps, **settings}, self.adaptive))

    def _labelled(self, batch: dict) -> bool:
        sample = batch['data_samples'][0]
        return self.bench.score is not MeanIoU or bool((sample.gt_sem_seg.data < self.bench.classes).any())

    @property
    def strongest(self) -> dict:
        """What Auto-PGD and Square maximise here."""
        return strongest(self.bench.score.name)

    @property
    def budget(self) -> float | dict:
        """The radius, or one per modality, as attacks take it."""
        return budget(self.eps, self.threat)

    def radii(self) -> Tensor:
        """(C, 1, 1): by how many levels each channel may change."""
        radii = torch.zeros(self.bench.channels, 1, 1, device=self.bench.device)
        for channels, eps, _ in PGD(self.budget).budgets(self.bench.channels):
            radii[channels] = eps
        return radii

    def noise(self) -> list[Tensor]:
        """Each image with random signs at the whole radius."""
        images = []
        for batch, name in zip(self.batches, self.names, strict=True):
            rng = torch.Generator().manual_seed(hash_seed(self.seed, 'noise', name))
            pixels = self.pixels(batch)
            signs = (torch.randint(0, 2, pixels.shape, generator=rng) * 2 - 1).to(pixels)
            images.append((pixels + signs * self.radii()).clamp(0, 255))
        return images

    def reacts(self) -> bool:
        """Whether any prediction depends on what may be changed: a model that ignores a modality hides nothing."""
        pairs = zip(self.noise(), self.batches, strict=True)
        return any(_difference(outputs(self, [self.pixels(b)], b), outputs(self, [x], b)) > 0 for x, b in pairs)

    def pixels(self, batch: dict) -> Tensor:
        return batch['inputs'][0].to(self.bench.device).float()

    def question(self, batch: dict) -> Questions:
        """The loss of one image as a function of its pixels."""
        objective = PixelLoss('cross_entropy') if self.bench.score is MeanIoU else TaskLoss()
        samples = [sample.to(self.bench.device) for sample in batch['data_samples']]
        return Questions(objective, self.bench.model, samples, [self.pixels(batch)], False, self.samples)

    def worth(self, images: Sequence[Tensor]) -> float:
        """Mean of what the images, one of each batch, are worth: accuracy of pixels, or AP50 of the image."""
        return float(np.nanmean(self.worths(images)))

    def worths(self, images: Sequence[Tensor]) -> np.ndarray:
        records = [
            self.bench.records(self.bench.predict([image], batch), batch)[0]
            for image, batch in zip(images, self.batches, strict=True)
        ]
        score = self.bench.score(records, self.bench.class_names)
        return np.maximum(score.per_image(), 0)  # what decides between equals is none of its business

    def attacked(self, attack, tag: str) -> list[Tensor]:
        """Each image under an attack."""
        images = []
        for batch, name in zip(self.batches, self.names, strict=True):
            rng = [torch.Generator().manual_seed(hash_seed(self.seed, tag, name))]
            images += attack(self.bench.model, batch, rng=rng).images
        return images

    @property
    def noun(self) -> str:
        return 'accuracy' if self.bench.score is MeanIoU else 'AP50 of single images'


def input_gradients(probe: Probe) -> Finding:
    """Gradients that are exactly zero, or too small for a float: quantising, clamping, saturated softmax.

    A network's gradients are exactly 0 almost nowhere: where a fused image is clipped or takes another modality's pixel
    (a maximum), or far from any label. The channel with most of them counts, of those that a prediction depends on.
    Zeros alone are no deceit: they are one where the prediction does react to such values, see :func:`_hidden`.
    """
    zeros, broken, dead, hidden, sizes, saturated = [], [], [], [], [], []
    used = _used_channels(probe)
    for batch, name in zip(probe.batches, probe.names, strict=True):
        gradient = _gradient(probe, batch)[used]
        finite = torch.isfinite(gradient)
        zeros.append((gradient == 0).float().mean((1, 2)).tolist())
        broken.append(1 - float(finite.float().mean()))
        sizes.append(float(gradient[finite].abs().sum() / finite.sum().clamp_min(1)))
        saturated.append(_saturated(probe, batch))
        dead.append(not gradient[finite].any())
        if dead[-1] or max(zeros[-1]) > 0.5:
            hidden.append(_hidden(probe, batch, name, used))
    share, size, flat = float(np.mean(zeros, 0).max()), float(np.median(sizes)), float(np.mean(saturated))
    met, attacks = probe.blind
    reacts = bool(hidden) and float(np.median(hidden)) > REACTS
    failed = ((share > 0.5 or any(dead)) and reacts) or flat > 0.5  # most of the attack's steps lead nowhere
    failed |= max(np.mean(broken), met / max(attacks, 1)) > BROKEN
    suspect = share > 0.2 or any(dead) or flat > 0.01 or size < 1e-12 or met or any(broken)
    evidence = (
        f'{share:.1%} of the gradient values of a channel are exactly 0; {sum(dead)} of {len(zeros)} images have no '
        f'gradient at all; {np.mean(broken):.1%} of the values are not finite, and {met} of {attacks} attacks of the '
        f'suite met such; the median image has a mean |gradient| of {size:.1e} per pixel value; {flat:.1%} of the '
        'labelled pixels are predicted so surely that their loss has no gradient'
    )
    if hidden:
        evidence += (
            f'; to pixel values whose gradient is 0 the prediction {"reacts" if reacts else "hardly reacts"}: '
            f'{np.median(hidden):.2f} of what it does to a whole channel, in the median'
        )
    figures = {'zero_share': share, 'dead_images': sum(dead), 'hidden': float(np.median(hidden or [0.0])), 'size': size}
    figures |= {'broken_share': float(np.mean(broken)), 'blind': met, 'attacks': attacks, 'saturated_share': flat}
    return Finding('input gradients', FAILED if failed else SUSPECT if suspect else PASSED, evidence, figures)


def _hidden(probe: Probe, batch: dict, name: str, channels: Sequence[int]) -> float:
    """How much a prediction reacts to values whose gradient is exactly 0, as a share of its largest reaction to all
    values of a channel; the most over channels of which more than half are such values.

    Both to half a level up or down, beside the image, off whole levels. Where a maximum takes another value, where a
    sensor is saturated or nothing reads a pixel, there is hardly any reaction to so short a step (.03 to .06 in the
    tests); a step function, whose gradient is 0 as well, is as steep as any other on average over its pixels (.2 to 1).
    """
    rng = torch.Generator().manual_seed(hash_seed(probe.seed, 'beside', name))
    pixels = probe.pixels(batch)
    beside = (pixels + torch.rand(pixels.shape, generator=rng).to(pixels) - 0.5).clamp(0, 255)
    step = (torch.randint(0, 2, pixels.shape, generator=rng) - 0.5).to(pixels)
    with probe.asked():
        flat = differentiate(probe.question(batch), [beside], 0.0)[1][0] == 0
    here = outputs(probe, [beside], batch)

    def reaction(channel: int, where: Tensor | float = 1.0) -> float:
        moved = beside.clone()
        moved[channel] += step[channel] * where
        there, before = _of_one_length(outputs(probe, [moved], batch), here)
        return float((there - before).double().norm())

    largest = max(reaction(channel) for channel in range(probe.bench.channels))
    mostly = [channel for channel in channels if float(flat[channel].float().mean()) > 0.5]
    return max((reaction(channel, flat[channel]) / max(largest, 1e-12) for channel in mostly), default=0.0)


def gradient_direction(probe: Probe) -> Finding:
    """Steps along the sign of the gradient ought to raise the loss by what the gradient promises, in every channel.

    Short ones, at all; and ones of the length of an attack's, much of it: what shatters gradients over a level or two
    (a ripple, rounding with a slope) is followed by short steps alone. One channel, one modality and all together, as
    each may be shattered by itself, or behind a sum of all. The median image counts, and so does a tenth of the images
    by itself: a defence may act on some alone. Not so of detectors in two stages: which proposals their loss is of
    changes with any step, so that the loss of single images jumps honestly. Where an attacker differentiates something
    else in the place of a step function, short steps need not change anything: the longer ones count alone. What the
    model draws is the same at all points.
    """
    longer = [min(level, 255 * probe.eps) for level in (1.0, 2.0)]
    shorter = [] if probe.surrogates else [0.05, 0.25]
    kept = [_kept_promises(probe, batch, shorter, longer) for batch in probe.batches]
    near, far = {}, {}
    for one in kept:
        for name, (short, long) in one.items():
            near.setdefault(name, []).append(short)
            far.setdefault(name, []).append(long)
    if not near:
        near, far = {'all': [0.0]}, {'all': [0.0]}
    near, far = ({name: float(np.median(values)) for name, values in found.items()} for found in (near, far))
    short = max(near, key=lambda name: abs(np.log(max(near[name], 1e-9))))
    long = min(far, key=far.get)
    broken = [any(_breaks(*pair) for pair in one.values()) for one in kept]
    clear = any(_breaks(*pair, times=2) for one in kept for pair in one.values())
    share = float(np.mean(broken))
    jumps = hasattr(probe.bench.model, 'roi_head')  # two stages
    failed = _breaks(near[short], far[long]) or (share >= FEW and clear and not jumps)
    suspect = not 0.5 <= near[short] <= 2 or far[long] < 0.3 or share > 0
    first = shorter or longer
    evidence = (
        f'a step of {first[0]:.2g} to {first[1]:.2g} levels along the gradient keeps {near[short]:.2f} of what it '
        f'promises (median of {short}, the channels that keep least); one of {longer[0]:.2g} to {longer[1]:.2g} levels '
        f'{far[long]:.2f} ({long}); 1 is ideal; on {sum(broken)} of {len(broken)} images gradients of a channel break '
        'their promise'
    )
    verdict = FAILED if failed else SUSPECT if suspect else PASSED
    figures = {'kept': near[short], 'near': near, 'far': far, 'broken': share}
    return Finding('gradient direction', verdict, evidence, figures)


def _kept_promises(probe: Probe, batch: dict, shorter: Sequence[float], longer: Sequence[float]) -> dict[str, tuple]:
    """Part of the channels -> how much of what its gradient promises a short step and a longer one bring."""
    pixels, gradient = probe.pixels(batch), _gradient(probe, batch)
    gradient = gradient.nan_to_num(0.0, 0.0, 0.0) * (probe.radii() > 0)

    def loss(image: Tensor) -> float:
        return float(look(probe.question(batch), [image]).loss)

    found = {}
    with probe.asked():
        here = loss(pixels)
        for name, part in _parts(probe).items():
            step = torch.zeros_like(gradient)
            step[part] = gradient[part].sign()
            promised = float(gradient[part].abs().sum())
            if promised <= 1e-3 * float(gradient.abs().sum()):  # drowns in rounding
                continue
            kept = {
                length: (loss(pixels + length * step) - here) / (length * promised)
                for length in dict.fromkeys([*shorter, *longer])
            }
            # .05 may drown in rounding
            best = min((kept[length] for length in shorter or longer), key=lambda ratio: abs(ratio - 1))
            found[name] = best, min(kept[length] for length in longer)
    return found


def _breaks(near: float, far: float, times: float = 1.0) -> bool:
    """Whether steps bring so little, or so much, that the gradient says nothing of them; or ``times`` as clearly.

    Curvature costs a smooth loss little over so short steps; a tenth is not worth following.
    """
    return not 0.1 / times <= near <= 10 * times or not far >= 0.1 / times


def _parts(probe: Probe) -> dict[str, slice]:
    """Channels that may be changed: each by itself, each modality, and all."""
    channels = probe.radii().flatten().nonzero().flatten().tolist()
    parts = {f'channel {channel}': slice(channel, channel + 1) for channel in channels if len(channels) > 1}
    if probe.bench.channels == 4:
        parts |= {name: part for name, part in MODALITIES.items() if set(range(4)[part]) <= set(channels)}
    return {**parts, 'all': slice(0, probe.bench.channels)}


def _used_channels(probe: Probe) -> list[int]:
    """Those that may be changed and that a prediction depends on."""
    whole = probe.noise()
    used = []
    for channel in probe.radii().flatten().nonzero().flatten().tolist():
        for noisy, batch in zip(whole, probe.batches, strict=True):
            pixels = probe.pixels(batch)
            changed = pixels.clone()
            changed[channel] = noisy[channel]
            if _difference(outputs(probe, [pixels], batch), outputs(probe, [changed], batch)) > 0:
                used.append(channel)
                break
    return used or list(range(probe.bench.channels))


def loss_against_steps(probe: Probe) -> Finding:
    """More steps of PGD ought to raise the loss further."""
    checkpoints = (1, 2, 5, 10, 20)
    curves = []
    for batch, name in zip(probe.batches, probe.names, strict=True):
        ask, seen = probe.question(batch), []

        def watched(images, progress, ask=ask, seen=seen):
            losses = complete(ask(images, progress))
            seen.append(float(losses.loss.detach()[0]))
            return losses

        rng = [torch.Generator().manual_seed(hash_seed(probe.seed, 'steps', name))]
        watched.eot_samples = probe.samples
        attack = PGD(eps=probe.budget, step_size=budget(probe.eps / 8, probe.threat), steps=20, keep='worst')
        with probe.asked():
            attack.optimise(watched, [probe.pixels(batch)], attack.budgets(probe.bench.channels), rng)
        losses = np.reshape(seen, (-1, probe.samples)).mean(1)  # of each step
        curves.append([losses[step] for step in (0, *checkpoints)])
    mean = np.mean(curves, 0)
    gain, early = mean[-1] - mean[0], mean[2] - mean[0]
    # single steps may lose a tenth of the gain; that the last eighteen bring less than the first two is rare
    verdict = FAILED if gain <= 0 else SUSPECT if mean[-1] < mean[1:-1].max() - 0.1 * gain or gain < early else PASSED
    text = ', '.join(f'{loss:.3f} after {step}' for step, loss in zip((0, *checkpoints), mean, strict=True))
    return Finding(
        'loss against steps',
        verdict,
        f'mean loss of PGD at {probe.eps * 255:.3g}/255: {text} steps',
        {'steps': [0, *checkpoints], 'loss': mean.tolist()},
    )


def more_effort(probe: Probe) -> Finding:
    """Twice the steps, or another start, ought to change little: else the suite's figures are not the worst."""

    def left(steps: int, restarts: int = 1) -> float:
        return probe.worth(probe.attacked(_white_box(probe, steps=steps, restarts=restarts), 'effort'))

    base, longer, restarted = left(probe.steps), left(2 * probe.steps), left(probe.steps, restarts=2)
    gain = base - min(longer, restarted)
    verdict = PASSED if gain <= 0.02 else SUSPECT  # about what another seed changes on a few images
    evidence = (
        f'{probe.noun} {base:.3f} after {probe.steps} steps of Auto-PGD, {longer:.3f} after {2 * probe.steps}, '
        f'{restarted:.3f} with a second start: {"little" if verdict == PASSED else "much"} is left to gain'
    )
    return Finding(
        'more steps and restarts', verdict, evidence, {'base': base, 'longer': longer, 'restarted': restarted}
    )


def large_radius(probe: Probe) -> Finding:
    """At half of the whole range, any pair can become grey: nothing ought to be left.

    Whatever steps the suite takes, as too few leave something of any model.
    """
    clean = probe.worth([probe.pixels(batch) for batch in probe.batches])
    if clean <= 0:
        return Finding('very large radius', SKIPPED, f'{probe.noun} is 0 without an attack: nothing can be lost')
    attack = probe.attack('APGD', 128 / 255, steps=LARGE_STEPS, objective=probe.strongest)
    left = probe.worth(probe.attacked(attack, 'large'))
    share = left / clean
    verdict = PASSED if share <= 0.1 else SUSPECT if share <= 0.3 else FAILED  # about chance, or well above it
    evidence = f'{probe.noun} {left:.3f} of {clean:.3f} is left at 128/255 after {attack.steps} steps of Auto-PGD'
    return Finding('very large radius', verdict, evidence, {'clean': clean, 'attacked': left})


def black_box(probe: Probe) -> Finding:
    """Attacks without the model's gradients ought to do less harm than those with them."""
    black = {case: dict(values) for case, values in probe.black.items()}
    if not any(case.startswith('square') for case in black):
        square = probe.attack('Square', probe.budget, queries=probe.queries, objective=probe.strongest)
        square = probe.attacked(square, 'square')
        black[f'square{probe.queries}'] = dict(zip(probe.names, probe.worths(square), strict=True))
    black['random signs'] = dict(zip(probe.names, probe.worths(probe.noise()), strict=True))
    worst = dict(probe.worst)
    if not worst:
        attacked = probe.attacked(_white_box(probe, steps=probe.steps), 'white')
        worst = dict(zip(probe.names, probe.worths(attacked), strict=True))
    rows = {}
    for case, values in black.items():
        shared = [name for name in values if name in worst and not np.isnan(values[name] + worst[name])]
        without, with_ = (float(np.mean([kind[name] for name in shared])) for kind in (values, worst))
        leads = np.array([worst[name] - values[name] for name in shared])
        wins, clear = (float(np.mean(leads > least)) for least in (1e-3, LEAD))
        rows[case] = {'black_box': without, 'white_box': with_, 'wins': wins, 'clear_wins': clear}
        rows[case]['images'] = len(shared)
    lead = max(row['white_box'] - row['black_box'] for row in rows.values())
    wins, clear = (max(row[kind] for row in rows.values()) for kind in ('wins', 'clear_wins'))
    # one image may be won by luck, and AP50 of one image turns on a single box; a mean, or a large lead on some, not
    failed = lead > 0.01 or (clear >= FEW and probe.bench.score is MeanIoU)
    verdict = FAILED if failed else SUSPECT if wins > FEW else PASSED
    text = '; '.join(
        f'{case} {row["black_box"]:.3f} against {row["white_box"]:.3f}, worse on {row["wins"]:.0%} of {row["images"]}, '
        f'by more than {LEAD:g} on {row["clear_wins"]:.0%}'
        for case, row in rows.items()
    )
    return Finding(
        'black box against white box', verdict, f'{probe.noun} left at {probe.eps * 255:.3g}/255: {text}', rows
    )


def repeatability(probe: Probe) -> Finding:
    """The same image twice ought to give the same prediction: else attacks see only one draw of a random defence.

    Where they average over several draws, a random defence is 'suspect': more draws may find less.
    """
    worst = max(
        _difference(outputs(probe, [pixels], batch), outputs(probe, [pixels], batch))
        for pixels, batch in ((probe.pixels(batch), batch) for batch in probe.batches)
    )
    verdict = PASSED if worst <= 1e-4 else SUSPECT if worst <= 1e-3 else FAILED  # a GPU's sums differ by some 1e-6
    evidence = f"two predictions of the same image differ by {worst:.1e} of the outputs' range, at most"
    if verdict == FAILED and probe.samples > 1:
        verdict, evidence = SUSPECT, f'{evidence}; the attacks averaged over {probe.samples} draws for each step'
    return Finding('repeatability', verdict, evidence, {'difference': worst})


def batch_independence(probe: Probe) -> Finding:
    """A prediction ought not to change with the other images of its batch."""
    worst = 0.0
    for batch in probe.batches:
        pixels = probe.pixels(batch)
        alone = outputs(probe, [pixels], batch)
        for other in (255 - pixels, pixels * 0.1):
            pair = {key: [*values, *values] for key, values in batch.items()}
            worst = max(worst, _difference(alone, outputs(probe, [pixels, other], pair)))
    verdict = PASSED if worst <= 1e-3 else SUSPECT if worst <= 1e-2 else FAILED  # other kernels, in TF32: some 1e-4
    evidence = f"beside a negative or a dark copy, a prediction changes by {worst:.1e} of the outputs' range, at most"
    return Finding('independence of the batch', verdict, evidence, {'difference': worst})


def state(probe: Probe) -> Finding:
    """Predicting and attacking ought to leave no trace, and evaluation mode ought to reach every module."""
    model, batch = probe.bench.model, probe.batches[0]
    pixels = probe.pixels(batch)
    before, mark = outputs(probe, [pixels], batch), fingerprint(model)
    for other in probe.batches:
        outputs(probe, [255 - probe.pixels(other)], other)
    probe.attack('PGD', probe.eps, steps=1)(model, batch)
    changed = fingerprint(model) != mark
    drift = _difference(before, outputs(probe, [pixels], batch))
    modes = {module: module.training for module in model.modules()}
    model.train()
    model.eval()
    training = [
        name or type(model).__name__ for name, module in model.named_modules() if module.training or modes[module]
    ]
    blind = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase)
        and not isinstance(module, nn.modules.instancenorm._InstanceNorm)
        and module.running_mean is None
    ]
    for module, mode in modes.items():
        module.training = mode
    bad = []
    if changed:
        bad.append('parameters, buffers or modes change while it predicts or is attacked')
    if drift > 1e-4:
        bad.append(f'a prediction drifts by {drift:.1e} after other images')
    if training:
        bad.append(f'{", ".join(training[:3])} stay in training mode')
    if blind:
        bad.append(f'batch norm without statistics of its own: {", ".join(blind[:3])}')
    evidence = '; '.join(bad) or 'no trace of earlier images, and every module is in evaluation mode'
    figures = {'changed': changed, 'drift': drift, 'training': training, 'without_statistics': blind}
    return Finding('state and modes', FAILED if bad else PASSED, evidence, figures)


def what_predicts(probe: Probe) -> Finding:
    """What is attacked ought to be what predicts: else nobody has attacked what the figures are of.

    Attacks ask a model for its logits or its losses, tests for its predictions, and these may come of other weights, or
    of an image that is changed on the way to one of them alone. Of segmentors, the classes of every pixel are compared;
    of detectors, whose boxes and losses can't be, what the network is given, and whether it reacts at all.
    """
    if probe.bench.score is not MeanIoU and _backbone(probe.bench.model) is None:
        return Finding('what is attacked is what predicts', SKIPPED, 'the detector has no backbone to look into')
    clean = [probe.pixels(batch) for batch in probe.batches]
    attack = probe.attack('PGD', probe.budget, steps=5, objective=probe.strongest)
    attacked = probe.attacked(attack, 'predicts')
    compare = _classes_differ if probe.bench.score is MeanIoU else _inputs_differ
    before, under = (
        max(compare(probe, image, batch) for image, batch in zip(images, probe.batches, strict=True))
        for images in (clean, attacked)
    )
    figures = {'clean': before, 'attacked': under}
    if probe.bench.score is MeanIoU:
        failed = max(before, under) > OTHER
        evidence = (
            f'the model predicts another class than the logits that are attacked on {before:.2%} of the pixels of a '
            f'clean image and {under:.2%} of an attacked one, at most'
        )
        mend = "move what its predict adds (weights, rounding, filters) to where its mode 'tensor' runs it, too"
    else:
        figures['reacts'] = reacts = _reacts_to_negatives(probe)
        failed = max(before, under) > 1e-3 or not reacts
        evidence = (
            f'what the network is given to predict differs from what is attacked by {before:.1e} of its range on a '
            f'clean image and {under:.1e} on an attacked one, at most, and its boxes '
            f'{"depend" if reacts else "do not depend"} on the image'
        )
        mend = 'let each step of its preprocessor and of its predict act when it tells its loss, too'
    if failed:
        evidence += f': {mend}, and attack through it, by --bpda where it has no gradient'
    return Finding('what is attacked is what predicts', FAILED if failed else PASSED, evidence, figures)


def _classes_differ(probe: Probe, image: Tensor, batch: dict) -> float:
    """Share of an image's pixels of which a segmentor's prediction is not the largest of the logits under attack.

    Predictions are resized twice, to the network's image and to the file's: the logits are, too, so that no edge
    between two classes is told from itself.
    """
    model, device = probe.bench.model, probe.bench.device
    with fixed_draws(device):
        predicted = probe.bench.predict([image], batch)[0].pred_sem_seg.data
    sample = batch['data_samples'][0].clone()
    sample.gt_sem_seg = PixelData(data=predicted.new_zeros(1, *sample.img_shape[:2]))  # its size alone is asked for
    with frozen(model), torch.no_grad(), fixed_draws(device):
        logits, _ = pixel_logits(model, [image], [sample], training=False)[0]
    logits = F.interpolate(logits, predicted.shape[-2:], mode='bilinear', align_corners=model.align_corners)
    return float((logits.argmax(1) != predicted).float().mean())


def _inputs_differ(probe: Probe, image: Tensor, batch: dict) -> float:
    """Largest difference of what a detector's backbone sees to predict and to tell its loss, as a share of its range.

    1 where either does without it. Padding is left aside.
    """
    model, device = probe.bench.model, probe.bench.device
    seen = []

    def look_in(module: nn.Module, args: tuple, kwargs: dict) -> None:
        seen.append(next(value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)).detach().float())

    hook = _backbone(model).register_forward_pre_hook(look_in, with_kwargs=True)
    try:
        with frozen(model), torch.no_grad(), fixed_draws(device):
            own_losses(model, image, probe.question(batch).data_samples[0], training=False)
        asked = len(seen)
        with fixed_draws(device):
            probe.bench.predict([image], batch)
    finally:
        hook.remove()
    if not 0 < asked < len(seen):
        return 1.0
    height, width = (min(seen[0].size(side), seen[asked].size(side)) for side in (-2, -1))
    return _difference(*(images[..., :height, :width] for images in (seen[0], seen[asked])))


def _backbone(model: nn.Module) -> nn.Module | None:
    """The network behind all preprocessing, the fusion included."""
    named = (it for it in model.named_modules() if not it[0].startswith('data_preprocessor'))
    return next((module for name, module in named if name.endswith('backbone')), None)


def _reacts_to_negatives(probe: Probe) -> bool:
    """Whether boxes change with the image; a detector that finds none at all is not asked."""
    pairs = [
        (outputs(probe, [pixels], batch), outputs(probe, [255 - pixels], batch))
        for pixels, batch in ((probe.pixels(batch), batch) for batch in probe.batches)
    ]
    return all(len(here) == 1 for here, _ in pairs) or any(_difference(here, there) > 0 for here, there in pairs)


#: Of the model, whatever may be attacked; the gradients of all channels that may.
CHECKS: dict[str, Callable[[Probe], Finding]] = {
    'input gradients': input_gradients,
    'gradient direction': gradient_direction,
    'repeatability': repeatability,
    'independence of the batch': batch_independence,
    'state and modes': state,
    'what is attacked is what predicts': what_predicts,
    'very large radius': large_radius,
}
#: Of every threat by itself: what is masked in one modality shows where that one alone is attacked.
THREAT_CHECKS: dict[str, Callable[[Probe], Finding]] = {
    'loss against steps': loss_against_steps,
    'black box against white box': black_box,
    'more steps and restarts': more_effort,
}


def overall(findings: Sequence[Mapping]) -> str:
    """The worst verdict of all.

    The comparison with smallest radii can only lower it: where no check of gradients was run, none has passed.
    """
    verdicts = {
        finding['verdict']
        for finding in findings
        if finding['check'] != SMALLEST_RADIUS or finding['verdict'] in (FAILED, SUSPECT)
    }
    return next((verdict for verdict in (FAILED, SUSPECT, PASSED) if verdict in verdicts), SKIPPED)


def _white_box(probe: Probe, **settings) -> Attack:
    """Auto-PGD as the suite runs it."""
    return probe.attack('APGD', probe.budget, large_radii=True, objective=probe.strongest, **settings)


def _gradient(probe: Probe, batch: dict) -> Tensor:
    with probe.asked():
        return differentiate(probe.question(batch), [probe.pixels(batch)], 0.0)[1][0]


def _saturated(probe: Probe, batch: dict) -> float:
    """Share of labelled pixels whose softmax is 1 and 0 for a float, and right; 0 for detectors."""
    if probe.bench.score is not MeanIoU:
        return 0.0
    with frozen(probe.bench.model):
        samples = probe.question(batch).data_samples
        logits, label = pixel_logits(probe.bench.model, [probe.pixels(batch)], samples, training=False)[0]
    labelled = label < logits.size(1)
    chances = logits.movedim(1, -1)[labelled].float().softmax(-1)  # (P, K)
    settled = (chances == F.one_hot(label[labelled], logits.size(1))).all(-1)
    return float(settled.float().mean()) if len(settled) else 0.0


@torch.no_grad()
def outputs(probe: Probe, images: list[Tensor], batch: dict) -> Tensor:
    """Numbers that stand for the prediction of the first image: logits, or the falling scores of boxes, and a 0.

    Places of boxes would not do: two of nearly one score change places by the rounding of a larger batch.
    """
    sample = probe.bench.predict(images, batch)[0]
    if 'seg_logits' in sample:
        return sample.seg_logits.data.float()
    scores = sample.pred_instances.scores.float().sort(descending=True).values
    return torch.cat([scores, scores.new_zeros(1)])


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference as a share of the range of ``a``."""
    a, b = _of_one_length(a, b)
    return float((a - b).abs().max() / (a.max() - a.min()).clamp_min(1e-6))


def _of_one_length(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Lists of scores, the shorter one filled up with 0; maps as they are."""
    if a.dim() > 1:
        return a, b
    length = max(len(a), len(b))
    return tuple(F.pad(scores, (0, length - len(scores))) for scores in (a, b))
