"""Registries of the package, children of mmengine's.

A config of any OpenMMLab library names what we register with the scope ``paif_mm``, as in
``dict(type='paif_mm.LoadPairFromFile')``; each registry imports its ``locations`` on the first look-up.
Inside our own modules a short name is enough: see :func:`build`.
A name or an argument that is not known is told with the known ones, the nearest first.
"""

from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS as MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

from .mistakes import explain_build

SCOPE = 'paif_mm'


class HelpfulRegistry(Registry):
    """A registry that says what a name or an argument was probably meant to be."""

    def build(self, *args, **kwargs):
        try:
            return super().build(*args, **kwargs)
        except (KeyError, TypeError) as error:
            line = explain_build(error)
            if line is None:
                raise
            raise type(error)(line) from error


def _child(parent: Registry, *locations: str) -> Registry:
    return HelpfulRegistry(parent.name, parent=parent, scope=SCOPE, locations=[f'{SCOPE}.{name}' for name in locations])


TRANSFORMS = _child(MMENGINE_TRANSFORMS, 'data')
DATASETS = _child(MMENGINE_DATASETS, 'data')
MODELS = _child(MMENGINE_MODELS, 'fusion', 'perception', 'perception.released_head', 'losses', 'dual_stream')
HOOKS = _child(MMENGINE_HOOKS, 'losses', 'attacks', 'engine', 'search', 'meta_init', 'evaluation')
LOOPS = _child(MMENGINE_LOOPS, 'search')
OPTIM_WRAPPERS = _child(MMENGINE_OPTIM_WRAPPERS, 'engine')
OPTIM_WRAPPER_CONSTRUCTORS = _child(MMENGINE_OPTIM_WRAPPER_CONSTRUCTORS, 'search')
METRICS = _child(MMENGINE_METRICS, 'evaluation')

#: Operations of the fusion network, by the paper's names (``3-DB``, ``CA``, ...): ``(channels) -> nn.Module``.
OPERATIONS = HelpfulRegistry('fusion operation', scope=SCOPE, locations=[f'{SCOPE}.fusion'])
#: Attacks and their objectives.
ATTACKS = HelpfulRegistry('attack', scope=SCOPE, locations=[f'{SCOPE}.attacks'])
OBJECTIVES = HelpfulRegistry('attack objective', scope=SCOPE, locations=[f'{SCOPE}.attacks'])


def build(registry: Registry, cfg: dict, **default_args):
    """Build ``cfg`` from one of our registries, whatever the config's default scope is.

    Args:
        registry (Registry): one of this module's registries.
        cfg (dict | object): a config with ``type``; short names are ours. Built objects pass through.
        default_args: arguments that ``cfg`` may override.

    Raises:
        TypeError: ``cfg`` is neither, but a text, a number or None.
    """
    if cfg is None or isinstance(cfg, str | int | float | list | tuple):
        raise TypeError(f'{registry.name} must be a dict(type=...), not {cfg!r}')
    if not isinstance(cfg, dict):
        return cfg
    return registry.build({'_scope_': SCOPE, **cfg}, default_args=default_args or None)
