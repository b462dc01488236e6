"""Sphinx roles in docstrings, as Markdown: ``:func:`~.reading.loader_of``` becomes `loader_of`."""

import re

import griffe

ROLE = re.compile(r':(?:func|class|meth|mod|data|attr|exc):`(~?)([^`]+)`')


def plain(text: str) -> str:
    """The text with each role as its target in code, of which ``~`` keeps the last part."""
    return ROLE.sub(lambda role: f'`{role[2].rpartition(".")[2] if role[1] else role[2].lstrip(".")}`', text)


class Roles(griffe.Extension):
    """Replaces the roles of every docstring."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        if obj.docstring:
            obj.docstring.value = plain(obj.docstring.value)
