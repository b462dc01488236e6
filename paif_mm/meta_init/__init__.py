"""Meta-initialisation of the fusion network against attacks of several strengths."""

from .aat import Scene, adapt, functional_loss, hessian_product, loss_and_gradient, meta_gradient
from .batches import MetaBatches
from .hook import AATMetaInitHook

__all__ = [
    'AATMetaInitHook',
    'MetaBatches',
    'Scene',
    'adapt',
    'functional_loss',
    'hessian_product',
    'loss_and_gradient',
    'meta_gradient',
]
