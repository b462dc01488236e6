"""Names under which what is made of images is written: no two images share one."""

import os.path as osp
from collections.abc import Iterable, Mapping


def image_names(paths: Iterable[str]) -> dict[str, str]:
    """Path as given -> name without suffix: the file's, with its folders (``day__0001``) where files share names.

    Raises:
        ValueError: two files differ in nothing but the suffix.
    """
    whole = {path: osp.abspath(path) for path in paths}
    files = set(whole.values())
    names = {file: osp.splitext(osp.basename(file))[0] for file in files}
    if len(set(names.values())) < len(files):
        root = osp.commonpath(files)
        names = {file: osp.splitext(osp.relpath(file, root))[0].replace(osp.sep, '__') for file in files}
    owners = {}
    for file in sorted(files):
        other = owners.setdefault(names[file], file)
        if other != file:
            raise ValueError(f'{other} and {file} would be written to files of one name: rename one of them')
    return {path: names[file] for path, file in whole.items()}


def names_of(dataset) -> Mapping[str, str]:
    """:func:`image_names` of all images of a data set."""
    return image_names(dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
