"""The shipped plans, at both scales."""

import importlib.util
import sys

import pytest
import yaml
from conftest import REPO
from mmengine.config import Config
from test_study.studies import trained

from paif_mm.registry import MODELS, build
from paif_mm.robustness.report import PAPER
from paif_mm.study.launch import Launcher, write_config
from paif_mm.study.plan import all_jobs, resolve
from paif_mm.study.reading import read_plan

PLANS = sorted((REPO / 'configs/study').glob('*.yaml'))
OTHERS = sorted(path for path in (REPO / 'configs').glob('*/*.yaml') if path.parent.name != 'study')
SCALES = ('half', 'full')
CONTENT = {path.stem: {row['name']: row for row in yaml.safe_load(path.read_text())['rows']} for path in PLANS}


@pytest.fixture(scope='module')
def studies(tmp_path_factory):
    """All plans at each scale, with one seed; what trainings leave is there."""
    found = {}
    for scale in SCALES:
        folder = tmp_path_factory.mktemp(scale)
        found[scale] = [read_plan(path, folder, scale, seeds=[1]) for path in PLANS]
    for plans in found.values():
        for job in all_jobs(plans):
            if job.craft is None:
                trained(job, 'iter_5.pth')
    return found


@pytest.fixture(params=SCALES)
def plans(request, studies):
    return dict(zip([path.stem for path in PLANS], studies[request.param], strict=True))


@pytest.fixture
def rows(plans):
    """(plan, row) -> job."""
    return {(name, row.name): row.jobs[0] for name, plan in plans.items() for row in plan.rows}


def test_every_row_has_its_options(plans, rows):
    assert {(name, row) for name, content in CONTENT.items() for row in content} == rows.keys()
    for (plan, row), job in rows.items():
        for key, value in leaves(CONTENT[plan][row].get('options', {})):
            assert lookup(job.config, key) == value, (plan, row, key)


def written_well(plan, row, job) -> None:
    """The config of a row loads, and has the options, the paths and the seed."""
    write_config(job)
    written = Config.fromfile(job.folder / 'config.py')
    assert written.randomness.seed == 1
    for key, value in leaves(CONTENT[plan][row].get('options', {})):
        assert lookup(written, key) == resolve(value, job)
    assert '.checkpoint}' not in str(written)
    assert '.folder}' not in str(written)
    if 'T' in job.needs:
        assert written.load_from == str(job.needs['T'].folder / 'train/iter_5.pth')


@pytest.mark.parametrize('key', [('start', 'warm start alone'), ('table4', 'searched here')])
def test_written_configs_load_and_have_options_paths_and_seed(rows, key):
    written_well(*key, rows[key])


@pytest.mark.slow
def test_all_written_configs_load(rows):
    for key, job in rows.items():
        written_well(*key, job)


def test_every_fusion_network_builds(rows):
    fusions = {str(fusion): fusion for fusion in (fusion_of(job).to_dict() for job in rows.values())}
    assert len(fusions) >= 25
    for fusion in fusions.values():
        if '.folder}' in str(fusion.get('genotype')):  # what a search will have found
            fusion['genotype'] = 'paif'
        network = build(MODELS, fusion)
        assert getattr(network, 'direct', False) == (fusion.get('rule') == 'DC')


def test_the_tools_know_all_flags(rows, plans, monkeypatch):
    launcher, known = Launcher(REPO / 'tools'), {}
    for job in all_jobs(list(plans.values())):
        for stage in job.stages:
            command = launcher.command(job, stage)
            settings = str(job.robustness if stage == 'robustness' else job.craft)
            if (stage, settings) not in known:
                monkeypatch.setattr(sys, 'argv', command[3:])
                known[stage, settings] = tool(command[3]).parse_args()
    assert {stage for stage, _ in known} == {'train', 'test', 'robustness', 'craft'}
    assert {args.suite for (stage, _), args in known.items() if stage == 'robustness'} == {'strong'}
    assert [3 / 765, 12 / 765, 24 / 765] in [args.eps for (stage, _), args in known.items() if stage == 'robustness']


def test_models_that_plans_have_in_common_are_trained_once(plans, rows):
    same = [
        [('table3', 'General'), ('mixing', 'none')],
        [
            *[('table3', 'SAT'), ('table1', 'PAIF, SAT'), ('table4', "paper's genotype")],
            *[('mixing', 'half'), ('start', 'SAT')],
        ],
        [('table3', 'AAT'), ('table1', 'PAIF, AAT'), ('start', 'AAT')],
        [('table4', 'searched here'), ('table5', 'HDS')],
        [('table1', 'average'), ('baselines', 'average SAT')],
        [('table1', '3-RB, CC'), ('fig2_sat', '3-RB'), ('fig2_sat', 'CC')],
        [('fig2', '3-RB'), ('fig2', 'CC')],
    ]
    for keys in same:
        assert len({rows[key].folder for key in keys}) == 1, keys
    tested = [job for job in all_jobs(list(plans.values())) if job.robustness is not None]
    assert len(tested) == len(rows) - sum(len(keys) - 1 for keys in same), 'and no others'


def test_rows_of_the_half_scale_differ_in_what_they_compare_alone(studies):
    jobs = {row.jobs[0].folder: row.jobs[0] for plan in studies['half'] for row in plan.rows}.values()
    configs = [job.config for job in jobs]
    assert len({job.needs['T'].folder for job in jobs}) == 1
    assert {config.load_from for config in configs} == {'{T.checkpoint}'}
    aat = [config for config in configs if config.custom_hooks[0].type == 'paif_mm.AATMetaInitHook']
    others = [config for config in configs if config not in aat]
    assert {config.train_cfg.max_iters for config in aat} == {650}
    assert {config.train_cfg.max_iters for config in others} == {800}
    assert all(config.param_scheduler[-1].end == config.train_cfg.max_iters for config in configs)
    assert {config.train_dataloader.batch_size for config in configs} == {4}
    assert {tuple(config.crop_size) for config in configs} == {(96, 128)}
    crops = [step for config in configs for step in config.train_pipeline if step.type == 'RandomCrop']
    assert {tuple(step.crop_size) for step in crops} == {(96, 128)}
    fusions = [fusion_of(job) for job in jobs]
    assert {fusion.channels for fusion in fusions if fusion.type != 'AverageFusion'} == {8}
    assert {str(config.optim_wrapper) for config in configs} == {str(configs[0].optim_wrapper)}
    assert len({str(config.model.backbone) + str(config.model.decode_head) for config in configs}) == 1


def test_a_quarter_of_the_training_is_clean_at_both_scales(studies):
    for plans in studies.values():
        config = next(row.jobs[0].config for plan in plans for row in plan.rows if row.name == 'clean first')
        assert config.custom_hooks[1].begin == config.train_cfg.max_iters / 4


def test_rows_of_the_full_scale_are_trained_alike(studies):
    jobs = [row.jobs[0] for plan in studies['full'] for row in plan.rows]
    configs = [job.config for job in jobs]
    assert {config.train_cfg.max_iters for config in configs} == {20000}
    assert len({config.train_dataloader.batch_size for config in configs}) == 1
    fusions = [fusion_of(job) for job in jobs]
    assert len({fusion.channels for fusion in fusions if fusion.type != 'AverageFusion'}) == 1


def test_the_papers_figures_are_those_of_the_reports():
    for name, figures in PAPER['mIoU']['rows'].items():
        paper = CONTENT['table3'][name]['paper']
        assert paper == {key if key == 'clean' else f'pgd5-{key}': value for key, value in figures.items()}


def test_recipes_at_equal_time_differ_in_the_recipe_and_its_iterations_alone(tmp_path):
    plan = read_plan(REPO / 'configs/quickstart/equal_time.yaml', tmp_path)
    jobs = [job for row in plan.rows for job in row.jobs]
    assert len(jobs) == 10
    assert len({job.needs['start'].folder for job in jobs}) == 2, 'one start for each seed'
    for job in jobs:
        if not job.needs['start'].folder.exists():
            trained(job.needs['start'])
        write_config(job)
        config = Config.fromfile(job.folder / 'config.py')
        assert config.train_cfg.max_iters == config.train_cfg.val_interval == config.param_scheduler[-1].end
        assert config.load_from == str(job.needs['start'].folder / 'train/iter_2.pth')
        assert config.optim_wrapper.optimizer.lr == 1e-3
        assert config.train_dataloader.dataset.pipeline[3].crop_size == (48, 64)
        assert config.model.data_preprocessor.task.size == (48, 64)
        attacking = config.custom_hooks[1]
        assert attacking.get('attack', attacking).eps == 4 / 255
    assert len({(str(job.config.model), str(job.config.train_dataloader)) for job in jobs}) == 1


@pytest.mark.parametrize('path', OTHERS, ids=lambda path: path.stem)
def test_other_plans_train_each_row_as_long_as_its_schedule_says(path, tmp_path):
    plan = read_plan(path, tmp_path)
    configs = {row.name: row.jobs[0].config for row in plan.rows}
    assert len({str(config.to_dict()) for config in configs.values()}) == len(configs) > 3, 'rows differ'
    for name, config in configs.items():
        ends = {config.train_cfg.max_iters, config.train_cfg.val_interval, config.param_scheduler[-1].end}
        assert len(ends) == 1, name


def fusion_of(job):
    return job.config.model.data_preprocessor.fusion


def leaves(options, before=''):
    for key, value in options.items():
        if isinstance(value, dict):
            yield from leaves(value, f'{before}{key}.')
        else:
            yield f'{before}{key}', value


def lookup(config, key):
    for part in key.split('.'):
        config = config[int(part) if part.isdigit() else part]
    return config


def tool(path):
    spec = importlib.util.spec_from_file_location('tool', path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found
