"""The page of ``paif demo``, in Gradio: models one above the other, what they say of a pair, what attacks make of it.

Files reach the server by upload alone, of at most :data:`LARGEST` each, and are deleted after :data:`KEPT`; all else
that a visitor sends is a choice.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from tempfile import mkstemp

import cv2
import gradio as gr
import numpy as np
import pandas as pd

from paif_mm.mistakes import explain

from .inferencer import PairInferencer
from .playing import (
    PANELS,
    Shown,
    attack_of,
    attacks_with_radius,
    read_upload,
    show_attack,
    show_prediction,
    stacked,
)

LARGEST = '20mb'
KEPT = (300, 3600)  # seconds: how often it is looked for files to delete, and how old these are
WAITING = 16  # visitors whose turn is to come; one is served at a time
PLACES = 2  # models that are shown at once
NOBODY = 'none'
ALIGNMENTS = {'refused': None, 'resized': 'resize', 'aligned by ECC': 'ecc'}
FONTS = ['system-ui', 'sans-serif']  # the theme's own would come from another server
THEME = gr.themes.Soft(font=FONTS, font_mono=['ui-monospace', 'monospace'])
INTRODUCTION = """# What does the model see, and what does an attack make of it?
Drop a visible and an infrared image (or a visible one alone that is RGBA, with infrared as fourth channel), or choose
an example. An attack changes each pixel by at most the radius, until
the model no longer says what it says of the pair untouched; each model is attacked through itself."""


def build_page(
    models: Mapping[str, PairInferencer], examples: Sequence[tuple[str, str | None]], folder: Path, side: int = 640
) -> gr.Blocks:
    """The page.

    Args:
        models: by name; the first two are shown first.
        examples: files of pairs; the first one is shown first.
        folder: for strips that are to be downloaded, deleted after :data:`KEPT` where Gradio keeps its files there.
        side: pixels of the longer side of a pair, at most; larger ones are shrunk.
    """
    names, answers = list(models), Answers(models, folder, side)
    with gr.Blocks(title='paif demo', analytics_enabled=False, fill_width=True, delete_cache=KEPT) as page:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            with gr.Column(scale=1, min_width=300):
                visible = _upload('visible image', 'visible')
                infrared = _upload('infrared image', 'infrared')
                gallery = gr.Gallery(
                    [_thumbnail(*pair) for pair in examples],
                    show_label=False,
                    columns=2,
                    height=210,
                    object_fit='contain',
                    allow_preview=False,
                    interactive=False,
                    buttons=[],
                    elem_id='examples',
                )
                with gr.Row():
                    predict = gr.Button('Predict', elem_id='predict', min_width=80)
                    start = gr.Button('Attack', variant='primary', elem_id='attack', min_width=80)
                    stop = gr.Button('Stop', elem_id='stop', min_width=80)
                attack = gr.Dropdown(list(attacks_with_radius()), value='pgd5', label='attack')
                radius = gr.Slider(0, 16, value=8, step=1, label='radius, of 255')
                modality = gr.Radio(['both', 'ir', 'vis'], value='both', label='what it may change')
                first = gr.Dropdown(names, value=names[0], label='model')
                second = gr.Dropdown([*names, NOBODY], value=[*names, NOBODY][1], label='beside it')
                align = gr.Radio(list(ALIGNMENTS), value='refused', label='pairs of two sizes are')
            with gr.Column(scale=4, min_width=600):
                shown = [part for place in range(PLACES) for part in _place(place)]
                losses = gr.LinePlot(
                    x='pass',
                    y='loss',
                    color='model',
                    title='what the attack maximises, at each pass through the model',
                    x_axis_format='d',
                    height=240,
                    buttons=[],
                )
                strip = gr.DownloadButton('Download the strip', interactive=False, elem_id='download')

        given = [visible, infrared, align, first, second]
        common = {'outputs': [*shown, losses, strip], 'api_visibility': 'private', 'concurrency_id': 'models'}
        runs = [
            predict.click(answers.predict, given, **common),
            start.click(answers.attack, [*given, attack, radius, modality], **common),
            gr.on([visible.upload, infrared.upload], answers.upload, given, **common),
        ]
        stop.click(None, cancels=runs, api_visibility='private')

        def example(event: gr.SelectData) -> list[str | None]:
            return list(examples[event.index])

        for choice in (
            gallery.select(example, None, [visible, infrared], api_visibility='private'),
            page.load(lambda: list(examples[0]), None, [visible, infrared], api_visibility='private'),
        ):
            choice.then(answers.predict, given, **common)
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


class Answers:
    """What happens where somebody presses a button; see :func:`build_page` for the arguments."""

    def __init__(self, models: Mapping[str, PairInferencer], folder: Path, side: int):
        self.models, self.folder, self.side = models, folder, side

    def upload(self, visible, infrared, *choices) -> list:
        """A prediction, as soon as both files are there."""
        if visible and infrared:
            return self.predict(visible, infrared, *choices)
        return [gr.skip()] * (PLACES * (2 + len(PANELS)) + 2)

    def predict(self, visible, infrared, *choices) -> list:
        with mistakes_told(visible, infrared):
            pairs = self._read(visible, infrared, *choices)
            return self._values({name: show_prediction(self.models[name], data) for name, data in pairs.items()})

    def attack(self, visible, infrared, align, first, second, attack, radius, modality) -> Iterator[list]:
        with mistakes_told(visible, infrared):
            settings = attack_of(attack, radius, modality)
            pairs = self._read(visible, infrared, align, first, second)
            runs = [show_attack(self.models[name], data, settings) for name, data in pairs.items()]
            shown = {}
            try:
                for looks in zip_longest(*runs):
                    shown |= {name: look for name, look in zip(pairs, looks, strict=True) if look}
                    yield self._values(shown)
            finally:
                for run in runs:
                    run.close()
            yield self._values(shown, self._file([one.strip for one in shown.values()]))

    def _read(self, visible, infrared, align, first, second) -> dict[str, dict]:
        """The pair as each of the models takes it, by name; one that is chosen twice once."""
        if not visible:
            raise ValueError('drop a visible image first, or choose an example')
        pairs = {}
        for name in dict.fromkeys((first, second)):
            if name != NOBODY:
                pairs[name], notes = read_upload(self.models[name], visible, infrared, ALIGNMENTS[align], self.side)
        for note in notes:
            gr.Info(_without_folders(note, visible, infrared))
        return pairs

    def _values(self, shown: Mapping[str, Shown], strip: str | None = None) -> list:
        """Of all outputs."""
        values = []
        for name, one in shown.items():
            panels = [gr.Image(image, visible=True) for image in one.panels]
            heading = f'### {html.escape(name)}\n{legend(self.models[name].model.dataset_meta)}'
            values += [heading, *panels, gr.Textbox(one.told, visible=True)]
        for _ in range(PLACES - len(shown)):
            values += ['', *[gr.Image(None, visible=False)] * len(PANELS), gr.Textbox('', visible=False)]
        rows = [(i + 1, loss, name) for name, one in shown.items() for i, loss in enumerate(one.losses)]
        frame = pd.DataFrame(rows, columns=['pass', 'loss', 'model']) if rows else None
        return [*values, frame, gr.DownloadButton(value=strip, interactive=bool(strip))]

    def _file(self, strips: list[np.ndarray]) -> str:
        handle, path = mkstemp(suffix='.png', prefix='strip_', dir=self.folder)
        with open(handle, 'wb') as file:
            file.write(cv2.imencode('.png', stacked(strips))[1].tobytes())
        return path


@contextmanager
def mistakes_told(*paths: str | None) -> Iterator[None]:
    """A mistake of the visitor becomes a message, without the folders of uploads; a fault of ours goes to the log."""
    try:
        yield
    except Exception as error:
        line = explain(error)
        if line is None:
            raise
        raise gr.Error(_without_folders(line, *paths), title='', print_exception=False) from None


def _without_folders(text: str, *paths: str | None) -> str:
    for path in filter(None, paths):
        text = text.replace(f'{Path(path).parent}/', '')
    return html.escape(text, quote=False)


def legend(meta: Mapping) -> str:
    """Classes on their colours, as HTML."""
    colours = meta.get('palette') or []
    return ' '.join(
        f'<span style="background:rgb{tuple(map(int, colour))};color:{"#000" if sum(colour) > 380 else "#fff"};'
        f'padding:1px 6px;border-radius:4px">{html.escape(name)}</span>'
        for name, colour in zip(meta['classes'], colours, strict=False)
    )


def _upload(label: str, name: str) -> gr.File:
    return gr.File(label=label, file_types=['image', '.tif', '.tiff'], height=110, elem_id=f'{name}_file')


def _place(index: int) -> list:
    """The outputs of one model: a heading, four images, and words."""
    heading = gr.Markdown('')
    with gr.Row():
        images = [
            gr.Image(label=name, format='png', interactive=False, buttons=['fullscreen'], elem_id=f'{name}_{index}')
            for name in PANELS
        ]
    words = gr.Textbox('', lines=2, max_lines=12, interactive=False, show_label=False, elem_id=f'words_{index}')
    return [heading, *images, words]


def _thumbnail(visible: str, infrared: str | None) -> np.ndarray:
    """An example, small, uint8 HxWx3 (R,G,B): infrared below the diagonal of the visible image."""
    images = [cv2.imread(path) for path in (visible, infrared or visible)]
    small = [cv2.resize(image, (128, 96), interpolation=cv2.INTER_AREA) for image in images]
    below = np.add.outer(np.arange(96) / 96, np.arange(128) / 128) > 1
    return np.where(below[..., None], small[1], small[0])[..., ::-1]
