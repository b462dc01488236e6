"""Whether two data sets share samples, as splits never should."""

import os.path as osp


def sample_keys(dataset) -> list[str]:
    """What samples a data set holds: for each its visible file (links followed), or its id if it has none, each once.

    Args:
        dataset: one of OpenMMLab's, perhaps in wrappers of its libraries or of torch (concatenated, repeated,
            subsets). No image is loaded.

    Raises:
        TypeError: a data set that cannot tell its samples (no ``get_data_info``).
    """
    return list(dict.fromkeys(_keys(dataset)))


def shared(a, b) -> list[str]:
    """The samples that both data sets hold, as :func:`sample_keys` names them, in the order of ``a``."""
    others = set(sample_keys(b))
    return [key for key in sample_keys(a) if key in others]


def places(dataset) -> dict[str, list[int]]:
    """Where each sample stands in a data set: its key to its indices, several where it is repeated.

    Raises:
        TypeError: as :func:`sample_keys`.
    """
    if not hasattr(dataset, 'get_data_info'):
        raise TypeError(f'{type(dataset).__name__} has no get_data_info: its samples cannot be compared with others')
    found = {}
    for index in range(len(dataset)):
        found.setdefault(_key(dataset.get_data_info(index)), []).append(index)
    return found


def _keys(dataset) -> list[str]:
    if hasattr(dataset, 'full_init'):
        dataset.full_init()
    if hasattr(dataset, 'datasets'):
        return [key for part in dataset.datasets for key in _keys(part)]
    if hasattr(dataset, 'indices') and hasattr(dataset, 'dataset'):  # torch's Subset
        inner = dataset.dataset
        known = None if hasattr(inner, 'get_data_info') else _keys(inner)
        return [known[i] if known else _key(inner.get_data_info(i)) for i in dataset.indices]
    if hasattr(dataset, 'dataset'):  # what repeats samples
        return _keys(dataset.dataset)
    if not hasattr(dataset, 'get_data_info'):
        raise TypeError(f'{type(dataset).__name__} has no get_data_info: its samples cannot be compared with others')
    return [_key(dataset.get_data_info(i)) for i in range(len(dataset))]


def _key(info: dict) -> str:
    path = info.get('img_path')
    if isinstance(path, str):
        return path if '://' in path else osp.realpath(path)
    if 'img_id' not in info:
        raise TypeError(f'a sample has neither img_path nor img_id: {sorted(info)}')
    return f'img_id {info["img_id"]}'
