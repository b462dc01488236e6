"""Which checkpoint a training goes on from: its own, also after its folder was moved or copied."""

import logging
import os.path as osp
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import MessageHub, print_log

from paif_mm.files import config_hash

TRAINING = 'paif_mm_training'  # of a checkpoint's meta: the identity of its training
NAMED = 'last_checkpoint'  # mmengine's file with the path of what was written last


class NoCheckpointError(FileNotFoundError):
    """There were checkpoints to resume from, but no whole one is left; the message is one line for the user."""


class OtherTrainingError(ValueError):
    """A checkpoint is of another config's training; the message is one line for the user."""


def identity(config) -> dict[str, str]:
    """Of which training a checkpoint is: its config's file name, and hashes of what makes it another one.

    Schedules, batches, places of data and the like may change in a training that is resumed.
    """
    dataset = (config.get('train_dataloader') or {}).get('dataset') or {}
    return {
        'config': osp.basename(config.filename or ''),
        'model': config_hash(config.get('model') or {}),
        'custom_hooks': config_hash(config.get('custom_hooks') or []),
        'train_cfg.type': config_hash((config.get('train_cfg') or {}).get('type')),
        'train_dataloader.dataset': config_hash({key: it for key, it in dataset.items() if key != 'data_root'}),
    }


def check_same_training(ours: Mapping[str, str], theirs: Mapping[str, str] | None, filename: str) -> None:
    """Refuse to resume what another config began: one of another name that is another training.

    Args:
        ours, theirs: see :func:`identity`; checkpoints of before have none.
        filename: of the checkpoint.

    Raises:
        OtherTrainingError: it is of another training.
    """
    if theirs is None or theirs.get('config') == ours['config']:
        return
    different = [key for key, value in ours.items() if key != 'config' and theirs.get(key) != value]
    if different:
        raise OtherTrainingError(
            f'--resume: {filename} is of {theirs.get("config")}, another training than {ours["config"]} '
            f'({" and ".join(different)} differ): give another --work-dir, or start from its weights without --resume: '
            f'--cfg-options load_from={filename}'
        )


def latest_checkpoint(folder: str | Path, named_in: str | Path | None = None) -> str | None:
    """The latest whole checkpoint of a folder; None where no checkpoint was ever written.

    mmengine notes an absolute path in ``last_checkpoint``, which in a moved or copied folder is that of another
    training: only its file name counts here. A file that a kill cut off is passed over, with a warning.

    Args:
        folder: of the checkpoints.
        named_in: folder of ``last_checkpoint``. Default: the same.

    Raises:
        NoCheckpointError: there were checkpoints, but no whole one is left.
    """
    note = Path(named_in or folder) / NAMED
    name = Path(note.read_text().strip()).name if note.is_file() else ''
    if '://' in str(folder):  # of a file backend, which cannot be looked through
        return f'{folder}/{name}' if name else None
    folder = Path(folder)
    numbered = {path.name: int(match[1]) for path in folder.glob('*.pth') if (match := _numbered(path.name))}
    order = sorted(numbered, key=lambda other: (other == name, numbered[other]), reverse=True)
    if name and name not in order and (folder / name).exists():
        order.insert(0, name)  # named in a way of its own
    for other in order:
        path = folder / other
        if path.is_dir() or zipfile.is_zipfile(path):
            return str(path)
        print_log(f'{path} is cut off: going on from the checkpoint before it', 'current', logging.WARNING)
    if name or order:
        raise NoCheckpointError(
            f'{folder} holds no whole checkpoint{f", though {note} names {name}" if name else ""}: put it back, or '
            'start without --resume'
        )
    return None


def checkpoint_folder(work_dir: str, out_dir: str | None) -> str:
    """Where mmengine's CheckpointHook writes: the work dir, or a folder of its name in an ``out_dir``."""
    if not out_dir or out_dir == work_dir:
        return work_dir
    return osp.join(out_dir, osp.basename(work_dir.rstrip(osp.sep)))


def _numbered(name: str):
    return re.fullmatch(r'(?:iter|epoch)_(\d+)\.pth', name)


def adopt_paths(message_hub: MessageHub, folder: str) -> None:
    """Let the paths of checkpoints that a resumed training remembers be those in its folder, where it deletes them."""
    for key, path in list(message_hub.runtime_info.items()):
        if (key == 'last_ckpt' or key.startswith('best_ckpt')) and isinstance(path, str):
            message_hub.update_info(key, osp.join(folder, osp.basename(path)))
