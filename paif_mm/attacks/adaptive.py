"""An attacker who knows the defence: the same settings for all attacks of a test."""

from collections.abc import Mapping

from torch import nn

from paif_mm.registry import ATTACKS
from paif_mm.spelling import choices, known_arguments

from .bpda import check_modules, read_bpda
from .functional import check_samples

SETTINGS = ('eot_samples', 'bpda')  # what ``adaptive`` of a config may hold


def read_adaptive(adaptive: Mapping | None, model: nn.Module | None = None) -> dict:
    """The settings of ``adaptive`` in a config, checked.

    Args:
        adaptive: ``dict(eot_samples=..., bpda=...)``, as :class:`~.attack.PGD` takes them; either may be missing.
        model: whose modules ``bpda`` names.

    Raises:
        ValueError: it holds anything else, a value of it is none, or the model has no such module.
    """
    adaptive = {} if adaptive is None else adaptive
    if not isinstance(adaptive, Mapping):
        raise ValueError(
            f"adaptive must be a dict, e.g. dict(eot_samples=8, bpda={{'MODULE': 'identity'}}), not {adaptive!r}"
        )
    for name in adaptive:
        if name not in SETTINGS:
            raise ValueError(f'adaptive has no setting {name!r}: {choices(name, SETTINGS)}')
    check_samples(adaptive.get('eot_samples', 1))
    surrogates = read_bpda(adaptive.get('bpda'))
    if model is not None:
        check_modules(model, surrogates)
    return dict(adaptive)


def without_bpda(attack: Mapping | None) -> dict | None:
    """An attack's config but for what it knows of one model's modules: what makes it the same attack on another."""
    return attack and {name: value for name, value in attack.items() if name != 'bpda'}


def adapted(attack: Mapping, adaptive: Mapping) -> dict:
    """An attack's config with these settings, as far as the attack takes them and has none of its own.

    What goes without the tested model's gradients (corruptions, banks, transferred attacks) stays as it is.
    """
    kind = attack.get('type')
    kind = ATTACKS.get(kind.rpartition('.')[2]) if isinstance(kind, str) else kind
    known = known_arguments(kind)[0] if kind else []  # whoever builds it says that there is none
    return {**{name: value for name, value in adaptive.items() if name in known}, **attack}
