"""demo/tutorial.ipynb runs from its first cell to its last, and is kept without outputs."""

import json
from pathlib import Path

import matplotlib
import pytest
from conftest import REPO, environment

NOTEBOOK = REPO / 'demo' / 'tutorial.ipynb'
CELLS = json.loads(NOTEBOOK.read_text())['cells']
CODE = [''.join(cell['source']) for cell in CELLS if cell['cell_type'] == 'code']


def test_it_is_kept_without_outputs():
    assert len(CODE) == 6 and NOTEBOOK.stat().st_size < 10_000
    assert not any(cell.get('outputs') or cell.get('execution_count') for cell in CELLS)


def test_its_code_runs_and_the_robust_model_loses_less(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    matplotlib.use('agg')
    names = {}
    for text in CODE:
        exec(compile(text, NOTEBOOK.name, 'exec'), names)
    assert len(names['scenes']) == 5
    assert names['fused'].shape == (96, 128, 3)
    plain, robust = (sum(names['changed'][name]) / 5 for name in ('plain', 'robust'))
    assert 0.01 < robust < 0.8 * plain
    told = capsys.readouterr().out
    assert f'plain: {plain:.1%} of the pixels' in told
    assert told.count('max |delta| ir 4.000/255, vis 4.000/255') == 2


@pytest.mark.slow
def test_it_runs_in_jupyter(tmp_path, monkeypatch):
    nbclient = pytest.importorskip('nbclient', reason='no nbclient: pip install nbclient ipykernel')
    import nbformat

    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(Path(NOTEBOOK), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(tmp_path)}}).execute()
    pictures = [one for cell in notebook.cells for one in cell.get('outputs', []) if 'image/png' in one.get('data', {})]
    assert len(pictures) == 3
