"""What is known of each image, kept so that a killed evaluation goes on and different evaluations are never mixed."""

import json
import os.path as osp
from collections.abc import Mapping, Sequence
from pathlib import Path

from paif_mm.files import append_json_lines, config_hash, file_hash, read_json_lines, write_json

SETTINGS = 'settings.json'


class Records:
    """Records of (case, image), written one JSON line each, as soon as they are known.

    Several processes share a folder: each writes a file of its own and reads all when it starts.

    Args:
        folder: of the evaluation.
        settings: whatever the records depend on; None where another process has written it.
        rank: of this process.

    Raises:
        FileExistsError: the folder holds an evaluation with other settings; the message names them.
    """

    def __init__(self, folder: str | Path, settings: Mapping | None, rank: int = 0):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if settings is not None:
            self._claim(settings)
        self.read()
        self.file = append_json_lines(self.folder / f'records{rank}.jsonl')

    def read(self) -> None:
        """Read what all processes have written so far."""
        self.found = read_records(self.folder)

    def __contains__(self, place: tuple[str, str]) -> bool:
        case, image = place
        return image in self.found.get(case, {})

    def add(self, case: str, image: str, record: dict) -> None:
        self.found.setdefault(case, {})[image] = record
        self.file.write(json.dumps({'case': case, 'image': image, 'record': record}) + '\n')
        self.file.flush()

    def of(self, case: str, images: list[str]) -> list[dict]:
        """Records of one case, in the order of ``images``."""
        return [self.found[case][image] for image in images]

    def close(self) -> None:
        self.file.close()

    def _claim(self, settings: Mapping) -> None:
        path = self.folder / SETTINGS
        settings = json.loads(json.dumps(settings))  # as it will be read
        if not path.is_file():
            write_json(path, settings)
            return
        found = json.loads(path.read_text(encoding='utf-8'))
        different = sorted(key for key in {*found, *settings} if found.get(key) != settings.get(key))
        if different:
            raise FileExistsError(
                f'{self.folder} holds an evaluation with other {", ".join(different)}: give another --out, '
                'or delete the folder'
            )


def read_records(folder: str | Path) -> dict[str, dict[str, dict]]:
    """Case -> image -> record, of whatever processes have written into a folder."""
    found: dict[str, dict[str, dict]] = {}
    for path in sorted(Path(folder).glob('records*.jsonl')):
        for line in read_json_lines(path):
            found.setdefault(line['case'], {})[line['image']] = line['record']
    return found


def scenes(dataset, names: Mapping[int, str]) -> list[str]:
    """What tells whether another model saw the same scenes, by whatever sensors: names and annotations of images.

    Args:
        dataset: of mmseg or mmdet.
        names: index -> name of the images.
    """
    known = []
    for i, name in names.items():
        info = dataset.get_data_info(i)
        label = info.get('seg_map_path')
        truth = file_hash(label) if label and osp.isfile(label) else config_hash(info.get('instances'))
        known.append(f'{osp.splitext(name)[0]} {truth[:16]}')
    return known


def data_hash(dataset, images: Sequence[int]) -> str:
    """SHA-256 of some images of a data set: of their files' contents, and of what else is known about them."""
    known = []
    for i in images:
        info = dataset.get_data_info(i)
        files = {key: file_hash(path) for key, path in info.items() if isinstance(path, str) and osp.isfile(path)}
        known.append([osp.basename(info['img_path']), files, info.get('instances')])
    return config_hash(known)
