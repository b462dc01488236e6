"""The weights that a derived network inherits from its supernet."""

from collections.abc import Mapping

from torch import Tensor

from .genotype import Genotype

_FIRST = 'ir.chain.0.alpha'  # a name that supernets alone have


def derived_state(state: Mapping[str, Tensor], genotype: Genotype) -> dict[str, Tensor]:
    """The weights of a :class:`FusionNet` with ``genotype`` out of the state of a supernet, or of a model with one.

    Raises:
        KeyError: there is no supernet in the state, or it has no such candidate.
    """
    first = next((key for key in state if key.endswith(_FIRST)), None)
    if first is None:
        raise KeyError('holds no FusionSupernet')
    prefix = first.removesuffix(_FIRST)
    inside = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    result = {key: value for key, value in inside.items() if '.candidates.' not in key and not key.endswith('.alpha')}
    for chain, names in genotype.items():
        root = 'chain' if chain == 'fused' else f'{chain}.chain'
        for i, name in enumerate(names):
            candidate = f'{root}.{i}.candidates.{name}.'
            chosen = {key.removeprefix(candidate): v for key, v in inside.items() if key.startswith(candidate)}
            if not chosen:
                raise KeyError(f"has no candidate '{name}' at {chain}.{i}")
            result.update({f'{root}.{i}.{key}': value for key, value in chosen.items()})
    return result
