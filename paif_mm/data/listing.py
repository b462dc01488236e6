"""What folders and lists hold. Every file and every line is used, named in an error, or counted in the log."""

import codecs
import logging
import os.path as osp
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping

from mmengine import fileio
from mmengine.logging import print_log

from .faults import fault, gathering
from .naming import ANY, Naming, ending_of

ROLES = {
    'img_path': 'image',
    'ir_path': 'infrared partner',
    'seg_map_path': 'label',
    'xml_path': 'annotation',
    'txt_path': 'annotation',
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
    names: Mapping[str, str] | None = None,
) -> dict[str, dict[str, str]]:
    """The files of each sample, by its id: what the file names of all roles share.

    Args:
        folders (dict): a folder for each of some roles: ``img_path``, ``ir_path``, ``seg_map_path``, ``xml_path``,
            ``txt_path``.
        leading (str): the role whose files are the samples where there is no list.
        ann_file (str): a list of ids, one per line, with or without an ending, or of the names that one role's files
            have. Default: every file of ``leading``.
        data_root (str): named in errors.
        backend_args (dict | None): file backend.
        names (dict | None): how the files of a role are called, as :class:`Naming`. Default: ``*``, as the sample.

    Returns:
        dict: a path for each role, by id, in the list's order, or sorted. Files that are not used are counted in the
        log: lines that come twice and files without a partner as warnings, files in no line of the list, and
        annotations of samples that are not asked for, as information.

    Raises:
        FileNotFoundError: a folder, the list, or a file of a sample does not exist.
        ValueError: two files of one id and role, two roles of one folder and name, a list that is no text or empty.
    """
    patterns = _patterns(folders, names or {})
    files = _files_by_id(folders, patterns, data_root, backend_args)
    ids = list(files[leading])
    if ann_file:
        if not fileio.exists(ann_file, backend_args=backend_args):
            raise FileNotFoundError(f'{ann_file} does not exist: set data_root (now {data_root}) or ann_file')
        ids = read_ids(ann_file, files[leading], patterns.values(), backend_args)
    for sample in ids:
        for role, found in files.items():
            if sample not in found:
                of = ann_file or fileio.join_path(folders[leading], files[leading][sample])
                wanted, endings = patterns[role].write(sample), ', '.join(patterns[role].endings)
                told = f'{folders[role]} holds no {wanted} ({endings}): the {ROLES[role]} of {of}'
                fault(FileNotFoundError(told))
    _account(folders, files, leading, set(ids), ann_file)
    return {
        sample: {role: fileio.join_path(folders[role], found[sample]) for role, found in files.items()}
        for sample in ids
        if all(sample in found for found in files.values())
    }


def _patterns(folders: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Naming]:
    patterns = {role: Naming(role, names.get(role, '*')) for role in folders}
    if len({pattern.stem.count('*') for pattern in patterns.values()}) > 1:
        raise ValueError(f'names must have as many * for every role, the parts of an id: {_said(patterns)}')
    homes = Counter((osp.normpath(folders[role]), *pattern.key) for role, pattern in patterns.items())
    if max(homes.values()) > 1:
        raise ValueError(
            f'data_prefix names one folder for two things: {dict(folders)}. Name two folders, or say how their files '
            'differ, as names=dict(img_path="*_RGB", ir_path="*_IR") does'
        )
    return patterns


def _said(patterns: Mapping[str, Naming]) -> dict[str, str]:
    return {role: pattern.pattern for role, pattern in patterns.items()}


def _files_by_id(
    folders: Mapping[str, str], patterns: Mapping[str, Naming], data_root: str | None, backend_args: dict | None
) -> dict[str, dict[str, str]]:
    """For each role the names of its files, below its folder, by their ids, sorted.

    A file in the folder of several roles belongs to the longest pattern that it fits; files that fit none are counted
    in the log.
    """
    found = {role: {} for role in folders}
    homes = defaultdict(list)
    for role in sorted(folders, key=lambda role: -len(patterns[role].pattern)):
        homes[osp.normpath(folders[role])].append(role)
    for roles in homes.values():
        folder = folders[roles[0]]
        recursive = any(patterns[role].in_subfolders for role in roles)
        unknown = []
        for name in list_folder(folder, data_root, backend_args, recursive):
            fits = ((role, patterns[role].read(name)) for role in roles)
            role, sample = next(((role, sample) for role, sample in fits if sample is not None), (None, None))
            if role is None:
                unknown.append(name)
            elif sample in found[role]:
                told = f'{folder} holds {found[role][sample]} and {name}, two files of one id: leave one of them'
                fault(ValueError(told))
            else:
                found[role][sample] = name
        if unknown:
            wanted = ', '.join(dict.fromkeys(ending for role in roles for ending in patterns[role].endings))
            named = [patterns[role].pattern for role in roles if patterns[role].pattern != '*']
            wanted += f' called {" or ".join(named)}' if named else ''
            warn(f'{folder}: {count(unknown, "entry", "entries")} not read: no file of {wanted}')
    return found


def list_folder(folder: str, data_root: str | None, backend_args: dict | None, recursive: bool = False) -> list[str]:
    """Names in a folder, sorted, those of folders too; if ``recursive`` of all files below, none of folders."""
    if not osp.isdir(folder) and '://' not in folder:
        raise FileNotFoundError(f'{folder} does not exist: set data_root (now {data_root}) or data_prefix')
    return sorted(
        fileio.list_dir_or_file(folder, list_dir=not recursive, recursive=recursive, backend_args=backend_args)
    )


def read_ids(
    path: str, known: Collection[str], patterns: Iterable[Naming] = (), backend_args: dict | None = None
) -> list[str]:
    """The ids of a list, each once. ``00001D.png`` means 00001D, and ``a_RGB`` a, where that is known."""
    patterns = list(patterns)
    ids = [_id_of(line, known, patterns) for line in read_lines(path, backend_args)]
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
    """'2 files (a.png, b.png)': how many, and the first three, or all where faults are gathered."""
    names = list(names)
    shown = ', '.join(map(str, names if gathering() else names[:3]))
    shown += ', ...' if len(names) > 3 and not gathering() else ''
    return f'{len(names)} {one if len(names) == 1 else several} ({shown})'


def inform(message: str) -> None:
    """Log what is as it should be, yet worth knowing."""
    print_log(message, logger='current')


def warn(message: str) -> None:
    """Log what is hardly meant, or note it where faults are gathered."""
    if gathering():
        fault(message)
    else:
        print_log(message, logger='current', level=logging.WARNING)


def _account(folders: Mapping, files: Mapping[str, dict], leading: str, used: set[str], ann_file: str) -> None:
    complete = set.intersection(*map(set, files.values()))
    for role, found in files.items():
        lonely = [osp.basename(found[name]) for name in found if name not in complete | used]
        if lonely:
            others = ', '.join(osp.basename(folders[other]) for other in folders if other != role)
            # one folder may hold the annotations of all splits
            say = inform if ROLES[role] == 'annotation' and role != leading else warn
            say(f'{folders[role]}: {count(lonely, "file", "files")} not used: without a partner in one of {others}')
    unlisted = len(files['img_path'].keys() & complete - used)
    if unlisted and ann_file:
        inform(f'{unlisted} of {len(files["img_path"])} images in {folders["img_path"]} are in no line of {ann_file}')


def _id_of(line: str, known: Collection[str], patterns: Iterable[Naming]) -> str:
    """The known id that a line means; the line itself where it means none."""
    ending = ending_of(line, ANY)
    stems = dict.fromkeys([line, line[: -len(ending)] if ending else line])
    meant = [*stems, *(pattern.read_stem(stem) for stem in stems for pattern in patterns)]
    return next((sample for sample in meant if sample in known), line)
