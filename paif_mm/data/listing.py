"""What folders and lists hold. Every file and every line is used, named in an error, or counted in the log."""

import codecs
import logging
import os.path as osp
from collections import Counter
from collections.abc import Collection, Iterable, Mapping

from mmengine import fileio
from mmengine.logging import print_log

IMAGES = ('.png', '.jpg', '.jpeg', '.bmp', '.tif', '.tiff')
ENDINGS = {'xml_path': ('.xml',)}
ROLES = {
    'img_path': 'image',
    'ir_path': 'infrared partner',
    'seg_map_path': 'label',
    'xml_path': 'annotation',
}
#: Marks at the beginning of a text, longer ones first: UTF-32's begins as UTF-16's does.
MARKS = {
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


def find_samples(
    folders: Mapping[str, str],
    leading: str = 'img_path',
    ann_file: str = '',
    data_root: str | None = '',
    backend_args: dict | None = None,
) -> dict[str, dict[str, str]]:
    """The files of each sample, by its id: the file name without ending, the same in all folders.

    Args:
        folders (dict): a folder for each of some roles: ``img_path``, ``ir_path``, ``seg_map_path``, ``xml_path``.
        leading (str): the role whose files are the samples where there is no list.
        ann_file (str): a list of ids, one per line, with or without an ending. Default: every file of ``leading``.
        data_root (str): named in errors.
        backend_args (dict | None): file backend.

    Returns:
        dict: a path for each role, by id, in the list's order, or sorted. Files that are not used are counted in the
        log: lines that come twice and files without a partner as warnings, files in no line of the list as information.

    Raises:
        FileNotFoundError: a folder, the list, or a file of a sample does not exist.
        ValueError: two files of one id in a folder, one folder for two roles, a list that is no text or empty.
    """
    homes = [osp.normpath(folder) for folder in folders.values()]
    if len(set(homes)) < len(homes):
        raise ValueError(f'data_prefix names one folder for two things: {dict(folders)}')
    files = {role: files_by_id(folder, role, data_root, backend_args) for role, folder in folders.items()}
    ids = list(files[leading])
    if ann_file:
        if not fileio.exists(ann_file, backend_args=backend_args):
            raise FileNotFoundError(f'{ann_file} does not exist: set data_root (now {data_root}) or ann_file')
        ids = read_ids(ann_file, files[leading], backend_args)
    for name in ids:
        for role, found in files.items():
            if name not in found:
                of = ann_file or files[leading][name]
                endings = ', '.join(ENDINGS.get(role, IMAGES))
                raise FileNotFoundError(f'{folders[role]} holds no {name} ({endings}): the {ROLES[role]} of {of}')
    _account(folders, files, set(ids), ann_file)
    return {name: {role: found[name] for role, found in files.items()} for name in ids}


def files_by_id(folder: str, role: str, data_root: str | None, backend_args: dict | None) -> dict[str, str]:
    """Paths of a folder's files by their names without endings, sorted. Unknown endings are counted in the log."""
    names = list_folder(folder, data_root, backend_args)
    endings = ENDINGS.get(role, IMAGES)
    found, unknown = {}, []
    for name in names:
        stem, ending = osp.splitext(name)
        if ending.lower() not in endings:
            unknown.append(name)
        elif stem in found:
            raise ValueError(
                f'{folder} holds {osp.basename(found[stem])} and {name}, two files of one id: leave one of them'
            )
        else:
            found[stem] = fileio.join_path(folder, name)
    if unknown:
        warn(f'{folder}: {count(unknown, "entry", "entries")} not read: no file of {", ".join(endings)}')
    return found


def list_folder(folder: str, data_root: str | None, backend_args: dict | None, recursive: bool = False) -> list[str]:
    """Names in a folder, sorted, those of folders too; if ``recursive`` of all files below, none of folders."""
    if not osp.isdir(folder) and '://' not in folder:
        raise FileNotFoundError(f'{folder} does not exist: set data_root (now {data_root}) or data_prefix')
    return sorted(
        fileio.list_dir_or_file(folder, list_dir=not recursive, recursive=recursive, backend_args=backend_args)
    )


def read_ids(path: str, known: Collection[str], backend_args: dict | None = None) -> list[str]:
    """The ids of a list, each once. ``00001D.png`` means 00001D where that is known, and not the longer name."""
    ids = [_without_ending(line, known) for line in read_lines(path, backend_args)]
    if not ids:
        raise ValueError(f'{path} is empty: expected ids, one per line')
    unique = list(dict.fromkeys(ids))
    if len(unique) < len(ids):
        twice = [name for name, times in Counter(ids).items() if times > 1]
        warn(f'{path}: {count(twice, "id", "ids")} listed more than once, taken once')
    return unique


def read_lines(path: str, backend_args: dict | None = None) -> list[str]:
    """Lines of a text, stripped, without empty ones; UTF-8, or what a byte order mark says."""
    data = fileio.get(path, backend_args=backend_args)
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), 'utf-8')
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f'{path} cannot be read as {encoding}, save it as UTF-8: {error.reason}') from None
    if '\0' in text:
        raise ValueError(f'{path} holds zero bytes, as UTF-16 without a byte order mark does: save it as UTF-8')
    return [line.strip() for line in text.splitlines() if line.strip()]


def count(names: Iterable, one: str, several: str) -> str:
    """'2 files (a.png, b.png)': how many, and the first three."""
    names = list(names)
    shown = ', '.join(map(str, names[:3])) + (', ...' if len(names) > 3 else '')
    return f'{len(names)} {one if len(names) == 1 else several} ({shown})'


def inform(message: str) -> None:
    """Log what is as it should be, yet worth knowing."""
    print_log(message, logger='current')


def warn(message: str) -> None:
    """Log what is hardly meant."""
    print_log(message, logger='current', level=logging.WARNING)


def _account(folders: Mapping, files: Mapping[str, dict], used: set[str], ann_file: str) -> None:
    complete = set.intersection(*map(set, files.values()))
    for role, found in files.items():
        lonely = [osp.basename(found[name]) for name in found if name not in complete]
        if lonely:
            others = ', '.join(osp.basename(folders[other]) for other in folders if other != role)
            warn(f'{folders[role]}: {count(lonely, "file", "files")} not used: without a partner in one of {others}')
    unlisted = len(files['img_path'].keys() & complete - used)
    if unlisted and ann_file:
        inform(f'{unlisted} of {len(files["img_path"])} images in {folders["img_path"]} are in no line of {ann_file}')


def _without_ending(line: str, known: Collection[str]) -> str:
    stem, ending = osp.splitext(line)
    return stem if line not in known and ending.lower() in (*IMAGES, '.xml') and stem in known else line
