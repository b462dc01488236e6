"""The pages of the documentation: short at the front, linked without gaps, all on the site."""

import re
from importlib import import_module

import pytest
import yaml
from conftest import REPO

from paif_mm import zoo

DOCS = REPO / 'docs'
SITE = [path for path in sorted(DOCS.rglob('*.md')) if path.parent != DOCS / 'study']
PAGES = [REPO / 'README.md', REPO / 'CONTRIBUTING.md', *SITE]


def anchors(text: str) -> set[str]:
    """What a heading is linked by, as GitHub and mkdocs make it."""
    code_free = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', code_free, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


def test_the_readme_is_short():
    assert len((REPO / 'README.md').read_text().split()) < 900


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.relative_to(REPO).as_posix())
def test_no_link_is_broken(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' in target:
            continue
        name, _, anchor = target.partition('#')
        path = page.parent / name if name else page
        assert path.exists(), f'{page.name} links {target}'
        assert not anchor or anchor in anchors(path.read_text()), f'{page.name} links {target}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_the_tests_that_a_page_names_exist(page):
    for file, name in re.findall(r'(test_\w+\.py)::(test_\w+)', page.read_text()):
        defined = [path for path in (REPO / 'tests').rglob(file) if f'\ndef {name}(' in path.read_text()]
        assert defined, f'{page.name} names {file}::{name}'


def listed(nav: list) -> list[str]:
    """All pages of a navigation."""
    return [
        page for entry in nav for one in entry.values() for page in ([one] if isinstance(one, str) else listed(one))
    ]


def test_every_page_is_on_the_site():
    nav = re.search(r'^nav:\n.*', (REPO / 'mkdocs.yml').read_text(), re.DOTALL | re.MULTILINE)[0]
    assert sorted(listed(yaml.safe_load(nav)['nav'])) == sorted(path.relative_to(DOCS).as_posix() for path in SITE)


def test_pages_of_the_site_link_no_files_beyond_it():
    for page in SITE:
        for target in re.findall(r'\]\((\.\./[^)#]+)', page.read_text()):
            assert (page.parent / target).resolve().is_relative_to(DOCS), f'{page.name} links {target}'


@pytest.mark.parametrize('page', sorted((DOCS / 'api').glob('*.md')), ids=lambda page: page.stem)
def test_what_the_reference_names_has_a_docstring(page):
    names = re.findall(r'^::: (paif_mm\..+)$', page.read_text(), re.MULTILINE)
    assert len(names) > 5
    for name in names:
        module, _, last = name.rpartition('.')
        found = getattr(import_module(module), last, None) or import_module(name)
        assert found.__doc__ and found.__doc__.strip(), name


def test_files_and_names_of_the_paper_s_table_are_there():
    text = (DOCS / 'equations.md').read_text()
    files = re.findall(r'`([\w/]+\.(?:py|yaml))`', text)
    assert len(files) > 25
    assert [name for name in files if not (REPO / name).is_file()] == []
    assert all(f'Eq. {number}' in text or number == 2 for number in range(1, 7))


def test_the_zoo_s_page_says_what_the_metafiles_say():
    rows = dict(re.findall(r'^\| `(\w.+?)` \| (.+) \|$', (DOCS / 'zoo.md').read_text(), re.MULTILINE))
    assert rows.keys() == zoo.models().keys()
    for name, model in zoo.models().items():
        figures, size = rows[name].split(' | ')[-2:]
        assert float(figures) == model.facts['Results'][0]['Metrics']['mIoU']
        assert float(size) == round(model.weights.stat().st_size / 1e6, 1)


def test_roles_of_docstrings_become_code():
    pytest.importorskip('griffe', reason='no griffe: pip install -r requirements/docs.txt')
    import runpy

    plain = runpy.run_path(str(DOCS / 'roles.py'))['plain']
    text = 'see :func:`~.reading.loader_of`, :class:`.Pair`, :data:`Budget` and ``None``'
    assert plain(text) == 'see `loader_of`, `Pair`, `Budget` and ``None``'
