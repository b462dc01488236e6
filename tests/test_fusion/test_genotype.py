import json

import pytest

from paif_mm.fusion import GENOTYPES, FusionNet, load_genotype, read_notes, save_genotype

OTHER = {'ir': ['CA', 'CA'], 'vis': ['7-RB', '3-DC'], 'fused': ['3-DB', '3-DB']}


def test_saved_genotype_is_read_back_without_its_notes(tmp_path):
    path = tmp_path / 'new' / 'genotype.json'
    save_genotype(OTHER, path, iteration=100, entropies=[0.5])
    assert json.loads(path.read_text())['iteration'] == 100
    assert load_genotype(path) == load_genotype(str(path)) == load_genotype(OTHER) == OTHER


def test_network_is_built_from_name_file_and_dict(tmp_path):
    save_genotype(OTHER, tmp_path / 'g.json')
    keys = [FusionNet(genotype=g, channels=4).state_dict().keys() for g in (str(tmp_path / 'g.json'), OTHER, 'paif')]
    assert keys[0] == keys[1] != keys[2]
    assert FusionNet(channels=4).genotype == GENOTYPES['paif']


def test_loaded_genotype_is_a_copy():
    load_genotype('paif')['ir'][0] = 'CA'
    assert load_genotype('paif')['ir'][0] == '3-DB'


BAD = {
    'unknown operation': (
        {**OTHER, 'vis': ['9-XX', 'CA']},
        r"'vis' has unknown operation '9-XX': Known are .*3-DB.*CA",
    ),
    'not a name': ({**OTHER, 'vis': [3, 'CA']}, r"'vis' has unknown operation 3"),
    'too many': ({**OTHER, 'ir': ['CA'] * 3}, r"'ir' must be a list of 2 operations"),
    'too few': ({**OTHER, 'fused': []}, r"'fused' must be a list of 2 operations"),
    'a string': ({**OTHER, 'fused': 'CA'}, r"'fused' must be a list of 2 operations"),
    'missing chain': (
        {'ir': ['CA', 'CA'], 'visible': ['CA', 'CA'], 'fused': ['CA', 'CA']},
        r"has no \['vis'\].*'visible'",
    ),
    'a list': ([OTHER], r'must be a dict'),
}


@pytest.mark.parametrize(('content', 'message'), BAD.values(), ids=BAD)
def test_bad_genotype_file_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / 'bad.json'
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        FusionNet(genotype=path, channels=4)
    assert 'bad.json' in str(error.value)
    assert '\n' not in str(error.value)


def test_truncated_file_is_named(tmp_path):
    path = tmp_path / 'cut.json'
    path.write_text(json.dumps(OTHER)[:20])
    with pytest.raises(ValueError, match='cut.json.*not valid JSON'):
        load_genotype(path)


def test_missing_file_is_named_with_the_known_names():
    with pytest.raises(FileNotFoundError, match=r"'nowhere.json' is neither a file nor a name: .*all-CA"):
        load_genotype('nowhere.json')


def test_wrong_genotype_is_not_saved(tmp_path):
    with pytest.raises(ValueError, match='unknown operation'):
        save_genotype({**OTHER, 'ir': ['CA', 'C']}, tmp_path / 'g.json')
    assert not (tmp_path / 'g.json').exists()


def test_single_operation_networks_have_names():
    for name in ('3-DC', '7-RB', '3-DB', 'CA'):
        assert load_genotype(f'all-{name}') == {'ir': [name] * 2, 'vis': [name] * 2, 'fused': [name] * 2}


def test_notes_are_what_a_network_does_not_read(tmp_path):
    save_genotype(OTHER, tmp_path / 'g.json', iteration=3)
    assert read_notes(tmp_path / 'g.json') == {'iteration': 3}
    assert read_notes('paif') == {}
    assert [path.name for path in tmp_path.iterdir()] == ['g.json'], 'no partial file is left'
