"""Stands in for mmcv's compiled operators: those that a few lines of torch and torchvision can express.

Each keeps the name, the arguments and the habit of the compiled one that it stands for, which is mostly to write into
tensors that it is handed. Gradients of operators that torch can differentiate are torch's.
"""

import importlib.util
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from importlib.machinery import ModuleSpec

import torch
import torch.nn.functional as F
from torch import Tensor

_EXT = 'mmcv._ext'


def install_operators() -> None:
    """Put the fallback where mmcv looks for its compiled operators, if there are none."""
    if not has_compiled_ops() and _EXT not in sys.modules:
        import mmcv

        mmcv._ext = sys.modules[_EXT] = _FallbackOps()


def has_compiled_ops() -> bool:
    """Whether the installed mmcv brings its own compiled operators."""
    if isinstance(sys.modules.get(_EXT), _FallbackOps):
        return False
    return _EXT in sys.modules or importlib.util.find_spec(_EXT) is not None


class _FallbackOps(types.ModuleType):
    """Stands in for ``mmcv._ext``: every operator name exists, as mmcv checks on import."""

    def __init__(self):
        super().__init__(_EXT, doc=__doc__)
        self.__spec__ = ModuleSpec(_EXT, loader=None)  # mmengine's environment report asks for one
        for operator in _OPERATORS:
            setattr(self, operator.__name__, operator)
        self.get_compiler_version = self.get_compiling_cuda_version = lambda: 'not compiled (paif_mm fallback)'

    def __getattr__(self, name: str):
        if name.startswith('__'):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(
                f'mmcv operator "{name}" is compiled code, and this mmcv has none: install the full mmcv '
                '(pip install -U openmim && mim install mmcv) or choose a model that does without it'
            )

        return missing


def _differentiated(function: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor) -> list[Tensor]:
    """Gradients of ``function(*inputs)`` towards each input; 0 for those that it does not use."""
    with torch.enable_grad():
        inputs = [value.detach().requires_grad_() for value in inputs]
        output = function(*inputs)
        return torch.autograd.grad(output, inputs, grad_output, allow_unused=True, materialize_grads=True)


# -------------------------------------------------------------------------------------------------------- boxes


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the kept boxes (K,), by falling score; ``offset=1`` means inclusive corners (width x2 - x1 + 1)."""
    from torchvision.ops import nms

    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return nms(boxes, scores, iou_threshold)


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Write boxes with decayed scores (Bodla et al. 2017) into the first rows of ``dets`` (N, 5); their indices (K,).

    The best box left is kept, and those that overlap it by IoU o lose score: all of it (method 0) or the share o
    (1: linear) where o reaches the threshold, or all but exp(-o^2 / sigma) (2: Gaussian).
    """
    scores, left, kept = scores.clone(), torch.arange(len(boxes)), []
    while len(left):
        best = left[scores[left].argmax()]
        dets[len(kept)] = torch.cat([boxes[best], scores[best][None]])
        kept.append(best)
        left = left[left != best]
        overlap = _overlaps(boxes[best], boxes[left], offset)
        if method == 2:
            scores[left] *= torch.exp(-(overlap**2) / sigma)
        else:
            scores[left] *= torch.where(overlap >= iou_threshold, 1 - overlap if method == 1 else 0.0, 1.0)
        left = left[scores[left] >= min_score]
    return torch.stack(kept) if kept else left


def nms_match(dets: Tensor, iou_threshold: float) -> list[list[int]]:
    """Groups of boxes (N, 5): each kept one with those that it suppresses, both by falling score."""
    left, groups = dets[:, 4].argsort(descending=True), []
    overlaps = _overlaps(dets[:, None, :4], dets[:, :4])
    while len(left):
        first, rest = left[0], left[1:]
        near = overlaps[first, rest] >= iou_threshold
        groups.append([int(first), *rest[near].tolist()])
        left = rest[~near]
    return groups


def bbox_overlaps(
    bboxes1: Tensor, bboxes2: Tensor, ious: Tensor, mode: int = 0, aligned: bool = False, offset: int = 0
) -> None:
    """Write IoU (mode 0) or intersection over the first box (1) into ``ious``: (M, N), or (M,) of aligned pairs."""
    first = bboxes1 if aligned else bboxes1[:, None]
    ious.copy_(_overlaps(first, bboxes2, offset, mode == 1))


def _overlaps(a: Tensor, b: Tensor, offset: int = 0, over_first: bool = False) -> Tensor:
    """IoU of boxes (..., 4) whose shapes broadcast, or their intersection over the first one's area."""
    areas_a, areas_b = ((boxes[..., 2:] - boxes[..., :2] + offset).prod(-1) for boxes in (a, b))
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inner = (high - low + offset).clamp_min(0).prod(-1)
    union = areas_a if over_first else areas_a + areas_b - inner
    return inner / union.clamp_min(torch.finfo(inner.dtype).tiny)


# ------------------------------------------------------------------------------------------------------- losses


def _focal_terms(logits: Tensor, target: Tensor, weight: Tensor, alpha: float):
    """One-hot target, class factor and probabilities shared by the focal loss and its gradient, (N, C) each."""
    classes = torch.arange(logits.size(1), device=logits.device)
    positive = target[:, None] == classes  # target == C is background: no positive class
    factor = torch.where(positive, alpha, 1 - alpha).to(logits)
    if weight.numel():
        padded = torch.cat([weight, weight.new_ones(1)])  # background weighs 1
        factor = factor * padded[target][:, None]
    return positive, factor, logits.sigmoid()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Write the element-wise focal loss (Lin et al. 2017) of logits (N, C) into ``output``.

    With p_t the probability of the right answer: ``-alpha_t (1 - p_t)^gamma log p_t``.
    """
    positive, factor, p = _focal_terms(input, target, weight, alpha)
    wrong = torch.where(positive, 1 - p, p)  # 1 - p_t
    log_right = F.logsigmoid(torch.where(positive, input, -input))
    output.copy_(-factor * wrong.pow(gamma) * log_right)


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Write d loss / d logits (N, C) into ``grad_input``.

    For s = +1 on the positive class and -1 elsewhere:
    ``s alpha_t (1 - p_t)^gamma (gamma p_t log p_t - (1 - p_t))``.
    """
    positive, factor, p = _focal_terms(input, target, weight, alpha)
    wrong = torch.where(positive, 1 - p, p)
    log_right = F.logsigmoid(torch.where(positive, input, -input))
    sign = torch.where(positive, 1.0, -1.0).to(input)
    grad_input.copy_(sign * factor * wrong.pow(gamma) * (gamma * (1 - wrong) * log_right - wrong))


# ------------------------------------------------------------------------------------------------------ pooling


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the pooled features (K, C, aligned_height, aligned_width) of rois (K, 5) into ``output``."""
    from torchvision.ops import roi_align

    _require_average(pool_mode)
    output.copy_(roi_align(input, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned))


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write d / d input (N, C, H, W) into ``grad_input``."""
    from torchvision.ops import roi_align

    _require_average(pool_mode)

    def pooled(features: Tensor) -> Tensor:
        return roi_align(features, rois, (aligned_height, aligned_width), spatial_scale, sampling_ratio, aligned)

    # the pooling is linear: its gradient is the same at any input
    grad_input.copy_(_differentiated(pooled, [torch.zeros_like(grad_input)], grad_output)[0])


def _require_average(pool_mode: int) -> None:
    if pool_mode != 1:
        raise NotImplementedError('RoIAlign with pool_mode="max" needs the full mmcv, with compiled operators')


# ------------------------------------------------------------------------------------------------- convolutions


def deform_conv_forward(
    input: Tensor, weight: Tensor, offset: Tensor, output: Tensor, columns: Tensor, ones: Tensor, **settings
) -> None:
    """Write the deformable convolution (Dai et al. 2017) into ``output``."""
    output.copy_(_deform_conv(settings)(input, offset, weight))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_input: Tensor,
    grad_offset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings,
) -> None:
    """Write the gradients towards features and offsets."""
    function = partial(_deform_conv(settings), weight=weight)
    for place, value in zip(
        (grad_input, grad_offset), _differentiated(function, [input, offset], grad_output), strict=True
    ):
        place.copy_(value)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    grad_output: Tensor,
    grad_weight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float = 1.0,
    **settings,
) -> None:
    """Add the gradient towards the weights, times ``scale``."""
    function = partial(_deform_conv(settings), input, offset)
    grad_weight += scale * _differentiated(function, [torch.zeros_like(grad_weight)], grad_output)[0]


def _deform_conv(settings: dict) -> Callable[..., Tensor]:
    """torchvision's function with mmcv's settings; groups follow from the shapes."""
    from torchvision.ops import deform_conv2d

    stride, padding, dilation = ((settings[f'{name}H'], settings[f'{name}W']) for name in ('d', 'pad', 'dilation'))

    def convolved(input: Tensor, offset: Tensor, weight: Tensor) -> Tensor:
        return deform_conv2d(input, offset, weight, None, stride, padding, dilation)

    return convolved


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    **settings,
) -> None:
    """Write the modulated deformable convolution (Zhu et al. 2019) into ``output``."""
    output.copy_(_modulated_deform_conv(settings)(input, weight, bias, offset, mask))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    **settings,
) -> None:
    """Write the gradients towards everything that the convolution depends on."""
    inputs = [input, weight, bias, offset, mask]
    gradients = _differentiated(_modulated_deform_conv(settings), inputs, grad_output)
    for place, value in zip((grad_input, grad_weight, grad_bias, grad_offset, grad_mask), gradients, strict=True):
        place.copy_(value)


def _modulated_deform_conv(settings: dict) -> Callable[..., Tensor]:
    from torchvision.ops import deform_conv2d

    stride, padding, dilation = (
        (settings[f'{name}_h'], settings[f'{name}_w']) for name in ('stride', 'pad', 'dilation')
    )

    def convolved(input: Tensor, weight: Tensor, bias: Tensor, offset: Tensor, mask: Tensor) -> Tensor:
        size = [
            (side + 2 * pad - gap * (kernel - 1) - 1) // step + 1
            for side, kernel, step, pad, gap in zip(
                input.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
            )
        ]
        offset, mask = (_read_as(part, size) for part in (offset, mask))
        bias = bias if settings['with_bias'] else None
        return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)

    return convolved


def _read_as(maps: Tensor, size: list[int]) -> Tensor:
    """Maps (N, C, h, w) as mmcv's kernels read them: in the output's size, from the beginning of each image's memory.

    DyHead gives the offsets of a larger level, and its weights are trained with what is read of them.
    """
    n, channels = maps.shape[:2]
    if list(maps.shape[2:]) == size:
        return maps
    return maps.flatten(1)[:, : channels * size[0] * size[1]].reshape(n, channels, *size)


def masked_im2col_forward(
    features: Tensor,
    mask_h_idx: Tensor,
    mask_w_idx: Tensor,
    data_col: Tensor,
    kernel_h: int,
    kernel_w: int,
    pad_h: int,
    pad_w: int,
) -> None:
    """Write the windows (C kernel_h kernel_w, n) around n places of one image (1, C, H, W) into ``data_col``."""
    windows = F.unfold(features, (kernel_h, kernel_w), padding=(pad_h, pad_w))[0]
    width = features.size(3) + 2 * pad_w - kernel_w + 1
    data_col.copy_(windows[:, mask_h_idx * width + mask_w_idx])


def masked_col2im_forward(
    data_col: Tensor, mask_h_idx: Tensor, mask_w_idx: Tensor, output: Tensor, height: int, width: int, channels: int
) -> None:
    """Write columns (C, n) to n places of one image (1, C, height, width)."""
    output[0, :, mask_h_idx, mask_w_idx] = data_col


# ------------------------------------------------------------------------------------------- attention and such


def ms_deform_attn_forward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int,
) -> Tensor:
    """Multi-scale deformable attention (Zhu et al. 2021), by mmcv's own torch form; mmcv asks for this on GPUs only."""
    from mmcv.ops.multi_scale_deform_attn import multi_scale_deformable_attn_pytorch

    return multi_scale_deformable_attn_pytorch(value, value_spatial_shapes, sampling_locations, attention_weights)


def ms_deform_attn_backward(
    value: Tensor,
    value_spatial_shapes: Tensor,
    value_level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    grad_output: Tensor,
    grad_value: Tensor,
    grad_sampling_loc: Tensor,
    grad_attn_weight: Tensor,
    im2col_step: int,
) -> None:
    """Write the gradients towards values, locations and weights."""

    def attended(value: Tensor, locations: Tensor, weights: Tensor) -> Tensor:
        return ms_deform_attn_forward(
            value, value_spatial_shapes, value_level_start_index, locations, weights, im2col_step
        )

    gradients = _differentiated(attended, [value, sampling_locations, attention_weights], grad_output)
    for place, gradient in zip((grad_value, grad_sampling_loc, grad_attn_weight), gradients, strict=True):
        place.copy_(gradient)


def carafe_forward(
    features: Tensor,
    masks: Tensor,
    rfeatures: Tensor,
    routput: Tensor,
    rmasks: Tensor,
    output: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write CARAFE's upsampling (Wang et al. 2019) of (N, C, H, W) by ``scale_factor`` into ``output``.

    Each output pixel is a weighted sum of the ``kernel_size``^2 input pixels around its own. Its weights are in
    ``masks`` (N, groups kernel_size^2, s H, s W), one set for each group of C / groups channels.
    """
    rfeatures.copy_(features)  # what the backward pass is handed
    result = _blocks(torch.zeros_like(output), group_size, scale_factor)
    for window, weight in _windows(features, masks, kernel_size, group_size, scale_factor):
        result.addcmul_(window, weight)
    output.copy_(result.reshape(output.shape))


def carafe_backward(
    grad_output: Tensor,
    rfeatures: Tensor,
    masks: Tensor,
    rgrad_output: Tensor,
    rgrad_input_hs: Tensor,
    rgrad_input: Tensor,
    rgrad_masks: Tensor,
    grad_input: Tensor,
    grad_masks: Tensor,
    kernel_size: int,
    group_size: int,
    scale_factor: int,
) -> None:
    """Write the gradients towards features and masks."""
    half, (height, width) = kernel_size // 2, rfeatures.shape[-2:]
    padded = F.pad(torch.zeros_like(rfeatures), [half] * 4).unflatten(1, (group_size, -1))
    blocks = _blocks(grad_output, group_size, scale_factor)
    for place, (window, weight) in enumerate(_windows(rfeatures, masks, kernel_size, group_size, scale_factor)):
        row, column = divmod(place, kernel_size)
        padded[..., row : row + height, column : column + width] += (blocks * weight).sum((4, 6))
        grad_masks[:, place :: kernel_size**2] = (blocks * window).sum(2).flatten(4, 5).flatten(2, 3)
    grad_input.copy_(padded.flatten(1, 2)[..., half : half + height, half : half + width])


def _windows(features: Tensor, masks: Tensor, kernel_size: int, groups: int, scale: int):
    """Yields, for each place of the kernel, row by row, the features seen there and their weights.

    Of the shapes (N, G, C / G, H, 1, W, 1) and (N, G, 1, H, s, W, s): one number of features for a block of outputs.
    """
    half, (height, width) = kernel_size // 2, features.shape[-2:]
    padded = F.pad(features, [half] * 4).unflatten(1, (groups, -1))
    for place in range(kernel_size**2):
        row, column = divmod(place, kernel_size)
        seen = padded[..., row : row + height, column : column + width]
        yield seen[..., :, None, :, None], _blocks(masks[:, place :: kernel_size**2], groups, scale)


def _blocks(images: Tensor, groups: int, scale: int) -> Tensor:
    """(N, C, s H, s W) as (N, G, C / G, H, s, W, s)."""
    return images.unflatten(1, (groups, -1)).unflatten(3, (-1, scale)).unflatten(5, (-1, scale))


def psamask_forward(
    input: Tensor,
    output: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write PSANet's attention (Zhao et al. 2018) of all pixels to all pixels, (N, H W, H, W), into ``output``.

    ``input`` (N, h_mask w_mask, H, W) holds it relative to each pixel. Collecting (0), a pixel's values lie at
    [:, other, pixel], distributing (1) at [:, pixel, other].
    """
    here, there, mask = _psa_places(input.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    target, source = output.view(num_, h_feature * w_feature, -1), input.reshape(num_, h_mask * w_mask, -1)
    rows, columns = (there, here) if psa_type == 0 else (here, there)
    target[:, rows, columns] = source[:, mask, here]


def psamask_backward(
    grad_output: Tensor,
    grad_input: Tensor,
    psa_type: int,
    num_: int,
    h_feature: int,
    w_feature: int,
    h_mask: int,
    w_mask: int,
    half_h_mask: int,
    half_w_mask: int,
) -> None:
    """Write the gradient towards the relative attention."""
    here, there, mask = _psa_places(grad_input.device, h_feature, w_feature, h_mask, w_mask, half_h_mask, half_w_mask)
    target, source = grad_input.view(num_, h_mask * w_mask, -1), grad_output.reshape(num_, h_feature * w_feature, -1)
    rows, columns = (there, here) if psa_type == 0 else (here, there)
    target[:, mask, here] = source[:, rows, columns]


def _psa_places(device, height: int, width: int, h_mask: int, w_mask: int, half_h: int, half_w: int):
    """Flat places of each pixel, of each other pixel that its mask reaches, and of that one within the mask, (P,)."""
    y, x, i, j = torch.meshgrid(
        *(torch.arange(size, device=device) for size in (height, width, h_mask, w_mask)), indexing='ij'
    )
    other_y, other_x = y + i - half_h, x + j - half_w
    inside = (other_y >= 0) & (other_y < height) & (other_x >= 0) & (other_x < width)
    return (place[inside] for place in (y * width + x, other_y * width + other_x, i * w_mask + j))


_OPERATORS = (
    nms,
    softnms,
    nms_match,
    bbox_overlaps,
    sigmoid_focal_loss_forward,
    sigmoid_focal_loss_backward,
    roi_align_forward,
    roi_align_backward,
    deform_conv_forward,
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    modulated_deform_conv_forward,
    modulated_deform_conv_backward,
    masked_im2col_forward,
    masked_col2im_forward,
    ms_deform_attn_forward,
    ms_deform_attn_backward,
    carafe_forward,
    carafe_backward,
    psamask_forward,
    psamask_backward,
)
