"""What an attack maximises: functions of (model, inputs, data samples) to one loss per image.

An objective is called with

* ``inputs``: N raw images (C, H_i, W_i), in [0, 255], that require gradients;
* ``data_samples``: their annotations, as the data loader made them;
* ``clean``: the same images before the attack;
* ``training``: whether the batch is a training batch, which the model's preprocessor pads together with its labels;
* ``progress``: the share of the attack's steps that are done, 0 in the first one;

and returns (N,) losses, or :class:`~.functional.Losses`. It never changes the data samples. If it has a
``greatest_harm``, attacks stop working on images that have come to it; ``partial = True`` says that it differentiates
a part of the model only; ``check_model(model)`` raises TypeError, before any image is loaded, where it can't do with a
model.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from fnmatch import fnmatch
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from paif_mm.losses.hook import fusion_loss_inputs
from paif_mm.losses.logits import around_losses, plain_heads
from paif_mm.perception import require_fuser
from paif_mm.randomness import OwnDraws, fixed_draws
from paif_mm.registry import MODELS, OBJECTIVES, build
from paif_mm.spelling import choices

from .frozen import loss_mode
from .functional import Losses, complete
from .pixel_losses import PIXEL_LOSSES, SCHEDULED, STEERED, bounded, class_weighted_cross_entropy, cross_entropy, right

#: Which of an attack's ``eot_samples`` is drawn: the seed of what is otherwise fixed.
SAMPLE: ContextVar[int] = ContextVar('SAMPLE', default=0)


class Questions:
    """An objective of N images as the :data:`~.functional.LossFunction` of an attack.

    An image for which the objective's ``greatest_harm`` was found is settled: nothing can make it worse, and it is not
    asked about again, in no step and in no restart. Its losses are then -inf, so that what was found stays the worst.

    What a model draws at random when it is asked (a randomised defence, the bases of HamNet) differs from step to step,
    but is no draw of the global generators. Losses and gradients are means over ``eot_samples`` such draws, for which
    it is asked so many times in a row.
    """

    def __init__(self, objective, model, data_samples: list, clean: list[Tensor], training: bool, eot_samples: int = 1):
        self.objective, self.model, self.training = objective, model, training
        self.eot_samples = eot_samples
        self.data_samples, self.clean = data_samples, clean
        self.settled = [False] * len(clean)
        self.draws = OwnDraws(clean[0].device)
        self.times = 0  # that it was asked
        self.blind: Tensor | None = None  # (N,): images whose gradients held values that are not finite

    def __call__(self, images: list[Tensor], progress: float) -> Tensor | Losses:
        sample, self.times = self.times % self.eot_samples, self.times + 1
        places = [i % len(self.clean) for i in range(len(images))]  # of each restart's copy
        asked = [i for i, place in enumerate(places) if not self.settled[place]]
        if not asked:
            nothing = torch.stack([image.sum() * 0 - torch.inf for image in images])
            return Losses(nothing, nothing.detach())
        samples, clean = ([kind[places[i]] for i in asked] for kind in (self.data_samples, self.clean))
        with self.draws, _sampled(sample):
            losses = self.objective(self.model, [images[i] for i in asked], samples, clean, self.training, progress)
        if len(asked) == len(images):
            return losses
        return Losses(*(_spread(values, asked, len(images)) for values in complete(losses)))

    def of(self, places: Sequence[int]) -> 'Questions':
        """The same of some of the images alone, settled where they are; what it learns, and draws, is its own."""
        samples, clean = ([kind[i] for i in places] for kind in (self.data_samples, self.clean))
        questions = Questions(self.objective, self.model, samples, clean, self.training, self.eot_samples)
        questions.settled = [self.settled[i] for i in places]
        return questions

    def blinded(self, flags: Tensor) -> None:
        """Learn which images (N,), or several copies of them in a row, had gradients that are not finite."""
        flags = flags.view(-1, len(self.clean)).any(0)
        self.blind = flags if self.blind is None else self.blind | flags

    def found(self, harm: Tensor) -> None:
        """Learn the harm (N,), or of several copies in a row, that the attack has come to within its ball."""
        limit = getattr(self.objective, 'greatest_harm', None)
        if limit is not None:
            for i, reached in enumerate((harm >= limit).tolist()):
                self.settled[i % len(self.clean)] |= reached


@contextmanager
def _sampled(index: int) -> Iterator[None]:
    token = SAMPLE.set(index)
    try:
        yield
    finally:
        SAMPLE.reset(token)


def _spread(values: Tensor, places: list[int], size: int) -> Tensor:
    """Values (n,) at n of ``size`` places, -inf elsewhere."""
    return values.new_full((size,), -torch.inf).index_put((torch.tensor(places, device=values.device),), values)


@OBJECTIVES.register_module()
class TaskLoss:
    """The model's own training loss, one value per image.

    A segmentor whose decode head is trained with cross-entropy is attacked per pixel, in one pass for the whole
    batch: the head's own loss modules (class weights included) on its logits, averaged over the pixels that are not
    ignored. With other terms beside it (Dice, Lovasz), images of one size are passed together, too, and the head is
    asked for the loss of each. Auxiliary heads, which predict nothing, are left out unless ``terms`` names them.

    Any other model is asked for its loss dict image by image, summed as in training; that includes detectors, whose
    losses are normalised by the objects of a batch, and whose images are padded together. The model is then in
    training mode as far as its loss needs it (see :func:`~.frozen.loss_mode`). What it draws at random after its
    features (proposals of two-stage detectors, noise of denoising queries) is the same in every step, so that the loss
    is a function of the image, and another one in each of an attack's ``eot_samples``; what it draws before them is a
    defence's in a test, and differs from pass to pass (in training it is an augmentation of the batch, and fixed, too).

    Args:
        terms (Sequence[str] | None): take only these entries of the loss dict, e.g. ``('loss_cls',)``,
            ``('loss_bbox',)`` or ``('loss_centerness',)`` of FCOS, or those of a pattern, as ``('*cls*',)``: what any
            detector classifies by. Default: all.
    """

    def __init__(self, terms: Sequence[str] | None = None):
        self.terms = terms

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Tensor:
        require_annotations(data_samples)
        if self.terms is None and _trained_per_pixel(model):
            return pixel_losses(model, inputs, data_samples, training)
        if _lost_by_plain_heads(model):
            sizes = {image.shape for image in inputs}
            batches = [slice(None)] if len(sizes) == 1 else [slice(i, i + 1) for i in range(len(inputs))]
            found = [losses_of_each(model, inputs[part], data_samples[part], training) for part in batches]
            return torch.cat([sum(self._chosen(losses, predicting='decode.').values()) for losses in found])
        losses = []
        for image, sample in zip(inputs, data_samples, strict=True):
            found = own_losses(model, image, sample, training)
            losses.append(model.parse_losses(self._chosen(found))[0])
        return torch.stack(losses)

    def _chosen(self, losses: dict, predicting: str = '') -> dict:
        known = [name for name in losses if 'loss' in name]
        if self.terms is None:
            return {name: losses[name] for name in known if name.startswith(predicting)}
        missing = [term for term in self.terms if not any(fnmatch(name, term) for name in known)]
        if missing:
            raise ValueError(
                f'the model has no loss {", ".join(missing)}; the terms of TaskLoss are among {", ".join(known)}'
            )
        return {name: losses[name] for name in known if any(fnmatch(name, term) for term in self.terms)}


@OBJECTIVES.register_module()
class PixelLoss:
    """A loss of single pixels of a segmentation, averaged over each image's labelled pixels.

    Ignored pixels take no part. The worst iterate of an attack is the one with the most wrong pixels, whatever the loss
    says, and an image without a right pixel left is not attacked any further. The losses of SEA (Croce et al., ECCV
    2024: masked, balanced, Jensen-Shannon) steer Auto-PGD by the mean cross-entropy of all pixels, as there.

    Args:
        name (str): one of :data:`~.pixel_losses.PIXEL_LOSSES`: ``'cross_entropy'``, ``'masked_cross_entropy'``,
            ``'balanced_cross_entropy'``, ``'jensen_shannon'``, ``'segpgd'``, ``'cospgd'``, ``'margin'`` or ``'dlr'``.
        class_weight (Sequence[float] | None): what a pixel of each class weighs in ``'balanced_cross_entropy'``.
            Default: as much as makes the classes of an image alike.

    Raises:
        ValueError: there is no such loss, or it takes no weights.
    """

    greatest_harm = 1.0  # the share of wrong pixels

    def __init__(self, name: str = 'cross_entropy', class_weight: Sequence[float] | None = None):
        if name not in PIXEL_LOSSES:
            raise ValueError(f'PixelLoss has no loss {name!r}: {choices(name, PIXEL_LOSSES)}')
        if class_weight is not None and name != 'balanced_cross_entropy':
            raise ValueError(f'PixelLoss takes class_weight for balanced_cross_entropy alone, not for {name}')
        self.loss = PIXEL_LOSSES[name]
        self.classes = None if class_weight is None else len(class_weight)
        if class_weight is not None:
            self.loss = partial(class_weighted_cross_entropy, torch.tensor(class_weight, dtype=torch.float32))
        self.scheduled = name in SCHEDULED
        self.steered = name in STEERED

    def check_model(self, model) -> None:
        require_segmentor(model, 'PixelLoss', 'use TaskLoss')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Losses:
        self.check_model(model)
        require_annotations(data_samples)
        groups = [
            self._image_losses(logits, label, progress)
            for logits, label in pixel_logits(model, inputs, data_samples, training)
        ]
        return Losses(*(torch.cat(values) for values in zip(*groups, strict=True)))

    def _image_losses(self, logits: Tensor, label: Tensor, progress: float) -> Losses:
        """(N, K, H, W) and (N, H, W) of labels to (N,) each."""
        if self.classes not in (None, logits.size(1)):
            raise ValueError(
                f'class_weight of PixelLoss has {self.classes} weights, but the model {logits.size(1)} classes'
            )
        labelled = (label >= 0) & (label < logits.size(1))
        if not labelled.all():  # moves ignored pixels of any image out of sight of counts and classes
            return self._with_ignored(logits, label, labelled, progress)
        return self._means(logits, label, progress)

    def _with_ignored(self, logits: Tensor, label: Tensor, labelled: Tensor, progress: float) -> Losses:
        """The same, image by image, on the labelled pixels alone, laid out in one row."""
        found = []
        for z, y, seen in zip(logits, label, labelled, strict=True):
            if seen.any():  # (1, K, 1, P), (1, 1, P)
                found.append(self._means(z[:, seen][None, :, None], y[seen][None, None], progress))
            else:
                nothing = z.new_zeros(1)
                found.append(Losses(z.sum()[None] * 0, nothing, nothing))
        return Losses(*(torch.cat(values) for values in zip(*found, strict=True)))

    def _means(self, logits: Tensor, label: Tensor, progress: float) -> Losses:
        losses = self.loss(logits, label, progress)
        steer = cross_entropy(logits.detach(), label, progress) if self.steered else losses
        wrong = (~right(logits, label)).float()
        return Losses(*(values.mean((1, 2)) for values in (losses, wrong, steer)))


@OBJECTIVES.register_module()
class FusionObjective:
    """The fusion loss of the fused image against the clean pair: attacks the fusion network alone.

    Args:
        loss (dict): the fusion loss. Default: ``dict(type='FusionLoss')``.
    """

    partial = True

    def __init__(self, loss: dict | None = None):
        self.loss = build(MODELS, loss or {'type': 'FusionLoss'})

    def check_model(self, model) -> None:
        require_fuser(model, 'FusionObjective')

    def __call__(self, model, inputs, data_samples, clean, training: bool, progress: float = 1.0) -> Tensor:
        fuser = require_fuser(model, 'FusionObjective')
        fuser.fuse(inputs, clean, fuser.canvas(training))
        losses = [None] * len(inputs)
        for group in fuser.groups:
            values = self.loss(*fusion_loss_inputs(group), reduction='none')
            for place, value in zip(group.index, values, strict=True):
                losses[place] = value
        return torch.stack(losses)


@OBJECTIVES.register_module()
class WeightedSum:
    """A weighted sum of objectives.

    Args:
        objectives (list[dict]): their configs.
        weights (list[float]): one weight each.
    """

    def __init__(self, objectives: list[dict], weights: list[float]):
        if len(objectives) != len(weights):
            raise ValueError(f'WeightedSum has {len(objectives)} objectives but {len(weights)} weights')
        self.objectives = [build(OBJECTIVES, objective) for objective in objectives]
        self.weights = weights
        self.scheduled = any(getattr(objective, 'scheduled', False) for objective in self.objectives)
        self.partial = all(getattr(objective, 'partial', False) for objective in self.objectives)

    def check_model(self, model) -> None:
        for objective in self.objectives:
            check_model(objective, model)

    def __call__(self, *args) -> Losses:
        parts = [complete(objective(*args)) for objective in self.objectives]
        return Losses(
            *(
                sum(w * value for w, value in zip(self.weights, values, strict=True))
                for values in zip(*parts, strict=True)
            )
        )


def check_model(objective, model: nn.Module) -> None:
    """Raise a TypeError where an objective can't do with a model that is not wrapped, if it knows."""
    if hasattr(objective, 'check_model'):
        objective.check_model(model)


def own_losses(model: nn.Module, image: Tensor, sample, training: bool) -> dict:
    """The loss dict of a frozen model for one raw image (C, H, W) and its data sample, which stays as it is.

    Of the model itself: what hooks of a training run add to its losses, as the fusion loss, is left out.
    """
    sample = sample.clone() if training else as_the_network_sees(sample)
    whole = training or not hasattr(model, 'extract_feat')
    fixed = fixed_draws(image.device, SAMPLE.get()) if whole else _fixed_after_features(model, image.device)
    with loss_mode(model), fixed:
        data = _preprocessed(model, {'inputs': [image], 'data_samples': [sample]}, training)
        return model.forward(**data, mode='loss')


@contextmanager
def _fixed_after_features(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, what the model draws once it has its features is the same every time, but for another :data:`SAMPLE`, and
    no draw of the outside."""
    extract_feat, before = model.extract_feat, vars(model).get('extract_feat')
    with ExitStack() as fixed:

        def extract(*args, **settings):
            features = extract_feat(*args, **settings)
            fixed.pop_all().close()  # of a model that extracts more than once
            fixed.enter_context(fixed_draws(device, SAMPLE.get()))
            return features

        model.extract_feat = extract
        try:
            yield
        finally:
            del model.extract_feat
            if before is not None:
                model.extract_feat = before


def losses_of_each(model: nn.Module, images: Sequence[Tensor], samples: Sequence, training: bool) -> dict:
    """The losses of N images of one size, (N,) of each, in one pass of a segmentor whose heads make them of logits.

    They are of what the model predicts: without what a test's preprocessor pads, and in the windows of a sliding test,
    which auxiliary heads don't have.
    """

    def one_by_one(losses_of, logits: Tensor, samples: list) -> dict:
        logits = [z[None] if training else _crop_padding(z[None], s) for z, s in zip(logits, samples, strict=True)]
        found = [losses_of(z, [sample]) for z, sample in zip(logits, samples, strict=True)]
        return {name: torch.stack([_mean(losses[name]) for losses in found]) for name in found[0]}

    samples = [sample.clone() for sample in samples]
    data = model.data_preprocessor({'inputs': list(images), 'data_samples': samples}, training)
    if not _is_one_pass(model, training):
        logits = model.inference(data['inputs'], [sample.metainfo for sample in data['data_samples']])
        losses = one_by_one(model.decode_head.loss_by_feat, logits, data['data_samples'])
        return {f'decode.{name}': value for name, value in losses.items()}
    with ExitStack() as seams, loss_mode(model):
        for head in plain_heads(model):
            seams.callback(around_losses(head, one_by_one).remove)
        return model.forward(**data, mode='loss')


def _mean(values: Tensor) -> Tensor:
    """0 where there are none: mmseg's Lovasz loss is empty for an image without a label."""
    return values.mean() if values.numel() else values.sum()


def _preprocessed(model: nn.Module, batch: dict, training: bool) -> dict:
    """A batch as the loss needs it.

    mmdet's preprocessors pad masks together with images, or make further targets, in training alone. Test images are
    treated so, too, but without the augmentations of training batches.
    """
    detector = next((m for m in model.data_preprocessor.modules() if hasattr(m, 'pad_mask')), None)
    if training or detector is None:
        data = model.data_preprocessor(batch, training)
        for sample in data['data_samples']:
            if 'gt_score' in sample:  # of a classifier trained on mixed labels: a loss of whole numbers fails
                sample.set_gt_score(sample.gt_score.float())
        return data
    augments, detector.batch_augments = detector.batch_augments, None
    try:
        return model.data_preprocessor(batch, True)
    finally:
        detector.batch_augments = augments


def as_the_network_sees(sample):
    """A copy of a test sample with its boxes, masks and stuff at the size of the network's input.

    OpenMMLab's test pipelines load annotations after resizing, at the size of the file, where results are measured.
    """
    sample = sample.clone()
    factor = sample.metainfo.get('scale_factor', (1.0, 1.0))
    for key in ('gt_instances', 'ignored_instances'):
        instances = sample.get(key)
        if instances is None or tuple(factor[:2]) == (1.0, 1.0):
            continue
        instances = instances.clone()
        if 'bboxes' in instances:
            boxes = getattr(instances.bboxes, 'tensor', instances.bboxes)  # of mmdet's box types
            columns = boxes[:, 0::2] * factor[0], boxes[:, 1::2] * factor[1]  # no tensor is sent to a GPU
            instances.bboxes = torch.stack(columns, -1).flatten(1)
        if 'masks' in instances:
            instances.masks = instances.masks.resize(sample.metainfo['img_shape'][:2])
        sample.set_field(instances, key)
    stuff = sample.get('gt_sem_seg')
    if stuff is not None and 'sem_seg' in stuff:  # of a detector; segmentors resize their own predictions
        size = tuple(sample.metainfo['img_shape'][:2])
        resized = F.interpolate(stuff.sem_seg[None].float(), size, mode='nearest')[0].to(stuff.sem_seg.dtype)
        sample.set_field(type(stuff)(sem_seg=resized), 'gt_sem_seg')
    return sample


def require_segmentor(model: nn.Module, who: str, instead: str = '') -> nn.Module:
    """The model itself; raises TypeError where it is no segmentor of mmseg."""
    from mmseg.models.segmentors.base import BaseSegmentor

    if not isinstance(model, BaseSegmentor):
        hint = f': {instead}' if instead else ''
        raise TypeError(f'{who} attacks segmentors, not {type(model).__name__}{hint}')
    return model


def require_detector(model: nn.Module, who: str) -> None:
    """Raises TypeError where a model is no detector of mmdet."""
    from mmdet.models.detectors.base import BaseDetector

    if not isinstance(model, BaseDetector):
        raise TypeError(f'{who} attacks detectors of boxes, not {type(model).__name__}')


def require_annotations(data_samples: list) -> None:
    """Raises ValueError where a data sample holds no ground truth."""
    if not all(has_annotations(sample) for sample in data_samples):
        raise ValueError(
            'the attack needs annotations, but the data samples hold none: load them in the pipeline of this '
            "dataloader, by dict(type='LoadAnnotations') before the Pack... transform; a test set without labels has "
            'none to load, and can not be attacked'
        )


def has_annotations(sample) -> bool:
    """Whether a data sample of mmseg, mmdet or mmpretrain holds ground truth."""
    instances = sample.get('gt_instances')  # mmdet packs them even where nothing was loaded
    known = [key for key in sample.keys() if key.startswith('gt_')]  # noqa: SIM118 (not a dict)
    return any(key != 'gt_instances' or instances.keys() for key in known)


def _trained_per_pixel(model: nn.Module) -> bool:
    """Whether the decode head is trained by cross-entropy of its logits alone: no other terms, no choice of pixels."""
    head = getattr(model, 'decode_head', None)
    if head is None:
        return False
    from mmseg.models import CrossEntropyLoss
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    return (
        isinstance(head, BaseDecodeHead)
        and type(head).loss is BaseDecodeHead.loss
        and type(head).loss_by_feat is BaseDecodeHead.loss_by_feat
        and head.sampler is None
        and all(isinstance(loss, CrossEntropyLoss) and not loss.use_sigmoid for loss in _losses_of(head))
        and not any(loss.use_mask for loss in _losses_of(head))
    )


def _lost_by_plain_heads(model: nn.Module) -> bool:
    """Whether a segmentor's losses are those that its heads make of their logits, and nothing else."""
    if plain_heads(model) is None:
        return False
    from mmseg.models.segmentors import EncoderDecoder

    return isinstance(model, EncoderDecoder) and type(model).loss is EncoderDecoder.loss


def _losses_of(head) -> list[nn.Module]:
    return list(head.loss_decode) if isinstance(head.loss_decode, nn.ModuleList) else [head.loss_decode]


def pixel_losses(model: nn.Module, inputs: list[Tensor], data_samples: list, training: bool) -> Tensor:
    """Mean of the decode head's loss over each image's labelled pixels, (N,); 0 where every pixel is ignored."""
    groups = pixel_logits(model, inputs, data_samples, training)
    return torch.cat([_mean_over_labelled(model.decode_head, logits, label) for logits, label in groups])


def pixel_logits(model: nn.Module, inputs: list[Tensor], data_samples: list, training: bool) -> list:
    """Logits (n, K, H, W) at the labels' size and labels (n, H, W), in one group if all labels have one size."""
    samples = [sample.clone() for sample in data_samples] if training else data_samples
    data = model.data_preprocessor({'inputs': inputs, 'data_samples': samples}, training)
    if _is_one_pass(model, training):
        logits = model(**data, mode='tensor')  # (N, K, h, w)
    else:
        logits = model.inference(data['inputs'], [sample.metainfo for sample in data['data_samples']])
    logits = bounded(logits.float())  # of an attack with passes in bf16, whose losses are in fp32 all the same
    if logits.size(1) == 1:  # one channel of foreground above a threshold, as two
        threshold = torch.as_tensor(model.decode_head.threshold)
        logits = torch.cat([torch.zeros_like(logits), logits - threshold.logit()], 1)
    if not training:
        logits = _crop_padding(logits, data['data_samples'][0])
    labels = [sample.gt_sem_seg.data.to(logits.device) for sample in data['data_samples']]  # (1, H, W) each
    if len({label.shape for label in labels}) == 1:
        groups = [(logits, torch.cat(labels))]
    else:
        groups = [(logits[i : i + 1], label) for i, label in enumerate(labels)]
    align = model.align_corners
    return [(F.interpolate(z, label.shape[-2:], mode='bilinear', align_corners=align), label) for z, label in groups]


def _is_one_pass(model: nn.Module, training: bool) -> bool:
    """Whether the head's plain output is what the model predicts by: no sliding window, cascade, queries or lists."""
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead

    head = getattr(model, 'decode_head', None)
    plain = isinstance(head, BaseDecodeHead) and type(head).predict is BaseDecodeHead.predict
    return plain and (training or model.test_cfg.get('mode', 'whole') == 'whole')


def _crop_padding(logits: Tensor, sample) -> Tensor:
    """Drop what a test-time preprocessor padded (``img_padding_size``: left, right, top, bottom), if anything."""
    left, right, top, bottom = sample.metainfo.get('img_padding_size', (0, 0, 0, 0))
    if not (left or right or top or bottom):
        return logits
    height, width = sample.metainfo['pad_shape'][-2:]
    logits = F.interpolate(logits, (height, width), mode='bilinear', align_corners=False)
    return logits[..., top : height - bottom, left : width - right]


def _mean_over_labelled(head, logits: Tensor, label: Tensor) -> Tensor:
    """(N, K, H, W) and (N, H, W) -> (N,)."""
    losses = sum(
        loss(logits, label, ignore_index=head.ignore_index, reduction_override='none') for loss in _losses_of(head)
    )
    labelled = label != head.ignore_index
    return (losses * labelled).sum((1, 2)) / labelled.sum((1, 2)).clamp_min(1)
