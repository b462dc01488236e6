"""What ``paif demo`` does: it serves the page."""

import argparse
import os
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

from paif_mm import zoo
from paif_mm.arguments import Parser, positive
from paif_mm.engine.launch import model_files
from paif_mm.mistakes import reports_mistakes

from .inferencer import PairInferencer
from .playing import own_examples, synthetic_examples


@reports_mistakes
def demo(words: list[str] | None = None) -> int:
    """Serve until it is interrupted."""
    parser = Parser(
        prog='paif demo',
        description='Serve a page on which pairs are predicted and attacked, on this machine alone. Without --model: '
        'the models of the package.',
        epilog='examples:\n  paif demo --visible images/rgb --infrared images/thermal\n'
        '  paif demo --model plain.py plain.pth --model robust.py robust.pth',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--model',
        nargs='+',
        action='append',
        metavar=('CONFIG', 'CHECKPOINT'),
        help='or paif_mm://NAME; several: give it again',
    )
    parser.add_argument('--visible', help='image or folder of further examples')
    parser.add_argument('--infrared', help='its partner; without it, images are RGBA with infrared as fourth channel')
    parser.add_argument('--side', type=positive, default=640, help='longer pairs are shrunk to it (default: 640)')
    parser.add_argument('--device', help='cpu, cuda:0, ... (default: the GPU if there is one)')
    parser.add_argument('--host', default='127.0.0.1', help='address to listen at (default: this machine alone)')
    parser.add_argument('--port', type=positive, help='default: the first free one from 7860')
    args = parser.parse_args(words)
    if find_spec('gradio') is None:
        raise SystemExit('paif demo needs gradio: pip install "paif_mm[demo]", or gradio>=6')
    models = {}
    for given in args.model or [[f'{zoo.SCHEME}{name}'] for name in shipped()]:
        if len(given) > 2:
            raise SystemExit(f'--model takes a config and a checkpoint, not {" ".join(given)}')
        models[_name(given, models)] = PairInferencer(*model_files(*given), args.device, show_progress=False)
    with TemporaryDirectory(prefix='paif_demo_') as folder:
        sent = Path(folder) / 'sent'  # uploads and results, which Gradio deletes in time; examples stay
        sent.mkdir()
        os.environ.update(GRADIO_TEMP_DIR=str(sent), GRADIO_ANALYTICS_ENABLED='False')
        from .page import LARGEST, THEME, build_page

        examples = synthetic_examples(Path(folder) / 'synthetic')
        if args.visible:
            examples += own_examples(Path(folder) / 'own', args.visible, args.infrared)
        page = build_page(models, examples, sent, args.side)
        try:
            _, address, _ = page.launch(
                server_name=args.host,
                server_port=args.port,
                theme=THEME,
                max_file_size=LARGEST,
                share=False,
                ssr_mode=False,
                footer_links=[],
                quiet=True,
                prevent_thread_lock=True,
            )
        except OSError as error:  # gradio's own, without a word of the system
            raise SystemExit(f'--host {args.host}, --port {args.port}: {error}') from None
        print(f'the page is at {address} until Ctrl-C', flush=True)
        page.block_thread()
    return 0


def shipped() -> list[str]:
    """The whole models of the package by their names, those of the synthetic examples first."""
    names = [model.name for model in zoo.models().values() if model.config]
    return sorted(names, key=lambda name: not name.endswith('_synthetic'))


def _name(given: list[str], known) -> str:
    """What a model is called on the page."""
    name = given[0].removeprefix(zoo.SCHEME) if given[0].startswith(zoo.SCHEME) else Path(given[0]).stem
    return name if name not in known else f'{name} ({len(known) + 1})'
