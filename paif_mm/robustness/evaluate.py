"""Runs every case on every image, and notes what came of it."""

import os.path as osp
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import cv2
import torch
from mmengine.utils import ProgressBar
from torch import Tensor

from paif_mm.attacks import PGD, AttackResult, Audit, frozen
from paif_mm.attacks.bank import CLEAN, MANIFEST, VERSION, read_pair, round_into_ball, write_pair
from paif_mm.attacks.objectives import own_losses
from paif_mm.checks import class_count
from paif_mm.engine.strip_hook import prediction_panels
from paif_mm.engine.strips import draw_strip
from paif_mm.evaluation.quality_hook import measured_quality
from paif_mm.evaluation.score import MeanIoU, score_of
from paif_mm.files import file_hash, hash_seed, write_bytes, write_json
from paif_mm.perception import find_fuser
from paif_mm.randomness import fixed_draws, kept_draws
from paif_mm.registry import ATTACKS, build

from .cases import Case, budget
from .records import Records

FORWARD = 1 / 3  # of a forward and backward pass: what looking at a result costs
ADVERSARIAL, STRIPS = 'adv', 'strips'


class Bench:
    """A model and what it is asked about, one batch at a time.

    Args:
        model (nn.Module): a segmentor or detector in evaluation mode.
        dataset: items as mmseg and mmdet pack them, with annotations.
        images: indices of the images that count.
    """

    def __init__(self, model, dataset, images: Sequence[int]):
        self.dataset, self.images = dataset, list(images)
        self.names = dict(zip(self.images, image_names(dataset, images), strict=True))
        self.classes = class_count(model)
        self.fuser = find_fuser(model)
        if self.fuser is not None:
            self.fuser.watch(model)
        self.device = next(model.parameters()).device
        sample = dataset[self.images[0]]
        self.score = score_of(sample['data_samples'])
        # an eighth faster on CPUs; some of mmdet's heads (CenterNet) can't
        self.model = model.to(memory_format=torch.channels_last) if self.score is MeanIoU else model
        self.model.dataset_meta = dataset.metainfo  # for attacks that name classes
        self.channels = sample['inputs'].size(0)
        self.measure = PGD(eps=0)  # of the model's own loss
        names = dataset.metainfo.get('classes') or [str(i) for i in range(self.classes)]
        self.class_names = list(names[: self.classes])

    def class_weight(self) -> list[float] | None:
        """What a pixel of each class weighs so that the classes of all images count alike, 1 on average.

        None for detectors. Classes without a pixel weigh 0. Reads the annotations of all images.
        """
        if self.score is not MeanIoU:
            return None
        labels = (self.dataset[i]['data_samples'].gt_sem_seg.data.flatten() for i in self.images)
        counts = sum(torch.bincount(label, minlength=256)[: self.classes] for label in labels).double()
        weights = counts.sum() / (counts.clamp_min(1) * (counts > 0).sum())
        return [float(f'{weight:.6g}') for weight in torch.where(counts > 0, weights, 0.0).tolist()]

    def loss_names(self) -> list[str]:
        """What the model calls its losses."""
        item = self.dataset[self.images[0]]
        image, sample = item['inputs'].to(self.device), item['data_samples'].to(self.device)
        with frozen(self.model), torch.no_grad():
            return [name for name in own_losses(self.model, image, sample, training=False) if 'loss' in name]

    def batch(self, items: Sequence[dict]) -> dict:
        return {
            'inputs': [item['inputs'] for item in items],
            'data_samples': [item['data_samples'] for item in items],
        }

    @torch.no_grad()
    def predict(self, images: list[Tensor], batch: dict, clean: list[Tensor] | None = None) -> list:
        """Data samples with predictions; leaves the fused images in ``fuser.groups``."""
        data = {'inputs': images, 'data_samples': [sample.clone() for sample in batch['data_samples']]}
        if self.fuser is not None and clean is not None:
            data['clean_inputs'] = clean
        return self.model.test_step(data)

    def records(self, predictions: Sequence, batch: dict) -> list[dict]:
        samples = batch['data_samples']
        return [self.score.record(p, truth, self.classes) for p, truth in zip(predictions, samples, strict=True)]

    def losses(self, result: AttackResult, images: list[Tensor], batch: dict) -> Tensor:
        """The model's own loss (N,)."""
        return self.measure.losses(self.model, images, result, batch)


def evaluate(
    bench: Bench,
    cases: Sequence[Case],
    records: Records,
    seed: int = 0,
    batch_size: int = 1,
    quality: bool = True,
    save_adv: bool = False,
    strips: Sequence[int] = (),
    share: tuple[int, int] = (0, 1),
    progress: bool = True,
) -> None:
    """Fill in what ``records`` lack.

    Images are attacked in batches of one size; random numbers belong to (seed, case, image), so that the batch size,
    the number of processes and interruptions change results by nothing but floating-point ties. Those that a model
    draws when it predicts belong to (seed, case, images of the batch).

    Args:
        bench: the model and its data.
        cases: of a suite.
        records: what is known.
        seed: of all random numbers.
        batch_size: images per forward pass.
        quality: measure the fused images, if there are any.
        save_adv: also write attacked images with 8 bits, and test them as read back.
        strips: indices of images to draw.
        share: (rank, world size): which part of the images is this process's.
        progress: draw a progress bar.
    """
    attacks = {case.key: build(ATTACKS, case.attack) for case in cases if case.attack is not None}
    for attack in attacks.values():
        attack.prepare(bench.dataset)
    mine = bench.images[share[0] :: share[1]]
    todo = [i for i in mine if any((case.key, bench.names[i]) not in records for case in cases)]
    cost = sum(_cost(case) for i in todo for case in cases if (case.key, bench.names[i]) not in records)
    bar = ProgressBar(max(round(cost), 1), start=False) if progress and todo else None
    if bar:
        bar.start()
    done, reported = 0.0, 0
    with kept_draws(bench.device):  # pipelines may draw when they load
        for items in _batches(bench.dataset, todo, batch_size):
            for case in cases:
                missing = {i: item for i, item in items.items() if (case.key, bench.names[i]) not in records}
                if not missing:
                    continue
                drawn = [i for i in missing if i in strips]
                attack = attacks.get(case.key)
                for i, record in _run(bench, case, attack, missing, records.folder, seed, quality, save_adv, drawn):
                    records.add(case.key, bench.names[i], record)
                done += _cost(case) * len(missing)
                if bar and round(done) > reported:
                    bar.update(round(done) - reported)
                    reported = round(done)
    if bar:
        print()


def _run(bench: Bench, case: Case, attack, items: dict[int, dict], folder: Path, seed, quality, save_adv, drawn):
    """Yields (index, record) of one case on one batch."""
    batch = bench.batch(items.values())
    names = [bench.names[i] for i in items]
    if attack is None:
        clean = [image.to(bench.device).float() for image in batch['inputs']]
        result = AttackResult(list(range(len(clean))), clean, clean, None)
    else:
        rng = [torch.Generator().manual_seed(hash_seed(seed, case.key, name)) for name in names]
        with fixed_draws(bench.device, hash_seed(seed, 'attack', case.key, *names)):
            result = attack(bench.model, batch, rng=rng)
    draws = hash_seed(seed, 'predict', case.key, *names)  # models may draw when they predict; not what attacks saw
    with fixed_draws(bench.device, draws):
        losses = bench.losses(result, result.images, batch)
        found = bench.records(predictions := bench.predict(result.images, batch, result.clean), batch)
    fused = measured_quality(bench.fuser) if quality and bench.fuser is not None else {}
    pictures = _fused_pictures(bench.fuser) if drawn else {}
    for place, i in enumerate(items):
        record = {'score': found[place], 'loss': float(losses[place])}
        if attack is None:
            record['pixels'] = result.images[place][0].numel()
        else:
            record['audit'] = _audit(attack, result, place, f'{case.key} of {names[place]}')
        if place in fused:
            record['fused'] = fused[place]
        if i in drawn:
            _draw(bench, folder / STRIPS / case.key, names[place], result, place, predictions[place], pictures)
        if save_adv and attack is not None:
            path = folder / ADVERSARIAL / case.key / f'{osp.splitext(names[place])[0]}.png'
            with fixed_draws(bench.device, draws):
                record['eight_bit'] = _from_disk(bench, attack, result, place, batch, path)
        yield i, record


def finish_adversarial(bench: Bench, cases: Sequence[Case], folder: Path) -> None:
    """Make the saved attacked images a bank, which other evaluations can show to other models (L-inf cases)."""
    folder = folder / ADVERSARIAL
    pairs = {
        osp.splitext(name)[0]: osp.basename(bench.dataset.get_data_info(i)['img_path'])
        for i, name in bench.names.items()
    }
    levels = {case.key: _level(case) for case in cases if case.group and case.norm == 'linf'}
    files = [f'{level}/{name}.png' for level in (CLEAN, *levels) for name in pairs]
    hashes = {name: file_hash(folder / name) for name in files}
    write_json(folder / MANIFEST, {'settings': {'version': VERSION}, 'levels': levels, 'pairs': pairs, 'files': hashes})


def _level(case: Case) -> dict:
    """Radius of a bank's level; of each modality, too, where these differ."""
    radii = budget(case.eps, case.threat)
    return {'eps': case.eps, **({'modalities': radii} if isinstance(radii, dict) else {})}


def image_names(dataset, images: Sequence[int]) -> list[str]:
    """File names of images, with their folders where names alone are not unique.

    Raises:
        ValueError: two images are the same, or differ in nothing but the suffix.
    """
    paths = [osp.abspath(dataset.get_data_info(i)['img_path']) for i in images]
    names = [osp.basename(path) for path in paths]
    if _twice(names):
        shared = osp.commonpath(paths)
        names = [osp.relpath(path, shared).replace(osp.sep, '__') for path in paths]
    if twice := _twice(names):
        raise ValueError(
            f'several images are called {", ".join(twice[:3])}, but each needs a name of its own: rename the files, '
            'or name the inner data set in test_dataloader where a wrapper repeats it'
        )
    return names


def _twice(names: Sequence[str]) -> list[str]:
    """Names without their suffix that occur more than once."""
    counts = Counter(osp.splitext(name)[0] for name in names)
    return [name for name, count in counts.items() if count > 1]


def evenly(count: int, limit: int | None) -> list[int]:
    """Indices of ``limit`` of ``count`` images, evenly spaced: neighbours of a video are near-duplicates."""
    if limit is None or limit >= count:
        return list(range(count))
    return [int((i + 0.5) * count / limit) for i in range(limit)]


def _cost(case: Case) -> float:
    return case.passes + 2 * FORWARD


def _batches(dataset, images: Sequence[int], size: int):
    """Index -> item of images in a row that have one size, up to ``size`` of them."""
    items = ((i, dataset[i]) for i in images)
    for _, group in groupby(items, key=lambda item: item[1]['inputs'].shape):
        batch = {}
        for i, item in group:
            batch[i] = item
            if len(batch) == size:
                yield batch
                batch = {}
        if batch:
            yield batch


def _audit(attack, result: AttackResult, place: int, what: str) -> dict:
    """What was really done to one image."""
    audit = Audit()
    zero = torch.zeros(1)
    blind = None if result.blind is None else result.blind[place : place + 1]
    one = AttackResult([place], [result.images[place]], [result.clean[place]], None, blind)
    audit.update(one, attack, zero, zero)
    if audit.broken:
        raise ValueError(f'the attacked image {what} holds values that are no finite numbers: the attack is at fault')
    delta = result.images[place] - result.clean[place]
    _check_ball(attack, delta, what)
    length = float(delta.norm()) / 255
    return {'max_delta_255': audit.max_delta, 'l2': length, 'at_bound': audit.at_bound, 'blind': bool(audit.blind)}


def _check_ball(attack, delta: Tensor, what: str) -> None:
    """Raise a ValueError where an attack went further than it says: its row would stand beside weaker ones."""
    budgets = attack.budgets(delta.size(0))
    if not budgets:
        return
    left = delta.clone()
    for channels, eps, _ in budgets:
        reach = float(delta[channels].norm() if attack.norm == 'l2' else delta[channels].abs().max())
        if reach > eps * (1 + 1e-4) + 1e-2:
            raise ValueError(
                f'the attacked image {what} is {reach:.2f}/255 from the clean one, outside of the radius of '
                f'{eps:.4g}/255 ({attack.norm}) that the attack states: the attack or its bank is at fault'
            )
        left[channels] = 0
    if left.any():
        raise ValueError(f'the attacked image {what} is changed in channels that the attack says it leaves alone')


def _from_disk(bench: Bench, attack, result: AttackResult, place: int, batch: dict, path: Path) -> dict:
    """Score of an attacked image that went through an 8-bit file."""
    clean = result.clean[place].round().clamp(0, 255).byte()
    write_pair(path, round_into_ball(result.images[place], clean, attack.budgets(clean.size(0)), attack.norm))
    write_pair(path.parent.parent / CLEAN / path.name, clean.cpu())
    one = {key: [values[place]] for key, values in batch.items()}
    return bench.records(bench.predict([read_pair(path).to(bench.device).float()], one), one)[0]


def _fused_pictures(fuser) -> dict[int, Tensor]:
    if fuser is None:
        return {}
    return {place: image for group in fuser.groups for place, image in zip(group.index, group.fused, strict=True)}


def _draw(bench: Bench, folder: Path, name: str, result: AttackResult, place: int, prediction, fused: dict) -> None:
    def pixels(image: Tensor):
        return image.detach().float().cpu().numpy().transpose(1, 2, 0)

    panels = prediction_panels(
        pixels(result.clean[place]),
        pixels(result.images[place]),
        pixels(fused[place] * 255) if place in fused else None,
        prediction,
        bench.dataset.metainfo,
    )
    write_bytes(folder / f'{osp.splitext(name)[0]}.png', cv2.imencode('.png', draw_strip(panels))[1].tobytes())
