"""What a new user gets wrong, typed into the real tools: one line that says what to mend, and no traceback.

Each row is a mistake: what is typed, and a part of the line. {segmentor}: a config of seconds; {weights}: an untrained
checkpoint of it; {folder}: of FILES; {out}: a folder for results. After ` | ` come settings for --cfg-options.
"""

import json
import re
import subprocess
import sys

import pytest
import torch
from conftest import REPO
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS, MODELS
from test_tools import commands, test_detection
from test_tools.test_robustness import call, untrained
from torch import nn


@MODELS.register_module()
class WantsRGB(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 3, padding=1)

    def forward(self, ir, vis):
        return self.conv(vis)


@MODELS.register_module()
class GivesRGB(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3, padding=1)

    def forward(self, ir, vis):
        return self.conv(torch.cat([ir, vis], 1))


@MODELS.register_module()
class GivesHalfTheSize(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, stride=2, padding=1)

    def forward(self, ir, vis):
        return self.conv(torch.cat([ir, vis], 1))


@MODELS.register_module()
class GivesTwo(GivesRGB):
    def forward(self, ir, vis):
        return vis, ir


@MODELS.register_module()
class HasAFault(GivesRGB):
    def forward(self, ir, vis):
        return {}['nothing']


@HOOKS.register_module()
class HasAFaultToo(Hook):
    def before_train(self, runner):
        return None + 1


PIPELINE = """
_base_ = '{segmentor}'
train_dataloader = dict(num_workers=%d, persistent_workers=False, dataset=dict(pipeline=[
    dict(type='%s'),
    dict(type='paif_mm.LoadPairAnnotations'),
    dict(type='RandomCrop', crop_size=(48, 64)),
    %s
    dict(type='PackSegInputs'),
]))
"""
PHOTO = "dict(type='PhotoMetricDistortion'),"
FILES = {
    'bare.py': PIPELINE % (0, 'paif_mm.LoadPairFromFile', PHOTO),
    'bare_in_worker.py': PIPELINE % (1, 'paif_mm.LoadPairFromFile', PHOTO),
    'image.py': PIPELINE % (0, 'LoadImageFromFile', ''),
    'image_in_visible.py': PIPELINE
    % (0, 'LoadImageFromFile', f"dict(type='paif_mm.VisibleOnly', transforms=[{PHOTO}]),"),
    'image_in_worker.py': PIPELINE
    % (1, 'LoadImageFromFile', f"dict(type='paif_mm.VisibleOnly', transforms=[{PHOTO}]),"),
    'text_in_hook.py': "_base_ = '{segmentor}'\ncustom_hooks = [dict(type='paif_mm.AdversarialAttackHook', attack=dict("
    "type='PGD', eps='4/255', steps=1))]\n",
    'trades.py': "_base_ = '{detector}'\ncustom_hooks = [dict(type='paif_mm.AdversarialAttackHook', attack=dict("
    "type='PGD', eps='4/255', steps=1), trades=6)]\n",
    'fault.py': "_base_ = '{segmentor}'\ncustom_hooks = [dict(type='HasAFaultToo')]\n",
    'no_test.py': "_base_ = '{segmentor}'\ntest_dataloader = None\ntest_cfg = None\ntest_evaluator = None\n",
    'no_config.py': 'model = dict(\n',
    'no_base.py': "_base_ = './nothing.py'\n",
    'no_checkpoint.pth': 'not a checkpoint',
    'name.py': "attack = dict(type='PGDD', eps=4/255)\n",
    'argument.py': "attack = dict(type='PGD', epss=4/255)\n",
    'no_eps.py': "attack = dict(type='PGD')\n",
    'pixels.py': "attack = dict(type='PGD', eps=8)\n",
    'word.py': "attack = dict(type='PGD', eps='eight')\n",
    'steps.py': "attack = dict(type='PGD', eps='8/255', steps='5')\n",
    'modality.py': "attack = dict(type='PGD', eps=dict(ir=0, viss='8/255'))\n",
    'objective.py': "attack = dict(type='PGD', eps=0.1, objective=dict(type='PixelLos'))\n",
    'pixel_loss.py': "attack = dict(type='PGD', eps=0.1, objective=dict(type='PixelLoss', name='segpdg'))\n",
    'corruption.py': "attack = dict(type='Corruption', name='fogg')\n",
    'no_attack.py': "atack = dict(type='PGD', eps=0.1)\n",
    'cut.json': '{"ir": ["3-DB"',
    'operation.json': '{"ir": ["3-DB", "3-DX"], "vis": ["3-DB", "3-DB"], "fused": ["CA", "CA"]}',
    'cut.yaml': 'title: [1',
    'list.yaml': '[1, 2]',
    'report/report.json': '{',
}
TRAIN = 'train {segmentor} --work-dir {out}'
TEST = 'test {segmentor} {weights} --work-dir {out}'
ROBUSTNESS = 'robustness {segmentor} {weights} --out {out}'
TARGETED = 'targeted {segmentor} {weights} --out {out}'
PATCH = 'learn_patch {segmentor} {weights} --out {out}'
CRAFT = 'craft_attacks {segmentor} {weights} {out}'
STUDY = 'study configs/study/table3.yaml --dry-run --work-dir {out}'
HOOK = 'train {folder}/text_in_hook.py --work-dir {out}'
DATA = 'train_dataloader.dataset'
FUSION = 'model.data_preprocessor.fusion'

MISTAKES = [
    # ------------------------------------------------------------------------------------------ files and folders
    ('test {weights} {segmentor}', 'the config comes first, then the checkpoint: exchange {weights} and {segmentor}'),
    ('robustness {weights} {segmentor} --out {out}', 'the config comes first, then the checkpoint'),
    ('craft_attacks {weights} {segmentor} {out}', 'the config comes first, then the checkpoint'),
    (f'{ROBUSTNESS} --transfer-from {{weights}} {{segmentor}}', 'the config comes first, then the checkpoint'),
    ('test {segmentor} {segmentor}', '{segmentor} is a config: give a checkpoint after the config'),
    ('test {folder}/nothing.py {weights}', 'config {folder}/nothing.py does not exist'),
    ('train {folder}', 'config {folder} is a folder: give the file'),
    ('train {weights}', '{weights} is no config, whose name ends with .py'),
    ('train {folder}/no_config.py', "config {folder}/no_config.py can't be read: SyntaxError"),
    ('train {folder}/no_base.py', "no_base.py can't be read: {folder}/./nothing.py: no such file"),
    ('get_flops {folder}/name.py', "the config has no setting 'model'"),
    ('test {segmentor} {folder}/nothing.pth', 'checkpoint {folder}/nothing.pth does not exist'),
    (
        TEST.replace('{weights}', '{folder}/no_checkpoint.pth'),
        'checkpoint {folder}/no_checkpoint.pth can not be loaded',
    ),
    (TRAIN.replace('{out}', '{weights}/x'), '--work-dir: {weights}/x can not be written (a file is in its place)'),
    (TRAIN.replace('{out}', '/proc/x'), '--work-dir: /proc/x can not be written (No such file or directory)'),
    (f'{TEST} --out {{weights}}', '--out: {weights} can not be written'),
    (f'{TEST} --show-dir /proc/x', '--show-dir: /proc/x can not be written'),
    (ROBUSTNESS.replace('{out}', '{weights}'), '--out: {weights} can not be written'),
    (CRAFT.replace('{out}', '{weights}'), 'OUT: {weights} can not be written'),
    ('browse_dataset {segmentor} --output-dir {weights}', '--output-dir: {weights} can not be written'),
    ('make_synthetic {weights}', 'OUT: {weights} can not be written'),
    ('model_converters/backbone_form {weights} /proc/x/y.pth', 'DST: /proc/x can not be written'),
    ('model_converters/paif_release {folder}/no_checkpoint.pth {out}/y.pth', 'no_checkpoint.pth can not be loaded'),
    ('model_converters/paif_release {weights} {out}/y.pth', "no key starts with 'enhance_net.'"),
    ('model_converters/fusion_zoo IFCNN {folder}/no_checkpoint.pth {out}/y.pth', 'no_checkpoint.pth can not be loaded'),
    ('model_converters/fusion_zoo IFCNN {weights} {out}/y.pth', '{weights} is not of IFCNN'),
    ('model_converters/fusion_zoo SDNet {folder}/nothing {out}/y.pth', 'nothing.index is not here'),
    ('show_genotype paif --out {out}/x.xyz', 'a picture ends with .png, .pdf, .svg, .jpg'),
    ('show_genotype paiff', 'neither a file nor a name: did you mean paif?'),
    ('show_genotype {folder}/cut.json', "cut.json' is not valid JSON (cut off?)"),
    ('show_genotype {folder}/operation.json', "'ir' has unknown operation '3-DX': did you mean 3-D"),
    ('study {folder}/cut.yaml --work-dir {out}', 'cut.yaml is no YAML'),
    ('study {folder}/list.yaml --work-dir {out}', 'list.yaml must be a mapping of keys, not list'),
    (f'{STUDY} --scale haf', 'scales/haf.yaml does not exist'),
    (f'{STUDY} --scale half --rows Geenral', 'no plan has a row Geenral; there are AAT, General, SAT'),
    ('compare_reports {folder}/report --out {out}', 'report.json is no report of tools/robustness.py'),
    ('compare_reports {folder}/nothing --out {out}', 'no report at {folder}/nothing: make it by'),
    ('leaderboard {folder}/report --out {out}', 'report.json is no report of tools/robustness.py'),
    ('leaderboard {folder}/nothing --out {out}', 'no report at {folder}/nothing: make it by'),
    ('leaderboard a b/a --out {out}', 'no report at a: make it by'),
    (f'{ROBUSTNESS} --transfer-bank {{folder}}', 'no attack bank at {folder} (no manifest.json): make or finish it'),
    # ------------------------------------------------------------------------------------------------------- data
    (
        f'{TRAIN} | model.decode_head.num_classes=5',
        'model.decode_head.num_classes is 5, but the data set has 9 classes',
    ),
    (
        f'{TRAIN} | model.decode_head.loss_decode.class_weight=[1,2]',
        'model.decode_head.loss_decode.class_weight has 2 weights, but the head has 9 classes: '
        'give one weight per class',
    ),
    (f'{TRAIN} | train_dataloader.dataset.data_root=/nothing', '/nothing/images does not exist: set data_root'),
    (f'{TRAIN} | train_dataloader.dataset.ann_file=x.txt', 'x.txt does not exist: set data_root'),
    (
        'train {folder}/bare.py --work-dir {out}',
        'train_dataloader.dataset.pipeline[3], PhotoMetricDistortion, makes 3 channel(s) of the 4 of a pair: put '
        "it into dict(type='paif_mm.VisibleOnly'",
    ),
    ('train {folder}/bare_in_worker.py --work-dir {out}', 'pipeline[3], PhotoMetricDistortion, makes 3 channel(s)'),
    ('train {folder}/image.py --work-dir {out}', 'pipeline[0], LoadImageFromFile, loads 3 channel(s), but the model'),
    (
        'train {folder}/image_in_visible.py --work-dir {out}',
        'VisibleOnly needs a pair of 4 channels, but the image is of the shape (48, 64, 3): load it with dict(type=',
    ),
    (
        'train {folder}/image_in_worker.py --work-dir {out}',
        "load it with dict(type='paif_mm.LoadPairFromFile') instead",
    ),
    ('robustness {folder}/no_test.py {weights} --out {out}', 'no_test.py has no test_dataloader, which a report needs'),
    ('browse_dataset {folder}/no_test.py --phase test', 'no_test.py has no test_dataloader, which --phase needs'),
    # ------------------------------------------------------------------------------------------ names and arguments
    (
        f'{TEST} --attack pdg5_eps4',
        'attack pdg5_eps4 does not exist: give a path to a config, or a name. did you mean pgd5_',
    ),
    (f'{TEST} --attack {{folder}}/name.py', "there is no attack 'PGDD': did you mean PGD? Known are PGD, "),
    (f'{TEST} --attack {{folder}}/argument.py', "PGD has no argument 'epss': did you mean eps? Known are eps, "),
    (f'{TEST} --attack {{folder}}/no_eps.py', "PGD needs 'eps': write it into dict(type='PGD', ...)"),
    (f'{TEST} --attack {{folder}}/pixels.py', 'write 8/255 instead of 8'),
    (f'{TEST} --attack {{folder}}/word.py', "eps: 'eight' is no number: write 8/255 or 0.031"),
    (f'{TEST} --attack {{folder}}/steps.py', "must be whole numbers, not '5'"),
    (f'{TEST} --attack {{folder}}/modality.py', 'eps knows the modalities ir and vis, not viss'),
    (f'{TEST} --attack {{folder}}/objective.py', "there is no attack objective 'PixelLos': did you mean PixelLoss?"),
    (f'{TEST} --attack {{folder}}/pixel_loss.py', "PixelLoss has no loss 'segpdg': did you mean segpgd?"),
    (f'{TEST} --attack {{folder}}/corruption.py', "there is no Corruption 'fogg': did you mean fog?"),
    (f'{TEST} --attack {{folder}}/no_attack.py', "defines no attack: write attack = dict(type='PGD', eps=...)"),
    (f'{ROBUSTNESS} --attack {{folder}}/argument.py', "argument: PGD has no argument 'epss': did you mean eps?"),
    (f'{TRAIN} | {FUSION}.chanels=3', "FusionNet has no argument 'chanels': did you mean channels?"),
    (f'{TRAIN} | {FUSION}.type=FusionNett', "there is no model 'FusionNett': did you mean FusionNet?"),
    (f'{TRAIN} | {FUSION}.genotype=all-3-DD', "genotype 'all-3-DD' is neither a file nor a name: did you mean all-3-D"),
    (f'{TRAIN} | {FUSION}.type=FusionBaseline {FUSION}.rule=MAXX', "FusionBaseline has no argument 'genotype'"),
    (
        f'{TRAIN} | model.data_preprocessor.type=FusionDataPreprocessor',
        "there is no model 'FusionDataPreprocessor': did you mean paif_mm.FusionDataPreprocessor?",
    ),
    (f'{TRAIN} | model.backbone.type=MixVisionTransfomer', 'did you mean MixVisionTransformer?'),
    (f'{TRAIN} | custom_hooks.0.wieght=2', "FusionLossHook has no argument 'wieght': did you mean weight?"),
    (f'{TRAIN} | custom_hooks.0.type=FusionLossHook', 'did you mean paif_mm.FusionLossHook?'),
    (
        f'{TRAIN} | custom_hooks.9.type=FusionLossHook',
        '--cfg-options do not fit {segmentor}: KeyError: Index 9 exceeds',
    ),
    (f'{TRAIN} | optim_wrapper.optimizer.type=Adamm', "there is no optimizer 'Adamm': did you mean Adam?"),
    (f'{TRAIN} | train_dataloader.num_worker=1', "DataLoader has no argument 'num_worker': did you mean num_workers?"),
    (f'{TRAIN} --launcher pytorch', '--launcher pytorch needs RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT in the envi'),
    (f'{ROBUSTNESS} --launcher pytorch', '--launcher pytorch needs RANK'),
    (f'{TRAIN} | load_from=/nothing.pth', 'checkpoint /nothing.pth can not be found'),
    (f'{TRAIN} | randomness.deterministc=True', "no argument 'deterministc': did you mean deterministic?"),
    (f'{TRAIN} | env_cfg.mp_cfg.start_method=spawn', "set_multi_processing has no argument 'start_method'"),
    (f'{TRAIN} | optim_wrapper.clip_grad.max_nrm=1', "no argument 'max_nrm': did you mean max_norm?"),
    # ------------------------------------------------------------------------------------------ OpenMMLab's own words
    (f'{TRAIN} | train_dataloader.dataset.pipeline.3.crop_size=[40,40]', 'AssertionError: The expected crop_size is'),
    (
        'train {folder}/trades.py --work-dir {out}',
        'trades of AdversarialAttackHook compares logits, which the decode head of',
    ),
    # --------------------------------------------------------------------------------------- configs shown, compared
    ('print_config README.md', 'README.md is no config, whose name ends with .py'),
    ('print_config /tmp', 'config /tmp is a folder: give the file'),
    ('print_config {folder}/no_config.py', "config {folder}/no_config.py can't be read: SyntaxError"),
    ('print_config {segmentor} | custom_hooks.9.x=3', '--cfg-options do not fit {segmentor}: KeyError: Index 9'),
    ('print_config {segmentor} --out /proc/x.py', '--out: /proc can not be written'),
    ('print_config {segmentor} --out {weights}/x.py', '--out: {weights} can not be written (a file is in its place)'),
    ('print_config {segmentor} --out {folder}/x.txt', 'the name must end in one of .py'),
    ('compare_configs {folder} {folder} --renamed /nothing', '/nothing: no such file or directory'),
    ('compare_configs configs configs --renamed README.md', '--renamed README.md: '),
    ('compare_configs configs configs --renamed {weights}', '--renamed {weights}: '),
    ('check_versions --rows current --out {weights}/x.md', '{weights} can not be made (File exists): give another'),
    ('check_versions --rows current --out {out}/x.md --folder {weights}/x', '{weights}/x can not be made (Not a dir'),
    ('compare_configs {weights} configs', '{weights} is not a folder'),
    ('compare_configs {folder} {folder}', "no_base.py can't be read: "),
    # ----------------------------------------------------------------------------------------------- wrong values
    (f'{TRAIN} | train_cfg.max_iters=0', 'train_cfg.max_iters must be a whole number from 1 on, not 0'),
    (f'{TRAIN} | train_cfg.max_iters=-1', 'train_cfg.max_iters must be a whole number from 1 on, not -1'),
    (f'{TRAIN} | train_cfg.max_iters=abc', "train_cfg.max_iters must be a whole number from 1 on, not 'abc'"),
    (f'{TRAIN} | train_cfg.val_interval=0', 'train_cfg.val_interval must be a whole number from 1 on, not 0'),
    (f'{TRAIN} | train_dataloader.batch_size=0', 'train_dataloader.batch_size must be a whole number from 1 on, not 0'),
    (
        f'{TRAIN} | train_dataloader.batch_size=abc',
        "train_dataloader.batch_size must be a whole number from 1 on, not '",
    ),
    (f'{TRAIN} | train_dataloader.batch_size=2.5', 'must be a whole number from 1 on, not 2.5'),
    (f'{TRAIN} | train_dataloader.batch_size=2.0', 'ValueError: batch_size should be a positive integer value'),
    (f'{TRAIN} | train_dataloader.num_workers=-1', 'train_dataloader.num_workers must be a whole number from 0 on'),
    (f'{TRAIN} | train_dataloader.num_workers=abc', 'train_dataloader.num_workers must be a whole number from 0 on'),
    (f'{ROBUSTNESS} | test_dataloader.num_workers=abc', 'test_dataloader.num_workers must be a whole number from 0 on'),
    (f'{TRAIN} | log_level=LOUD', "log_level: there is no level 'LOUD': Known are "),
    (f'{TRAIN} | randomness.seed=abc', "randomness.seed must be a whole number from 0 on, not 'abc'"),
    (f'{TRAIN} | optim_wrapper.optimizer.lr=abc', "optim_wrapper.optimizer.lr must be a number from 0 on, not 'abc'"),
    (f'{TRAIN} | optim_wrapper.optimizer.weight_decay=-1', 'ValueError: Invalid weight_decay value: -1 (torch/optim/'),
    (
        f'{TRAIN} | custom_hooks.0.priority=LOWW',
        "custom_hooks.0.priority: there is no priority 'LOWW': did you mean LOW",
    ),
    (f'{TRAIN} | load_from=http://nothing.invalid/x.pth', 'http://nothing.invalid/x.pth can not be downloaded: '),
    (f'{HOOK} | custom_hooks.0.ratio=abc', "ratio: 'abc' is no number: write 8/255 or 0.031"),
    (f'{HOOK} | custom_hooks.0.weight=abc', "weight: 'abc' is no number"),
    (f'{HOOK} | custom_hooks.0.trades=abc', "trades: 'abc' is no number"),
    (f'{HOOK} | custom_hooks.0.begin=abc', "begin must be a number of iterations, not 'abc'"),
    (f'{HOOK} | custom_hooks.0.ramp=5', 'ramp must be a dict, e.g. dict(eps=2000), not 5'),
    (f'{HOOK} | custom_hooks.0.ramp.eps=abc', 'ramp must be in iterations from 1 on: '),
    (f'{HOOK} | custom_hooks.0.attack=PGD', "attack must be a dict(type=...), not 'PGD'"),
    (f'{HOOK} | custom_hooks.0.attack=None', 'attack must be a dict(type=...), not None'),
    (f'{HOOK} | custom_hooks.0.phases=5', "phases must be among ('train', 'val', 'test'), not 5"),
    (f'{TRAIN} | {DATA}.pipeline.0.ir_range=5', 'ir_range must be (low, high) with low < high, not 5'),
    (f'{TRAIN} | {DATA}.ann_file=[1,2]', 'ann_file must be the path of a file, not [1, 2]'),
    (f'{TRAIN} | {DATA}.metainfo=[a,b]', "metainfo must be a dict, metainfo=dict(...), not ['a', 'b']"),
    (f'{TRAIN} | {DATA}.names.img_path=None', 'names.img_path must be a text with a * for the id'),
    (f'{TRAIN} | {DATA}.data_prefix=rgb', "data_prefix must be a dict, data_prefix=dict(...), not 'rgb'"),
    (f'{TRAIN} | {DATA}.indices=abc', "indices must be a number of samples or a list of their places, not 'abc'"),
    # ---------------------------------------------------------------------------------------- own fusion networks
    (f'{TRAIN} | {FUSION}.type=mmengine.WantsRGB', 'and WantsRGB does not; given that, it says: Given groups=1'),
    (f'{TRAIN} | {FUSION}.type=mmengine.GivesRGB', 'and GivesRGB does not; it returns a tensor (2, 3, 48, 64)'),
    (f'{TRAIN} | {FUSION}.type=mmengine.GivesHalfTheSize', 'does not; it returns a tensor (2, 1, 24, 32)'),
    (f'{TRAIN} | {FUSION}.type=mmengine.GivesTwo', 'and GivesTwo does not; it returns a tuple'),
    # ------------------------------------------------------------------------------------------------------ others
    (f'{CRAFT} --levels a=1/255 a=2/255', '--levels: two levels have one name'),
    ('get_flops {segmentor} --shape 1 1', '--shape: EncoderDecoder takes no pair of 1x1'),
]


@pytest.fixture(scope='module')
def places(tmp_path_factory, synthetic_root) -> dict:
    folder = tmp_path_factory.mktemp('mistakes')
    segmentor, weights = untrained(commands.config_file(folder, synthetic_root, 'general', iters=1), folder)
    boxes = tmp_path_factory.mktemp('detector')
    found = {'segmentor': segmentor, 'weights': weights, 'folder': folder}
    found['detector'] = test_detection.config_file(boxes, synthetic_root, 'general', iters=1)
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        for known in ('segmentor', 'detector'):
            text = text.replace(f'{{{known}}}', str(found[known]))
        (folder / name).write_text(text)
    return found


typed = 0


def type_it(line: str, places: dict) -> None:
    """Run a tool as it is typed, in this process; training and test in an experiment of their own."""
    global typed
    typed += 1
    words, _, options = line.partition(' | ')
    words, options = words.split(), options.split()
    if words[0] in ('train', 'test'):
        options += [f'experiment_name=mistake{typed}', f'visualizer.name=mistake{typed}']
    options = [option.replace('.type=mmengine.', '._delete_=True {0}.type=mmengine.') for option in options]
    options = [part for option in options for part in option.format(FUSION).split()]
    words = [word.format(**places) for word in words] + (['--cfg-options', *options] if options else [])
    with pytest.MonkeyPatch.context() as patch:
        call(patch, *words)


@pytest.mark.parametrize(('line', 'said'), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_told_in_one_line(line, said, places, tmp_path):
    places = {**places, 'out': tmp_path / 'out'}
    with pytest.raises(SystemExit) as caught:
        type_it(line, places)
    told = str(caught.value.code)  # Python prints it and exits with 1
    assert said.format_map(places) in told if '{' in said else said in told
    assert len(told.splitlines()) == 1
    assert 'Traceback' not in told
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


# --------------------------------------------------------------------------------------------------- numbers of flags

#: Tool and flag -> what it refuses, and with which words.
BELOW_ONE, NEGATIVE = ('0', '-1', 'x', '1.5'), ('-1', 'x')
RADIUS, UNIT = ('-1', 'x', '4/0', 'nan', '1/2/3'), ('-1', 'x', '4/0', 'inf', '8', '4/255/2')
NUMBERS = {
    ROBUSTNESS: {
        '--limit': BELOW_ONE,
        '--steps': BELOW_ONE,
        '--queries': BELOW_ONE,
        '--batch-size': BELOW_ONE,
        '--bootstrap': BELOW_ONE,
        '--seed': (*NEGATIVE, str(2**32)),
        '--diagnostics': NEGATIVE,
        '--strips': NEGATIVE,
        '--eps': UNIT,
        '--l2-eps': RADIUS,
        '--local_rank': ('x',),
        '--eot-samples': BELOW_ONE,
    },
    TARGETED: {
        '--eps': UNIT,
        '--steps': BELOW_ONE,
        '--limit': BELOW_ONE,
        '--seed': (*NEGATIVE, str(2**32)),
    },
    PATCH: {
        '--size': BELOW_ONE,
        '--scale': ('x 1', '1 x'),
        '--blocks': NEGATIVE,
        '--temperatures': ('x 1', '1'),
        '--camera': ('x 1', '1'),
        '--universal': UNIT,
        '--limit': BELOW_ONE,
        '--steps': BELOW_ONE,
        '--batch-size': BELOW_ONE,
        '--seed': (*NEGATIVE, str(2**32)),
    },
    CRAFT: {
        '--num': BELOW_ONE,
        '--steps': BELOW_ONE,
        '--seed': (*NEGATIVE, str(2**32)),
        '--levels': ('a', '=1/255', 'a=', 'a=x', 'a=4', 'a=-1'),
    },
    TRAIN: {'--local_rank': ('x',)},
    TEST: {'--wait-time': RADIUS, '--local_rank': ('x',)},
    'browse_dataset {segmentor}': {'--show-number': BELOW_ONE},
    'export {segmentor} {weights}': {'--limit': BELOW_ONE, '--shape': ('0 64', '64 0', '64')},
    'get_flops {segmentor}': {
        '--runs': BELOW_ONE,
        '--shape': ('0 64', '64 0', '64 -1', '64'),
        '--device': ('nothing', *(() if torch.cuda.is_available() else ('cuda',))),
    },
    'make_synthetic {out}': {
        '--train': BELOW_ONE,
        '--val': BELOW_ONE,
        '--seed': (*NEGATIVE, str(2**32)),
        '--size': ('0x32', '32', '32x', '-1x32', '32x32x3'),
    },
    'show_genotype paif': {'--channels': BELOW_ONE, '--size': ('0x32', '32', 'x')},
    STUDY: {'--seeds': NEGATIVE, '--jobs': BELOW_ONE, '--processes': BELOW_ONE},
    'gpu_check': {'--minutes': ('0', *RADIUS), '--reserve': ('0', *RADIUS)},
    'compatibility': {'--jobs': BELOW_ONE, '--limit': RADIUS, '--memory': RADIUS},
}
CASES = [(line, flag, value) for line, flags in NUMBERS.items() for flag, values in flags.items() for value in values]


@pytest.mark.parametrize(('line', 'flag', 'value'), CASES)
def test_absurd_numbers_are_refused_by_the_flag(line, flag, value, places, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        type_it(f'{line} {flag} {value}', {**places, 'out': tmp_path / 'out'})
    assert caught.value.code == 2
    assert re.search(f'error: argument {flag}.*: .*', capsys.readouterr().err)


def test_every_flag_with_a_number_is_in_the_table(monkeypatch):
    import argparse

    from test_tools.test_flags import DEMOS, TOOLS
    from test_tools.test_robustness import load_tool

    parsers = {}
    listed = {line.split()[0]: flags for line, flags in NUMBERS.items()}

    def look(parser, *args, **kwargs):
        parsers[tool] = parser
        raise SystemExit

    monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', look)
    for path in TOOLS:
        tool = str(path.with_suffix(''))
        with pytest.raises(SystemExit):
            load_tool(tool).main()
        numbers = [a.option_strings[0] for a in parsers[tool]._actions if a.type is not None and a.option_strings]
        numbers = [flag for flag in numbers if flag not in ('--out', '--renamed')]  # paths
        assert set(numbers) <= set(listed.get(tool, ())), tool
        if tool not in (*DEMOS, 'check_versions', 'gpu_check'):  # these two need the standard library alone
            assert '--debug' in parsers[tool]._option_string_actions, tool


# ------------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ('setting', 'said'),
    [
        ('max_iter=2', 'the config has no max_iter, and nothing reads it: did you mean train_cfg.max_iters?'),
        ('modell.x=2', 'the config has no modell, and nothing reads it: did you mean model?'),
        ('train_dataset.data_root=/x', 'did you mean train_dataloader.dataset.data_root?'),
        ('train_iterations=2', 'the config has no train_iterations, and nothing reads it: it may be misspelt'),
        ('max_iters=2', 'the config has no max_iters, and nothing reads it: did you mean train_cfg.max_iters?'),
        ('data_root=/x', 'now changes nothing: did you mean train_dataloader.dataset.data_root or val_dataloader'),
        ('train_cfg.max_iter=2', 'train_cfg has no max_iter: did you mean max_iters?'),
        ('val_dataloader.batchsize=2', 'val_dataloader has no batchsize: did you mean batch_size?'),
        ('model.data_preprocessor.fusion.chanels=2', 'model.data_preprocessor.fusion has no chanels: did you mean cha'),
        ('custom_hooks.0.wieght=2', 'custom_hooks.0 has no wieght: did you mean weight?'),
        ('default_hooks.chekpoint.interval=2', 'default_hooks has no chekpoint: did you mean checkpoint?'),
        ('default_hooks.checkpoint.intervall=2', 'default_hooks.checkpoint has no intervall: did you mean interval?'),
        ('optim_wrapper.optimiser.lr=2', 'optim_wrapper has no optimiser: did you mean optimizer?'),
        ('optim_wrapper.optimizer.learning_rate=2', 'optim_wrapper.optimizer has no learning_rate: '),
        ('model.test_cfg.moed=slide', 'model.test_cfg has no moed: did you mean mode?'),
        ('randomness.sed=1', 'randomness has no sed: did you mean seed? Known are '),
        # What is new, and read.
        ('custom_hooks.0.priority=LOW', None),
        ('default_hooks.checkpoint.priority=LOW', None),
        ('model.data_preprocessor.fusion.compile=True', None),
        ('model.decode_head.loss_decode.loss_name=loss_x', None),
        ('model.test_cfg.crop_size=48,64', None),
        ('model.backbone.init_cfg.type=Pretrained', None),
        ('optim_wrapper.clip_grad.max_norm=1', None),
        ('optim_wrapper.paramwise_cfg.custom_keys.head.lr_mult=10', None),
        ('default_hooks.early.type=EarlyStoppingHook', None),
        ('default_hooks.checkpoint.save_best=mIoU', None),
        ('train_dataloader.pin_memory=True', None),
        ('train_dataloader.dataset.metainfo.classes=a,b', None),
        ('train_dataloader.dataset.indices=4', None),
        ('train_cfg.val_begin=2', None),
        ('custom_hooks.0.weight=0.2', None),
        ('param_scheduler.0.convert_to_iter_based=True', None),
        ('randomness.deterministic=True', None),
        ('model.decode_head.norm_cfg.eps=0.1', None),
        ('find_unused_parameters=True', None),
        ('auto_scale_lr.enable=True', None),
        ('resume=True', None),
    ],
)
def test_settings_that_nobody_reads_are_told_with_the_nearest(setting, said, places):
    from paif_mm.engine.options import unread_options

    key, _, value = setting.partition('=')
    lines = unread_options(Config.fromfile(places['segmentor']), {key: value})
    if said is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f'--cfg-options {key}: ')
        assert said in line


def test_settings_of_a_copy_and_of_a_search_are_told_by_their_place():
    from paif_mm.engine.options import unread_options

    quickstart = REPO / 'configs/quickstart'
    copied = Config.fromfile(quickstart / 'segformer_sat_synthetic.py')
    (line,) = unread_options(copied, {'adversarial_training.attack.steps': 1})
    assert re.search(r'did you mean custom_hooks\.\d\.attack\.steps\?', line)
    search = Config.fromfile(quickstart / 'segformer_hds_synthetic.py')
    (line,) = unread_options(search, {'optim_wrapper.optimizer.lr': 1})
    assert 'optim_wrapper has no optimizer: ' in line
    assert 'weights' in line


def test_a_setting_that_nobody_reads_is_told_and_the_training_goes_on(places, tmp_path, capsys):
    type_it(f'{TRAIN} | max_iter=3', {**places, 'out': tmp_path})
    assert capsys.readouterr().err.count('warning: --cfg-options max_iter: ') == 1
    assert (tmp_path / 'iter_1.pth').is_file()


def test_radii_may_be_texts_wherever_they_are_read_and_no_diagnostics_are_none_asked_for(places, tmp_path):
    attack = tmp_path / 'text.py'
    attack.write_text("attack = dict(type='PGD', eps=dict(ir='4/255', vis='0.5/255'), step_size='1/255', steps=1)\n")
    written = 'train {folder}/text_in_hook.py --work-dir {out} | custom_hooks.0.attack.step_size=2/255'
    written += ' custom_hooks.0.ratio=1/2 custom_hooks.0.phases=train'
    type_it(written, {**places, 'out': tmp_path / 'a'})
    type_it(f'{TEST} --attack {attack}', {**places, 'out': tmp_path / 'b'})
    audit = commands.latest_results(tmp_path / 'b')['text']['audit']['max_delta_255']
    assert 1 <= audit['ir'] <= 4.001
    assert 0 < audit['vis'] <= 0.501
    few = '--suite paper --limit 1 --eps 4/255 --diagnostics 0 --strips 0 --bootstrap 10'
    single = tmp_path / 'single.py'
    single.write_text("attack = dict(type='PGD', eps='2/255', steps=1)\n")
    type_it(f'{ROBUSTNESS} {few} --attack {single}', {**places, 'out': tmp_path / 'c'})
    report = json.loads((tmp_path / 'c/report.json').read_text())
    assert {finding['evidence'] for finding in report['masking']['findings']} == {'not looked for: --diagnostics 0'}
    rows = {row['key']: row for row in report['rows']}
    assert rows['single-2']['eps'] == 2 / 255
    assert 0 < rows['single-2']['audit']['max_delta_255']['ir'] <= 2.001


# ------------------------------------------------------------------------------------------------- resuming, faults


def test_another_configs_training_is_not_taken_up(places, tmp_path):
    other, longer = (places['folder'] / name for name in ('other.py', 'longer.py'))
    other.write_text(f"_base_ = '{places['segmentor']}'\ncustom_hooks = []\n")
    longer.write_text(f"_base_ = '{places['segmentor']}'\ntrain_cfg = dict(max_iters=2)\n")
    out = tmp_path / 'run'
    type_it(TRAIN, {**places, 'out': out})
    for config, what in ((other, 'custom_hooks differ'), (places['detector'], 'model and custom_hooks and train_dat')):
        if config.name == places['segmentor'].name:
            config = config.rename(config.with_name('boxes.py'))
        with pytest.raises(SystemExit) as caught:
            type_it(f'train {config} --work-dir {out} --resume', places)
        told = str(caught.value.code)
        assert told.startswith(f'--resume: {out}/iter_1.pth is of {places["segmentor"].name}, another training than')
        assert what in told
    type_it(f'{TRAIN} --resume', {**places, 'out': out})  # which is done already
    type_it(f'train {longer} --work-dir {out} --resume', places)  # the same training by another name
    assert (out / 'iter_2.pth').is_file()


def test_faults_keep_their_traceback_and_debug_shows_that_of_mistakes(places, tmp_path, monkeypatch):
    with pytest.raises(KeyError, match='nothing'):
        type_it(f'{TRAIN} | {FUSION}.type=mmengine.HasAFault', {**places, 'out': tmp_path})
    with pytest.raises(TypeError, match='unsupported operand') as caught:
        type_it('train {folder}/fault.py --work-dir {out}', {**places, 'out': tmp_path})
    assert not caught.value.__suppress_context__  # mmengine raises it anew, without the hook's line
    with pytest.raises(ValueError, match='is 5, but the data set has 9 classes'):
        type_it(f'{TRAIN} --debug | model.decode_head.num_classes=5', {**places, 'out': tmp_path})


def test_the_line_is_all_that_a_process_says_of_a_mistake(places, tmp_path):
    """Typed into a shell: standard error, exit code; with --debug the traceback."""
    wrong = [f'train_dataloader.dataset.data_root={tmp_path}', f'--work-dir={tmp_path}']
    done = commands.run('train.py', places['segmentor'], wrong[1], '--cfg-options', wrong[0], check=False)
    assert done.returncode == 1
    assert 'Traceback' not in done.stdout + done.stderr
    assert (
        done.stderr.splitlines()[-1]
        == f'{tmp_path}/images does not exist: set data_root (now {tmp_path}) or data_prefix'
    )


@pytest.mark.slow
def test_each_of_several_processes_tells_its_line(places, tmp_path):
    command = [
        sys.executable,
        '-W',
        'ignore',
        '-m',
        'torch.distributed.run',
        '--nproc_per_node=2',
        '--master_port=29731',
    ]
    command += [str(REPO / 'tools/train.py'), str(places['segmentor']), '--launcher', 'pytorch']
    command += ['--work-dir', str(tmp_path), '--cfg-options', 'model.decode_head.num_classes=5']
    done = subprocess.run(command, cwd=REPO, env=commands.environment(), capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if 'num_classes is 5' in line]
    assert lines
    assert all(line.removeprefix('process 1: ').startswith('model.decode_head.num_classes is 5') for line in lines)
    assert 'ClassCountError' not in done.stderr
    assert done.returncode != 0


@pytest.fixture(autouse=True)
def loggers():
    """mmengine's loggers stay for ever otherwise, each with an open file."""
    yield
    for name in [name for name in MMLogger._instance_dict if name.startswith('mistake')]:
        for handler in MMLogger._instance_dict.pop(name).handlers:
            handler.close()
