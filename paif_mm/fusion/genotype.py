"""Genotypes: which operation stands at each of the fusion network's six searchable places.

A genotype is a dict of three chains of two operation names each, for instance
``{'ir': ['3-DB', '3-DC'], 'vis': ['3-DB', '3-DB'], 'fused': ['CA', '7-RB']}``. Its file is JSON with these three keys;
further keys (a search's alphas, iteration, ...) are notes that a network does not read.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from paif_mm.registry import OPERATIONS

#: Chain -> number of places in it: infrared features, visible features, fused features.
CHAINS = {'ir': 2, 'vis': 2, 'fused': 2}

#: Genotypes known by name; 'paif' is the released one (PAIF, ACM MM 2023).
GENOTYPES = {'paif': {'ir': ['3-DB', '3-DC'], 'vis': ['3-DB', '3-DB'], 'fused': ['CA', '7-RB']}}

Genotype = dict[str, list[str]]


def load_genotype(source: str | Path | Mapping) -> Genotype:
    """Read and check a genotype.

    Args:
        source (str | Path | Mapping): a name in :data:`GENOTYPES`, the path of a JSON file, or the genotype itself.

    Returns:
        dict: chain -> operation names, notes left out.

    Raises:
        FileNotFoundError: no known name and no such file.
        ValueError: not JSON, a chain is missing, has the wrong number of operations, or an operation is unknown.
    """
    if isinstance(source, Mapping):
        return _validate(source, 'genotype')
    if str(source) in GENOTYPES:
        return _validate(GENOTYPES[str(source)], f"genotype '{source}'")
    path = Path(source)
    if not path.is_file():
        raise FileNotFoundError(f"genotype '{source}' is neither a file nor one of {sorted(GENOTYPES)}")
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f"genotype file '{path}' is not valid JSON (cut off?): {error}") from error
    return _validate(content, f"genotype file '{path}'")


def save_genotype(genotype: Mapping, path: str | Path, **notes) -> None:
    """Write a genotype, checked first, and JSON-serialisable notes to ``path``; parent folders are created."""
    content = {**_validate(genotype, 'genotype'), **notes}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + '\n', encoding='utf-8')


def _validate(content: object, where: str) -> Genotype:
    if not isinstance(content, Mapping):
        raise ValueError(f'{where} must be a dict with keys {list(CHAINS)}, got {type(content).__name__}')
    missing = [chain for chain in CHAINS if chain not in content]
    if missing:
        raise ValueError(f'{where} has no {missing}; it must have keys {list(CHAINS)}, got {list(content)}')
    for chain, length in CHAINS.items():
        names = content[chain]
        if not isinstance(names, list | tuple) or len(names) != length:
            raise ValueError(f"{where}: '{chain}' must be a list of {length} operations, got {names!r}")
        for name in names:
            if not isinstance(name, str) or OPERATIONS.get(name) is None:
                raise ValueError(f"{where}: '{chain}' has unknown operation {name!r}; known: {_known_operations()}")
    return {chain: list(content[chain]) for chain in CHAINS}


def _known_operations() -> list[str]:
    return sorted(OPERATIONS.module_dict)
