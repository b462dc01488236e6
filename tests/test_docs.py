"""The pages of the documentation: short at the front, linked without gaps, all on the site."""

import re

import pytest
import yaml
from conftest import REPO

PAGES = [REPO / 'README.md', REPO / 'CONTRIBUTING.md', *sorted((REPO / 'docs').glob('*.md'))]


def anchors(text: str) -> set[str]:
    """What a heading is linked by, as GitHub and mkdocs make it."""
    code_free = re.sub(r'```.*?```', '', text, flags=re.DOTALL)
    headings = re.findall(r'^#+ (.+)$', code_free, re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).strip().replace(' ', '-') for heading in headings}


def test_the_readme_is_short():
    assert len((REPO / 'README.md').read_text().split()) < 900


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
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


def test_every_page_is_on_the_site():
    nav = yaml.safe_load((REPO / 'mkdocs.yml').read_text())['nav']
    assert sorted(name for entry in nav for name in entry.values()) == sorted(path.name for path in PAGES[2:])


def test_pages_of_the_site_link_no_files_beyond_it():
    for page in PAGES[2:]:
        assert '](../' not in page.read_text(), page.name
