"""One optimizer for the weights, one for the architecture."""

from mmengine.optim import OptimWrapperDict, build_optim_wrapper
from mmengine.registry import OPTIM_WRAPPERS, OPTIMIZERS

from paif_mm.fusion import find_supernet
from paif_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HDSOptimWrapperConstructor:
    """Builds the two optimizers of a search.

    ``optim_wrapper=dict(constructor='paif_mm.HDSOptimWrapperConstructor', weights=W, alphas=A)``, where W is what
    ``optim_wrapper`` is without a search (its own ``type``, ``constructor``, ``paramwise_cfg`` and all), and A has an
    ``optimizer`` and, if wanted, ``clip_grad``. The alphas are never among the weights' parameters.

    Raises:
        ValueError: one of the two is missing, or other settings stand beside them.
    """

    def __init__(self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None):
        given = set(optim_wrapper_cfg) | ({'paramwise_cfg'} if paramwise_cfg else set())
        if given != {'weights', 'alphas'}:
            raise ValueError(
                'optim_wrapper of a search has two parts, weights=dict(<your optim_wrapper>) and '
                f'alphas=dict(optimizer=dict(...)), not {sorted(given)}; paramwise_cfg belongs into weights'
            )
        self.cfg = optim_wrapper_cfg

    def __call__(self, model) -> OptimWrapperDict:
        """Build both for a model, wrapped or not."""
        alphas = find_supernet(model).alphas()
        weights = build_optim_wrapper(model, self.cfg['weights'])
        _leave_out(weights.optimizer.param_groups, alphas)
        cfg = {'type': 'OptimWrapper', **self.cfg['alphas']}
        cfg['optimizer'] = OPTIMIZERS.build({**cfg['optimizer'], 'params': alphas})
        return OptimWrapperDict(weights=weights, alphas=OPTIM_WRAPPERS.build(cfg))


def _leave_out(groups: list[dict], parameters) -> None:
    """Remove parameters, and groups that held nothing else, in place."""
    unwanted = {id(parameter) for parameter in parameters}
    for group in groups:
        group['params'] = [parameter for parameter in group['params'] if id(parameter) not in unwanted]
    groups[:] = [group for group in groups if group['params']]
