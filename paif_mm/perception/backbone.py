"""The fusion network as (the first half of) a model's backbone."""

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS as MMENGINE_MODELS
from torch import Tensor, nn

from paif_mm.registry import MODELS

from .fuser import NotPairsError, PairFuser, luminances


@MODELS.register_module()
class FusionBackbone(PairFuser, BaseModule):
    """u = N(x, y) inside the model: takes pairs from a stock preprocessor and hands fused images to a backbone.

    For whatever calls ``model.forward`` without its preprocessor: export, FLOPs counting, FSDP. The preprocessor must
    leave pairs as they are, ``dict(type='SegDataPreProcessor', size=...)`` without mean, std and colour conversion;
    the backbone's normalisation is given here instead. On images that need no padding the numbers are those of
    :class:`FusionDataPreprocessor`; padding, which happens before the fusion here, is fused as a black pair.
    ``tools/model_converters/backbone_form.py`` renames the weights of a trained preprocessor form.

    Args:
        fusion (dict): the fusion network, e.g. ``dict(type='FusionNet')``.
        backbone (dict): the backbone that the model had.
        mean, std (Sequence[float]): its normalisation, R,G,B, in pixel values of [0, 255].
        init_cfg (dict, optional): as in mmengine.
    """

    def __init__(
        self,
        fusion: dict,
        backbone: dict,
        mean: Sequence[float] = (123.675, 116.28, 103.53),
        std: Sequence[float] = (58.395, 57.12, 57.375),
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        self.hold(fusion)
        self.backbone = MMENGINE_MODELS.build(backbone)
        for name, value in (('mean', mean), ('std', std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)
        self._clean: Tensor | None = None
        self._watched = False

    def forward(self, pairs: Tensor):
        """(N, 4, H, W) B,G,R,IR in [0, 255] to the backbone's features.

        Raises:
            NotPairsError: the inputs are not pairs.
            FusionError: see :meth:`PairFuser.luma`.
        """
        if pairs.dim() != 4 or pairs.size(1) != 4:
            raise NotPairsError(
                f'FusionBackbone fuses pairs (N, 4, H, W), not inputs of the shape {tuple(pairs.shape)}: load images '
                "with dict(type='paif_mm.LoadPairFromFile'), and give the preprocessor no mean and std"
            )
        self.groups = []
        pair = pairs.float() / 255
        clean = self._clean if self._clean is not None and self._clean.shape == pair.shape else pair
        fused = self.compose(list(range(len(pair))), pair, clean, self.luma(*luminances(pair))).fused * 255
        return self.backbone((fused.flip(1) - self.mean) / self.std)  # B,G,R to R,G,B

    def watch(self, model: nn.Module) -> None:
        """Take the clean pairs and image weights of an attacked batch from the preprocessor, which ignores them."""
        if self._watched:
            return
        self._watched = True
        preprocessor = model.data_preprocessor

        def remember(_, args, kwargs):
            data, training = args[0], kwargs.get('training', args[1] if len(args) > 1 else False)
            self.take_marks(data)
            self._clean = None
            if data.get('clean_inputs') is not None:
                samples = data.get('data_samples')
                batch = {'inputs': data['clean_inputs'], 'data_samples': samples and [s.clone() for s in samples]}
                self._clean = preprocessor.forward(batch, training)['inputs'].float() / 255

        preprocessor.register_forward_pre_hook(remember, with_kwargs=True)


def to_backbone_form(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a model with a :class:`FusionDataPreprocessor`, named as its form with a :class:`FusionBackbone` does.

    Args:
        state: ``state_dict`` of the model or of its checkpoint.

    Raises:
        ValueError: there is no fusion network in the preprocessor.
    """
    fusion, backbone = 'data_preprocessor.fusion.', 'backbone.'
    if not any(key.startswith(fusion) for key in state):
        raise ValueError(f'the weights hold no {fusion}*: they are not of a model with a FusionDataPreprocessor')
    renamed = {}
    for key, value in state.items():
        if key.startswith(fusion):
            key = f'backbone.fusion.{key.removeprefix(fusion)}'
        elif key.startswith(backbone):
            key = f'backbone.{key}'
        renamed[key] = value
    return renamed
