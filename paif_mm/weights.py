"""Weights of a checkpoint put into a model, and what does not fit said in one line."""

import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

SHOWN = 3  # names of each kind in a message
FUSION, BACKBONE_FUSION = 'data_preprocessor.fusion.', 'backbone.fusion.'


class WeightsError(ValueError):
    """A checkpoint does not fit the model; the message is one line for the user."""


class Misfit(NamedTuple):
    """What of a model and a checkpoint does not match.

    Attributes:
        missing: weights that the checkpoint lacks (batch norm's counters aside, which old checkpoints lack).
        unexpected: weights that the model lacks.
        shapes: weights of other shapes.
        fitting (int): how many were taken over.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    shapes: Sequence[str]
    fitting: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def __str__(self) -> str:
        kinds = {'missing': self.missing, 'unexpected': self.unexpected, 'of other shapes': self.shapes}
        return '; '.join(f'{len(names)} {kind} ({_some(names)})' for kind, names in kinds.items() if names)


def state_of(checkpoint: Mapping, where: str) -> dict[str, Tensor]:
    """The weights of a checkpoint, with ``state_dict`` or without, and without the ``module.`` of wrapped models.

    Raises:
        WeightsError: it holds none.
    """
    state = checkpoint.get('state_dict', checkpoint) if isinstance(checkpoint, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        held = _some(checkpoint) if isinstance(checkpoint, Mapping) else f'a {type(checkpoint).__name__}'
        raise WeightsError(f'{where} holds no weights: neither a state_dict nor tensors alone, but {held or "nothing"}')
    return _with_versions({re.sub(r'^module\.', '', key): value for key, value in state.items()}, state)


def load_weights(model: nn.Module, checkpoint: Mapping, where: str, partial: bool = False) -> Misfit:
    """Put the weights of a checkpoint into a model (not wrapped).

    Args:
        model: the model.
        checkpoint: as it was read.
        where: its file, for messages.
        partial: whether some may not fit.

    Raises:
        WeightsError: something does not fit; with ``partial``, nothing does.
    """
    state = state_of(checkpoint, where)
    misfit = _load(model, state)
    if misfit and (not partial or not misfit.fitting):
        hint = _hint(model, state, misfit)
        raise WeightsError(f'{where} does not fit {type(model).__name__}: {misfit}{hint and f"; {hint}"}')
    return misfit


def _load(model: nn.Module, state: dict[str, Tensor]) -> Misfit:
    """Load what fits, and tell what does not; modules may convert older names and shapes while they load."""
    shapes = []
    try:
        keys = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        shapes = re.findall(r'size mismatch for (\S+):', str(error))
        if not shapes:
            raise
        rest = {key: value for key, value in state.items() if key not in shapes}
        keys = model.load_state_dict(_with_versions(rest, state), strict=False)
    missing = [key for key in keys.missing_keys if key not in shapes and not key.endswith('num_batches_tracked')]
    fitting = len(state) - len(keys.unexpected_keys) - len(shapes)
    return Misfit(missing, keys.unexpected_keys, shapes, fitting)


def _with_versions(state: dict[str, Tensor], like: Mapping) -> dict[str, Tensor]:
    """The modules' versions of a state dict, by which they convert what older ones wrote."""
    state = OrderedDict(state)
    if hasattr(like, '_metadata'):
        state._metadata = like._metadata
    return state


def _hint(model: nn.Module, state: Mapping[str, Tensor], misfit: Misfit) -> str:
    """What was probably meant; empty if there is no telling."""
    own = model.state_dict()

    def has(names, part: str) -> bool:
        return any(part in name for name in names)

    fused = next((prefix for prefix in (FUSION, BACKBONE_FUSION) if has(own, prefix)), None)
    if has(state, 'enhance_net.') and has(state, 'denoise_net.'):
        return "it is of the authors' release: convert it with python tools/model_converters/paif_release.py SRC DST"
    for prefix in (FUSION, BACKBONE_FUSION):
        if own and all(f'{prefix}{key}' in state for key in own):
            return f'it is of a whole model: init_cfg=dict(type="Pretrained", checkpoint=..., prefix="{prefix}")'
    if has(misfit.unexpected, '.candidates.') and not has(own, '.candidates.'):
        return (
            "it is a search's: retrain the found network (genotype=.../genotype.json of the fusion network, which may "
            'start from the search by init_from_supernet=CHECKPOINT)'
        )
    if has(misfit.missing, '.candidates.') and not has(state, '.candidates.'):
        return "the config is a search's, the checkpoint is not: use the config it was trained with"
    if fused == BACKBONE_FUSION and has(state, FUSION):
        return 'it is of the form with a FusionDataPreprocessor: python tools/model_converters/backbone_form.py SRC DST'
    if fused == FUSION and has(state, BACKBONE_FUSION):
        return 'it is of the form with a FusionBackbone: use a config of that form'
    if fused and all(f'{fused}{key}' in own for key in state):
        return (
            'it holds a fusion network alone: name it in init_cfg=dict(type="Pretrained", checkpoint=...) of the '
            "model's fusion network"
        )
    if not misfit.fitting and type(model).__module__.startswith('paif_mm.fusion.zoo.'):
        name = type(model).__name__
        return f"if {name}'s authors made it, convert it: python tools/model_converters/fusion_zoo.py {name} SRC DST"
    if not misfit.fitting:
        return 'nothing fits: it is of another model'
    if fused and not has(state, fused):
        return 'it holds no fusion network: its model was not fused'
    if not fused and (has(state, FUSION) or has(state, BACKBONE_FUSION)):
        return 'its model was fused, that of the config is not'
    return ''


def _some(names) -> str:
    names = list(names)
    return ', '.join(map(str, names[:SHOWN])) + (', ...' if len(names) > SHOWN else '')
