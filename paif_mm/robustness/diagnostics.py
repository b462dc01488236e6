"""Gradient masking: whether the figures of attacks with gradients can be trusted.

A defence may only hide its gradients, and lose as much to anyone who finds another way (Athalye et al., ICML 2018;
Carlini et al. 2019). Each check looks for one sign of it on a few images and says what it saw. A model without masking
passes all of them; one failed check means that low robustness was not found, not that there is robustness.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.attacks import APGD, PGD, PixelLoss, Square, TaskLoss, frozen
from paif_mm.attacks.frozen import fingerprint
from paif_mm.attacks.functional import complete, differentiate, look
from paif_mm.attacks.objectives import Questions, pixel_logits
from paif_mm.evaluation.score import MeanIoU
from paif_mm.files import hash_seed

from .evaluate import Bench

PASSED, SUSPECT, FAILED, SKIPPED = VERDICTS = ('passed', 'suspect', 'failed', 'not run')


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
        steps (int): of Auto-PGD in the suite.
        queries (int): of Square.
        seed (int): of all random numbers.
        worst (dict): image name -> the lowest :meth:`worth` that the suite's white-box attacks left at ``eps``.
        black (dict): case -> image name -> what an attack without the model's gradients left at ``eps``.

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

    def __post_init__(self):
        batches = {i: self.bench.batch([self.bench.dataset[i]]) for i in self.images}
        batches = {i: batch for i, batch in batches.items() if self._labelled(batch)}
        if not batches:
            raise ValueError('the masking diagnostics need images with labels, but these have none')
        self.images, self.batches = list(batches), list(batches.values())
        self.names = [self.bench.names[i] for i in self.images]

    def _labelled(self, batch: dict) -> bool:
        sample = batch['data_samples'][0]
        return self.bench.score is not MeanIoU or bool((sample.gt_sem_seg.data < self.bench.classes).any())

    @property
    def strongest(self) -> dict:
        """What Auto-PGD maximises here: of the suite's losses, the one that needs fewest steps."""
        pixels = self.bench.score is MeanIoU
        return {'type': 'PixelLoss', 'name': 'jensen_shannon'} if pixels else {'type': 'TaskLoss'}

    def pixels(self, batch: dict) -> Tensor:
        return batch['inputs'][0].to(self.bench.device).float()

    def question(self, batch: dict) -> Questions:
        """The loss of one image as a function of its pixels."""
        objective = PixelLoss('cross_entropy') if self.bench.score is MeanIoU else TaskLoss()
        samples = [sample.to(self.bench.device) for sample in batch['data_samples']]
        return Questions(objective, self.bench.model, samples, [self.pixels(batch)], training=False)

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

    A network's gradients are exactly 0 almost nowhere: where a fused image is clipped, or far from any label.
    """
    zeros, dead, sizes, saturated = [], 0, [], []
    for batch in probe.batches:
        gradient = _gradient(probe, batch)
        zeros.append(float((gradient == 0).float().mean()))
        sizes.append(float(gradient.abs().mean()))
        saturated.append(_saturated(probe, batch))
        dead += int(not gradient.any() or not torch.isfinite(gradient).all())
    share, size, flat = float(np.mean(zeros)), float(np.median(sizes)), float(np.mean(saturated))
    failed = dead or max(share, flat) > 0.5  # most of the attack's steps lead nowhere
    suspect = share > 0.2 or flat > 0.01 or size < 1e-12
    evidence = (
        f'{share:.1%} of the gradient values are exactly 0; {dead} of {len(zeros)} images have no (finite) gradient at '
        f'all; the median image has a mean |gradient| of {size:.1e} per pixel value; {flat:.1%} of the labelled pixels '
        'are predicted so surely that their loss has no gradient'
    )
    figures = {'zero_share': share, 'dead_images': dead, 'size': size, 'saturated_share': flat}
    return Finding('input gradients', FAILED if failed else SUSPECT if suspect else PASSED, evidence, figures)


def gradient_direction(probe: Probe) -> Finding:
    """A short step along the sign of the gradient ought to raise the loss by as much as the gradient promises."""
    ratios = []
    for batch in probe.batches:
        ask, pixels, gradient = probe.question(batch), probe.pixels(batch), _gradient(probe, batch)
        promised = float(gradient.abs().sum())
        with frozen(probe.bench.model):
            here = float(look(ask, [pixels]).loss)
            for step in (0.05, 0.25):  # levels; the better one counts: the short one may drown in rounding
                there = float(look(ask, [pixels + step * gradient.sign()]).loss)
                ratios.append((there - here) / (step * promised) if promised else 0.0)
    pairs = np.array(ratios).reshape(-1, 2)
    best = pairs[np.arange(len(pairs)), np.abs(pairs - 1).argmin(1)]
    kept = float(np.median(best))
    # curvature costs a smooth loss little over so short a step; a tenth is not worth following
    verdict = PASSED if 0.5 <= kept <= 2 else SUSPECT if 0.1 <= kept <= 10 else FAILED
    evidence = (
        f'a step of .05 to .25 levels along the gradient keeps {kept:.2f} of what it promises (median; 1 is ideal)'
    )
    return Finding('gradient direction', verdict, evidence, {'kept': kept, 'per_image': best.tolist()})


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
        attack = PGD(eps=probe.eps, step_size=probe.eps / 8, steps=20, keep='worst')
        with frozen(probe.bench.model):
            attack.optimise(watched, [probe.pixels(batch)], attack.budgets(probe.bench.channels), rng)
        curves.append([seen[step] for step in (0, *checkpoints)])
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
    eps = probe.eps
    strongest = probe.strongest
    base = probe.worth(probe.attacked(APGD(eps, probe.steps, large_radii=True, objective=strongest), 'effort'))
    longer = probe.worth(probe.attacked(APGD(eps, 2 * probe.steps, large_radii=True, objective=strongest), 'effort'))
    again = APGD(eps, probe.steps, restarts=2, large_radii=True, objective=strongest)
    restarted = probe.worth(probe.attacked(again, 'effort'))
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
    """At half of the whole range, any pair can become grey: nothing ought to be left."""
    clean = probe.worth([probe.pixels(batch) for batch in probe.batches])
    if clean <= 0:
        return Finding('very large radius', SKIPPED, f'{probe.noun} is 0 without an attack: nothing can be lost')
    attack = APGD(128 / 255, min(probe.steps, 50), objective=probe.strongest)
    left = probe.worth(probe.attacked(attack, 'large'))
    share = left / clean
    verdict = PASSED if share <= 0.1 else SUSPECT if share <= 0.3 else FAILED  # about chance, or well above it
    evidence = f'{probe.noun} {left:.3f} of {clean:.3f} is left at 128/255 after {attack.steps} steps of Auto-PGD'
    return Finding('very large radius', verdict, evidence, {'clean': clean, 'attacked': left})


def black_box(probe: Probe) -> Finding:
    """Attacks without the model's gradients ought to do less harm than those with them."""
    black = {case: dict(values) for case, values in probe.black.items()}
    if not any(case.startswith('square') for case in black):
        square = probe.attacked(Square(probe.eps, probe.queries, objective=probe.strongest), 'square')
        black[f'square{probe.queries}'] = dict(zip(probe.names, probe.worths(square), strict=True))
    noise = []
    for batch, name in zip(probe.batches, probe.names, strict=True):
        rng = torch.Generator().manual_seed(hash_seed(probe.seed, 'noise', name))
        pixels = probe.pixels(batch)
        signs = (torch.randint(0, 2, pixels.shape, generator=rng) * 2 - 1).to(pixels)
        noise.append((pixels + signs * probe.eps * 255).clamp(0, 255))
    black['random signs'] = dict(zip(probe.names, probe.worths(noise), strict=True))
    worst = dict(probe.worst)
    if not worst:
        attack = APGD(probe.eps, probe.steps, large_radii=True, objective=probe.strongest)
        worst = dict(zip(probe.names, probe.worths(probe.attacked(attack, 'white')), strict=True))
    rows = {}
    for case, values in black.items():
        shared = [name for name in values if name in worst and not np.isnan(values[name] + worst[name])]
        without, with_ = (float(np.mean([kind[name] for name in shared])) for kind in (values, worst))
        wins = float(np.mean([values[name] < worst[name] - 1e-3 for name in shared]))
        rows[case] = {'black_box': without, 'white_box': with_, 'wins': wins, 'images': len(shared)}
    lead = max(row['white_box'] - row['black_box'] for row in rows.values())
    wins = max(row['wins'] for row in rows.values())
    verdict = FAILED if lead > 0.01 else SUSPECT if wins > 0.1 else PASSED  # one image may be won by luck, a mean not
    text = '; '.join(
        f'{case} {row["black_box"]:.3f} against {row["white_box"]:.3f}, worse on {row["wins"]:.0%} of {row["images"]}'
        for case, row in rows.items()
    )
    return Finding(
        'black box against white box', verdict, f'{probe.noun} left at {probe.eps * 255:.3g}/255: {text}', rows
    )


def repeatability(probe: Probe) -> Finding:
    """The same image twice ought to give the same prediction: else attacks see only one draw of a random defence."""
    worst = max(
        _difference(_outputs(probe, [pixels], batch), _outputs(probe, [pixels], batch))
        for pixels, batch in ((probe.pixels(batch), batch) for batch in probe.batches)
    )
    verdict = PASSED if worst <= 1e-4 else SUSPECT if worst <= 1e-3 else FAILED  # a GPU's sums differ by some 1e-6
    evidence = f"two predictions of the same image differ by {worst:.1e} of the outputs' range, at most"
    return Finding('repeatability', verdict, evidence, {'difference': worst})


def batch_independence(probe: Probe) -> Finding:
    """A prediction ought not to change with the other images of its batch."""
    worst = 0.0
    for batch in probe.batches:
        pixels = probe.pixels(batch)
        alone = _outputs(probe, [pixels], batch)
        for other in (255 - pixels, pixels * 0.1):
            pair = {key: [*values, *values] for key, values in batch.items()}
            worst = max(worst, _difference(alone, _outputs(probe, [pixels, other], pair)))
    verdict = PASSED if worst <= 1e-3 else SUSPECT if worst <= 1e-2 else FAILED  # other kernels, in TF32: some 1e-4
    evidence = f"beside a negative or a dark copy, a prediction changes by {worst:.1e} of the outputs' range, at most"
    return Finding('independence of the batch', verdict, evidence, {'difference': worst})


def state(probe: Probe) -> Finding:
    """Predicting and attacking ought to leave no trace, and evaluation mode ought to reach every module."""
    model, batch = probe.bench.model, probe.batches[0]
    pixels = probe.pixels(batch)
    before, mark = _outputs(probe, [pixels], batch), fingerprint(model)
    for other in probe.batches:
        _outputs(probe, [255 - probe.pixels(other)], other)
    PGD(eps=probe.eps, steps=1)(model, batch)
    changed = fingerprint(model) != mark
    drift = _difference(before, _outputs(probe, [pixels], batch))
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


CHECKS: dict[str, Callable[[Probe], Finding]] = {
    'input gradients': input_gradients,
    'gradient direction': gradient_direction,
    'loss against steps': loss_against_steps,
    'repeatability': repeatability,
    'independence of the batch': batch_independence,
    'state and modes': state,
    'very large radius': large_radius,
    'black box against white box': black_box,
    'more steps and restarts': more_effort,
}


def overall(findings: Sequence[Mapping]) -> str:
    """The worst verdict of all."""
    verdicts = {finding['verdict'] for finding in findings}
    return next((verdict for verdict in (FAILED, SUSPECT, PASSED) if verdict in verdicts), SKIPPED)


def _gradient(probe: Probe, batch: dict) -> Tensor:
    with frozen(probe.bench.model):
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
def _outputs(probe: Probe, images: list[Tensor], batch: dict) -> Tensor:
    """Numbers that stand for the prediction of the first image: logits, or the falling scores of boxes, and a 0.

    Places of boxes would not do: two of nearly one score change places by the rounding of a larger batch.
    """
    sample = probe.bench.predict(images, batch)[0]
    if 'seg_logits' in sample:
        return sample.seg_logits.data.float()
    scores = sample.pred_instances.scores.float().sort(descending=True).values
    return torch.cat([scores, scores.new_zeros(1)])


def _difference(a: Tensor, b: Tensor) -> float:
    """Largest difference as a share of the range of ``a``; lists of scores of other lengths go on with 0."""
    if a.dim() == 1:
        length = max(len(a), len(b))
        a, b = (torch.cat([scores, scores.new_zeros(length - len(scores))]) for scores in (a, b))
    return float((a - b).abs().max() / (a.max() - a.min()).clamp_min(1e-6))
