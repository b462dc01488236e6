"""Plans: what they become, what they share, and what is said of wrong ones."""

import re

import pytest
import yaml
from test_study.studies import trained, write_plan

from paif_mm.study import reading
from paif_mm.study.plan import PlanError, all_jobs, resolve
from paif_mm.study.reading import read_plan

T = {'T': {'config': 'a.py', 'options': {'model.fusion.channels': 2}}}
START = {'load_from': '{T.checkpoint}'}


def row(name='A', config='a', **keys):
    return {'name': name, 'config': config, **keys}


def job_of(folder, *rows, **keys):
    """The first job of a plan."""
    return read_plan(write_plan(folder, *rows, **keys), folder / 'work').rows[0].jobs[0]


def test_a_plan_has_its_rows_with_one_job_per_seed(tmp_path):
    rows = row('A', group='first', paper={'clean': 50.5}), row('B')
    scale = {'seeds': [3, 5], 'robustness': {'suite': 'paper', 'limit': 4}}
    path = write_plan(tmp_path, *rows, name='table', scale=scale, text='Some words.', classes=['car'])
    plan = read_plan(path, tmp_path / 'work')
    assert (plan.name, plan.title, plan.text, plan.classes) == ('table', 'A study', 'Some words.', ('car',))
    assert [(found.name, found.group, found.paper) for found in plan.rows] == [
        ('A', 'first', {'clean': 50.5}),
        ('B', '', {}),
    ]
    job = plan.rows[0].jobs[1]
    assert [job.seed for job in plan.rows[0].jobs] == [3, 5]
    assert str(job) == 'A, seed 5'
    assert job.folder.name == 'seed5'
    assert re.fullmatch(r'a-[0-9a-f]{8}', job.folder.parent.name)
    assert job.folder.parent.parent == tmp_path / 'work'
    assert job.stages == ('train', 'test', 'robustness')
    assert job.robustness == {'suite': 'paper', 'limit': 4}


def test_seeds_can_be_given_instead_of_the_scales(tmp_path):
    plan = read_plan(write_plan(tmp_path, scale={'seeds': [0, 1]}), tmp_path, seeds=[7])
    assert [job.seed for job in plan.rows[0].jobs] == [7]


def test_placeholders_are_dependencies_that_come_first(tmp_path):
    before = {
        **T,
        'source': {'config': 'a.py', 'options': START},
        'bank': {'craft': 'source', 'num': 4},
        'not needed': {'config': 'a.py'},
    }
    options = {**START, 'custom_hooks.0.bank': '{bank.folder}/files'}
    path = write_plan(tmp_path, row(options=options), scale={'seeds': [0, 1], 'before': before})
    plan = read_plan(path, tmp_path / 'work')
    job = plan.rows[0].jobs[1]
    assert set(job.needs) == {'T', 'bank'}
    bank = job.needs['bank']
    assert (bank.stages, bank.config, bank.craft) == (('craft',), None, {'num': 4})
    assert bank.needs['source'].needs['T'].folder == job.needs['T'].folder
    assert job.needs['T'].stages == ('train',)
    jobs = all_jobs([plan])
    assert [str(job) for job in jobs] == ['T, seed 0', 'source, seed 0', 'bank, seed 0', 'A, seed 0', 'A, seed 1']
    trained(job.needs['T'], 'iter_9.pth')
    found = resolve({'options': [options, 3, None]}, job)['options']
    assert found[0]['load_from'] == str(job.needs['T'].folder / 'train/iter_9.pth'), "this folder's, wherever it was"
    assert found[0]['custom_hooks.0.bank'] == f'{bank.folder}/craft/files'
    assert found[1:] == [3, None]


@pytest.mark.parametrize(
    'options', [{'steps.1.crop_size': [48, 64], 'steps.0.sizes': [3, 5]}, {'steps': {'1': {'crop_size': [48, 64]}}}]
)
def test_options_are_tuples_where_the_config_has_tuples(tmp_path, options):
    (tmp_path / 'b.py').write_text("steps = [dict(sizes=[1, 2]), dict(type='RandomCrop', crop_size=(96, 128))]")
    job = job_of(tmp_path, row(config='b.py', options=options))
    assert job.config.steps[1].crop_size == (48, 64)
    assert isinstance(job.config.steps[0].sizes, list)


def test_the_same_model_has_one_folder_whatever_it_is_called(tmp_path):
    nested = {'model': {'fusion': {'channels': 4}}}
    first = write_plan(tmp_path, row('A', options={'model.fusion.channels': 4}), name='first')
    second = write_plan(tmp_path, row('B', options=nested), row('C', config='a.py'), row('D'), name='second')
    plans = [read_plan(path, tmp_path / 'work') for path in (first, second)]
    (one,), (other, by_path, plain) = ([row.jobs[0].folder for row in plan.rows] for plan in plans)
    assert one == other
    assert by_path == plain != one
    assert [job.name for job in all_jobs(plans)] == ['A', 'C']


def test_a_model_that_is_a_row_and_a_step_is_trained_once_and_tested(tmp_path):
    before = {'T': {'config': 'a.py'}}
    path = write_plan(tmp_path, row(options=START), row('plain'), scale={'before': before})
    jobs = all_jobs([read_plan(path, tmp_path)])
    assert [(job.name, job.stages[-1]) for job in jobs] == [('plain', 'robustness'), ('A', 'robustness')]


def test_a_folder_does_not_depend_on_where_the_data_are(tmp_path, monkeypatch):
    tmp_path.joinpath('a.py').write_text("data_root = '{{$PAIF_MM_DATA:data}}/msrs'\nother = '/disk2/x'")
    monkeypatch.delenv('PAIF_MM_DATA', raising=False)
    reference = job_of(tmp_path).folder
    for place in ('/disk', '/disk/', '../d'):
        monkeypatch.setenv('PAIF_MM_DATA', place)
        reading._parse_config.cache_clear()
        job = job_of(tmp_path)
        assert job.config.data_root == f'{place}/msrs'
        assert job.folder == reference
    monkeypatch.setenv('PAIF_MM_DATA', '/disk2')  # where the other data are, too
    assert job_of(tmp_path).folder != reference, 'other data'


def test_whatever_makes_another_model_has_another_folder(tmp_path):
    def folder(channels=2, steps=None, **keys):
        before = {'T': {'config': 'a.py', 'options': {'model.fusion.channels': channels}}, **(steps or {})}
        return job_of(tmp_path, row(options={**START, **keys}), scale={'before': before}).folder.parent

    reference = folder()
    assert folder() == reference
    assert folder(**{'model.fusion.channels': 4}) != reference, 'other options'
    assert folder(channels=3) != reference, 'another T'
    (tmp_path / 'a.py').write_text((tmp_path / 'a.py').read_text().replace('max_iters=2', 'max_iters=3'))
    assert folder() != reference, 'another config'


def test_another_source_or_another_flag_makes_another_bank(tmp_path):
    def folder(channels, num):
        before = {
            'source': {'config': 'a.py', 'options': {'model.fusion.channels': channels}},
            'bank': {'craft': 'source', 'num': num},
        }
        options = {'custom_hooks.0.bank': '{bank.folder}'}
        job = job_of(tmp_path, row(options=options), scale={'before': before})
        return job.needs['bank'].folder, job.folder

    reference = folder(2, 4)
    for other in (folder(3, 4), folder(2, 5)):
        assert other[0] != reference[0]
        assert other[1] != reference[1], 'what is trained on it, too'


@pytest.mark.parametrize(('each', 'seeds'), [(True, [0, 1]), (False, [0, 0])])
def test_steps_have_seed_0_or_each_rows(tmp_path, each, seeds):
    before = {'T': {'config': 'a.py', 'each_seed': each}, 'bank': {'craft': 'T', 'each_seed': each}}
    options = {**START, 'custom_hooks.0.bank': '{bank.folder}'}
    plan = read_plan(write_plan(tmp_path, row(options=options), scale={'seeds': [0, 1], 'before': before}), tmp_path)
    for need in ('T', 'bank'):
        assert [job.needs[need].seed for job in plan.rows[0].jobs] == seeds
    assert plan.rows[0].jobs[1].needs['bank'].needs['source'].seed == seeds[1]


def test_options_reach_dicts_lists_and_replace_what_they_say_to(tmp_path):
    options = {
        'model.fusion': {'_delete_': True, 'type': 'Average', 'weights': [0.25, 0.75]},
        'model.head': {'channels': [1]},
        'custom_hooks.0.bank': 'here',
        'custom_hooks.1.ratio': 1.0,
        'new.key': None,
    }
    config = job_of(tmp_path, row(options=options)).config
    assert config.model.fusion == {'type': 'Average', 'weights': [0.25, 0.75]}
    assert config.model.head == {'type': 'Head', 'channels': [1]}
    assert config.custom_hooks == [{'type': 'Bank', 'bank': 'here', 'iters': 3}, {'type': 'Attack', 'ratio': 1.0}]
    assert config.new.key is None


def test_options_of_a_row_go_before_those_of_the_scale(tmp_path):
    scale = {'options': {'load_from': 'scale.pth', 'train_cfg.max_iters': 9}}
    config = job_of(tmp_path, row(options={'load_from': 'row.pth'}), scale=scale).config
    assert (config.load_from, config.train_cfg.max_iters) == ('row.pth', 9)


def test_a_scale_is_found_by_name_by_path_or_in_the_plan(tmp_path):
    elsewhere, beside = tmp_path / 'elsewhere', tmp_path / 'plans'
    for seed, file in ((1, beside / 'scales/small.yaml'), (2, elsewhere / 'other.yaml')):
        write_plan(file.parent)  # for the config beside it
        file.write_text(f'seeds: [{seed}]\nconfigs: {{a: a.py}}\n')
    path = write_plan(beside, scale={'seeds': [3]})

    def seed(scale=None):
        return read_plan(path, tmp_path, scale).rows[0].jobs[0].seed

    assert [seed(), seed('small'), seed(str(elsewhere / 'other.yaml'))] == [3, 1, 2]
    path.write_text(re.sub(r'scale:\n( .*\n)+', 'scale: small\n', path.read_text()))
    assert seed() == 1, 'a name in the plan'


def test_robustness_of_a_plan_goes_before_the_scales(tmp_path):
    scale = {'robustness': {'suite': 'strong', 'limit': 8}}
    job = job_of(tmp_path, scale=scale, robustness={'limit': 2, 'eps': ['1/255']})
    assert job.robustness == {'suite': 'strong', 'limit': 2, 'eps': ['1/255']}
    other = job_of(tmp_path, scale=scale)
    assert other.folder == job.folder, 'one training'
    assert other.output('train') == job.output('train')
    assert other.output('robustness') != job.output('robustness'), 'two reports'


def test_a_model_that_is_to_be_tested_in_two_ways_is_refused(tmp_path):
    paths = [write_plan(tmp_path, name=name, robustness={'limit': i}) for i, name in enumerate('ab')]
    with pytest.raises(PlanError, match='A, seed 0 is to be tested in different ways: run these plans one after'):
        all_jobs([read_plan(path, tmp_path) for path in paths])


def test_only_some_rows_are_wanted(tmp_path):
    paths = write_plan(tmp_path, row('A'), row('B'), name='first'), write_plan(tmp_path, row('C'), name='second')
    plans = [read_plan(path, tmp_path) for path in paths]
    assert [job.name for job in all_jobs(plans, ['B'])] == ['B']
    with pytest.raises(PlanError, match='no plan has a row D; there are A, B, C'):
        all_jobs(plans, ['B', 'D'])


FILES = {
    'missing file': (None, 'does not exist'),
    'no YAML': ('title: [', 'is no YAML: .*line 1'),
    'a list': ('- title', 'must be a mapping of keys, not list'),
    'nothing': ('', 'must be a mapping of keys, not NoneType'),
    'missing keys': ('text: x', 'rows, title is missing'),
    'unknown key': ('{title: x, rows: [], rwos: []}', 'unknown rwos; known are classes, .*title'),
    'no scale': ('{title: x, rows: []}', 'names no scale: give --scale NAME'),
    'unknown scale': ('{title: x, rows: [], scale: huge}', r'huge\.yaml does not exist'),
    'scale without seeds': ('{title: x, rows: [], scale: {configs: {}}}', 'scale: seeds is missing'),
    'unknown key of a scale': ('{title: x, rows: [], scale: {seeds: [0], limit: 3}}', 'scale: unknown limit'),
}


@pytest.mark.parametrize('case', FILES)
def test_a_wrong_file_is_named_in_one_line(tmp_path, case):
    text, message = FILES[case]
    path = tmp_path / 'plan.yaml'
    if text is not None:
        path.write_text(text)
    refused(path, message)


ROWS = {
    'no name': ([{'config': 'a'}], {}, 'row None: name is missing'),
    'no config': ([{'name': 'A'}], {}, "row 'A': config is missing"),
    'unknown key': ([row(seed=3)], {}, "row 'A': unknown seed; known are config, group, name, options, paper"),
    'unknown config': ([row(config='b')], {}, "row 'A': config 'b' is none of the configs of .*: a"),
    'no such file': ([row(config='b.py')], {}, r"row 'A': config .*b\.py does not exist"),
    'no such file of a scale': ([row()], {'configs': {'a': 'b.py'}}, r"row 'A': config .*b\.py does not exist"),
    'unknown step': ([row(options=START)], {}, "row 'A' needs 'T', which is no step of before in"),
    'step without config': ([row(options=START)], {'before': {'T': {}}}, "step 'T': config is missing"),
    'no mapping': ([row(options=START)], {'before': {'T': 'a.py'}}, "step 'T' must be a mapping of keys, not str"),
    'unknown source': ([row(options=START)], {'before': {'T': {'craft': 'S'}}}, "step 'T' needs 'S', which is no step"),
    'two of a name': ([row('B'), row('A'), row('B')], {}, 'two rows are called B'),
    'list index': ([row(options={'custom_hooks.7.bank': 'x'})], {}, r"row 'A': options do not fit .*a\.py: .*Index 7"),
    'leaf': ([row(options={'load_from.x.y': 1, 'model.head.type.x': 1})], {}, "row 'A': options do not fit .*type"),
}


@pytest.mark.parametrize('case', ROWS)
def test_a_wrong_row_or_step_is_named_in_one_line(tmp_path, case):
    rows, scale, message = ROWS[case]
    refused(write_plan(tmp_path, *rows, scale=scale), message)


#: Values of another type than the key's: what a plan or its scale has instead, and the key that has to be named.
TYPES = {
    'rows null': ({'rows': None}, 'rows'),
    'rows mapping': ({'rows': {'A': {'config': 'a'}}}, 'rows?'),
    'row text': ({'rows': ['A']}, 'row'),
    'row name number': ({'rows': [row(3)]}, 'name'),
    'row name null': ({'rows': [row(None)]}, 'name'),
    'row config number': ({'rows': [row(config=3)]}, 'config'),
    'row options list': ({'rows': [row(options=['a'])]}, 'options'),
    'row options null': ({'rows': [row(options=None)]}, 'options'),
    'row paper list': ({'rows': [row(paper=[3])]}, 'paper'),
    'row paper text': ({'rows': [row(paper={'clean': 'high'})]}, 'paper'),
    'text number': ({'text': 3}, 'text'),
    'classes text': ({'classes': 'car'}, 'classes'),
    'robustness text': ({'robustness': 'strong'}, 'robustness'),
    'seeds number': ({'scale': {'seeds': 3}}, 'seeds'),
    'seeds text': ({'scale': {'seeds': ['a']}}, 'seeds'),
    'seeds none': ({'scale': {'seeds': []}}, 'seeds'),
    'seeds twice': ({'scale': {'seeds': [0, 0]}}, 'seeds'),
    'configs list': ({'scale': {'seeds': [0], 'configs': ['a.py']}}, 'configs'),
    'step null': ({'scale': {'seeds': [0], 'options': START, 'before': {'T': None}}}, "step 'T'"),
    'step that needs itself': (
        {'scale': {'seeds': [0], 'options': START, 'before': {'T': {'config': 'a.py', 'options': START}}}},
        "step 'T'",
    ),
    'bank of itself': ({'scale': {'seeds': [0], 'options': START, 'before': {'T': {'craft': 'T'}}}}, "step 'T'"),
}


@pytest.mark.parametrize('case', TYPES)
def test_a_value_of_another_type_is_named_in_one_line(tmp_path, case):
    keys, named = TYPES[case]
    path = write_plan(tmp_path)
    content = {'title': 'x', 'rows': [row(config='a.py')], 'scale': {'seeds': [0]}, **keys}
    path.write_text(yaml.safe_dump(content))
    refused(path, named)


@pytest.mark.parametrize('text', ['model = dict(', "_base_ = './nowhere.py'", 'x = 1 / 0'])
def test_a_config_that_cant_be_read_is_named_in_one_line(tmp_path, text):
    path = write_plan(tmp_path)
    (tmp_path / 'a.py').write_text(text)
    refused(path, r"row 'A'.*a\.py")


def refused(path, message: str) -> None:
    """Reading the plan fails with one line that names the file, the plan's or one beside it, and what is wrong."""
    with pytest.raises(PlanError, match=message) as caught:
        read_plan(path, path.parent / 'work')
    assert str(path.parent) in str(caught.value)
    assert '\n' not in str(caught.value)
