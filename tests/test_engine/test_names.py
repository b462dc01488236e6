"""Names of what is written per image."""

import pytest

from paif_mm.engine.names import image_names


def test_names_are_the_files_where_these_differ():
    assert image_names(['/x/a.png', '/y/b.jpg', '/x/a.png']) == {'/x/a.png': 'a', '/y/b.jpg': 'b'}
    assert image_names([]) == {}


def test_folders_tell_files_of_one_name_apart():
    paths = ['data/day/0001.png', 'data/night/0001.png', 'data/day/0002.png']
    assert list(image_names(paths).values()) == ['day__0001', 'night__0001', 'day__0002']


def test_files_that_cannot_be_told_apart_are_named():
    with pytest.raises(ValueError, match=r'/x/a\.jpg and /x/a\.png would be written to files of one name'):
        image_names(['/x/a.png', '/x/a.jpg'])
    with pytest.raises(ValueError, match='one name'):
        image_names(['/x/a__b/c.png', '/x/a/b__c.png', '/x/a/c.png', '/x/q/c.png'])
