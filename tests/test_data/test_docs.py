"""What docs/datasets.md shows is run: each config trains, validates and is tested, from folders as it says."""

import re
import runpy
import shlex

import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from test_data.published import make_own, make_published
from test_shipped.shrink import shrink

from paif_mm.attacks import AdversarialAttackHook
from paif_mm.engine.runner import QuietRunner

PAGE = (REPO / 'docs' / 'datasets.md').read_text()
CONFIGS = re.findall(r'```python\n(_base_.*?)```', PAGE, re.DOTALL)
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r'```bash\n(.*?)```', PAGE, re.DOTALL)
    for line in block.replace('\\\n', '').splitlines()
]
PUBLISHED = {
    name: CONFIGS[4 if kind == 'seg' else 5].replace({'seg': 'fmb', 'det': 'llvip'}[kind], name)
    for name, kind in {'pst900': 'seg', 'flir': 'det', 'kaist': 'det', 'dronevehicle': 'det'}.items()
}
EPS = 4 / 255


@pytest.fixture(scope='module', autouse=True)
def workplace(tmp_path_factory):
    """A folder with the data that the page names, and our configs, to stand in."""
    folder = tmp_path_factory.mktemp('workplace')
    make_published(folder / 'data')
    make_own(folder / 'data')
    (folder / 'configs').symlink_to(REPO / 'configs')
    (folder / 'tools').symlink_to(REPO / 'tools')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def small(text: str, workplace, name: str) -> Config:
    (workplace / f'{name}.py').write_text(text)
    config = shrink(Config.fromfile(workplace / f'{name}.py'))
    config.work_dir, config.launcher = f'work_dirs/{name}', 'none'
    config.train_cfg = {'type': 'IterBasedTrainLoop', 'max_iters': 2, 'val_interval': 2}
    return config


CASES = {**{f'block{i}': text for i, text in enumerate(CONFIGS)}, **PUBLISHED}


@pytest.mark.parametrize('name', CASES)
def test_configs_train_validate_and_are_tested_under_attack(workplace, name):
    runner = QuietRunner.from_cfg(small(CASES[name], workplace, name))
    hook = AdversarialAttackHook({'type': 'PGD', 'eps': EPS, 'steps': 1}, phases=('test',))
    runner.register_hook(hook)
    runner.train()
    losses, _ = runner.message_hub.get_scalar('train/loss').data
    assert len(losses) == 2
    assert torch.tensor(losses).isfinite().all()
    metrics = runner.test()
    assert any('mIoU' in key or 'mAP' in key for key in metrics)
    assert hook.audit.images == 1
    assert all(0 < delta <= 255 * EPS + 1e-3 for delta in hook.audit.max_delta.values())


def test_the_page_shows_what_is_tested_here():
    assert len(CONFIGS) == len(re.findall('```python', PAGE)) == 7
    assert [command[1] for command in COMMANDS] == ['tools/browse_dataset.py', 'tools/train.py', 'tools/test.py']
    assert all(name in text for name, text in PUBLISHED.items())
    unlabelled = ('roadscene', 'tno')
    for name in ('mfnet', 'msrs', 'fmb', 'pst900', 'm3fd', 'llvip', 'flir', 'kaist', 'dronevehicle', *unlabelled):
        assert f'`{name}.py`' in PAGE
        assert (REPO / f'configs/_base_/datasets/{name}.py').is_file()


def test_commands_run_as_they_stand(workplace, monkeypatch):
    """The training is run above; here the others, the last on pairs without labels."""
    config = small(CONFIGS[0], workplace, 'first')
    config.test_dataloader.dataset.pop('indices')
    config.dump('my_config.py')
    init_default_scope(config.default_scope)
    torch.save({'state_dict': MODELS.build(config.model).state_dict(), 'meta': {}}, 'weights.pth')
    for python, *words in (COMMANDS[0], COMMANDS[2]):
        assert python == 'python'
        monkeypatch.setattr('sys.argv', ['weights.pth' if word == 'CHECKPOINT' else word for word in words])
        runpy.run_path(words[0], run_name='__main__')
    assert len(list((workplace / 'work_dirs' / 'browse').iterdir())) == 4
    scenes = (workplace / 'data' / 'own' / 'val.txt').read_text().split()
    for folder in ('maps', 'strips'):
        assert sorted(path.stem for path in (workplace / folder / 'clean').iterdir()) == sorted(scenes)
