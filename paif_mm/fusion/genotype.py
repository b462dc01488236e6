"""Genotypes: which operation stands at each of the fusion network's six searchable places.

A genotype is a dict of three chains of two operation names each, for instance
``{'ir': ['3-DB', '3-DC'], 'vis': ['3-DB', '3-DB'], 'fused': ['CA', '7-RB']}``. Its file is JSON with these three keys;
further keys (a search's alphas, iteration, ...) are notes that a network does not read.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from paif_mm.files import write_json
from paif_mm.registry import OPERATIONS
from paif_mm.spelling import choices

#: Chain -> number of places in it: infrared features, visible features, fused features.
CHAINS = {'ir': 2, 'vis': 2, 'fused': 2}

#: The paper's search space (PAIF, ACM MM 2023, Sec. 2.2).
CANDIDATES = ('3-DC', '7-RB', '3-DB', 'CA')

#: Genotypes known by name: 'paif' is the released one, 'all-<operation>' have one operation at all places (Table 4).
GENOTYPES = {
    'paif': {'ir': ['3-DB', '3-DC'], 'vis': ['3-DB', '3-DB'], 'fused': ['CA', '7-RB']},
    **{f'all-{name}': {chain: [name] * length for chain, length in CHAINS.items()} for name in CANDIDATES},
}

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
    return _validate(_read(Path(source)), f"genotype file '{source}'")


def save_genotype(genotype: Mapping, path: str | Path, **notes) -> None:
    """Write a genotype, checked first, and JSON-serialisable notes to ``path``; parent folders are created.

    A crash leaves the former file or the new one, never half of it.
    """
    write_json(path, {**_validate(genotype, 'genotype'), **notes})


def read_notes(path: str | Path) -> dict:
    """What a genotype file holds beside the genotype; the errors are those of :func:`load_genotype`."""
    if str(path) in GENOTYPES:
        return {}
    return {key: value for key, value in _read(Path(path)).items() if key not in CHAINS}


def _read(path: Path) -> object:
    if not path.is_file():
        raise FileNotFoundError(f"genotype '{path}' is neither a file nor a name: {choices(str(path), GENOTYPES)}")
    try:
        return json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(f"genotype file '{path}' is not valid JSON (cut off?): {error}") from error


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
                known = choices(str(name), OPERATIONS.module_dict)
                raise ValueError(f"{where}: '{chain}' has unknown operation {name!r}: {known}")
    return {chain: list(content[chain]) for chain in CHAINS}
