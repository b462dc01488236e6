"""Put a trained model into the zoo: ``python tools/publish_model.py CONFIG CHECKPOINT --name NAME --title TITLE``.

Tests the model with weights in single and in half precision, keeps the latter where no figure changes by more than .1,
and writes weights and metafile into ``paif_mm/zoo``; ``--figures`` adds those of ``tools/test.py`` under attack
(``results.json``) and of ``tools/robustness.py`` (``report.json``). With ``--part data_preprocessor.fusion`` only the
weights below that name are kept: a fusion network by itself, whose figures are those of the whole model.
"""

import copy
import json
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import mmengine
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from torch import Tensor

from paif_mm import zoo
from paif_mm.apis import FusionInferencer, PairInferencer
from paif_mm.arguments import Parser
from paif_mm.compat import load_checkpoint_file
from paif_mm.data.synthetic import render_scene
from paif_mm.engine.launch import inner_datasets, model_files, read_config
from paif_mm.engine.runner import QuietRunner
from paif_mm.files import file_hash, writing
from paif_mm.mistakes import reports_mistakes
from paif_mm.robustness.evaluate import evenly
from paif_mm.weights import load_weights, state_of

LARGEST_CHANGE = 0.1  # of a figure by half precision
LARGEST_ZOO = 16e6  # bytes of all weights
HANDFUL = 8  # pairs of the test set, on which a test of the zoo repeats the figures


def parse_args(args: list[str] | None = None):
    parser = Parser(description='Put a trained model into the zoo')
    parser.add_model()
    parser.add_argument('--name', required=True, help='what it is called: paif_mm://NAME')
    parser.add_argument('--title', required=True, help='what it is, in a sentence')
    parser.add_argument('--data', required=True, help='what it was trained on, in words')
    parser.add_argument('--licence', required=True, help='what that data allow')
    parser.add_argument('--part', default='', help='keep only weights below this name, e.g. data_preprocessor.fusion')
    parser.add_argument('--figures', nargs='+', default=[], help='results.json and report.json of this checkpoint')
    parser.add_argument('--out', default=str(zoo.FOLDER), help='folder of the zoo (default: that of the package)')
    parser.add_config_options()
    return parser.parse_args(args)


@reports_mistakes
def main() -> None:
    args = parse_args()
    args.config, args.checkpoint = model_files(args.config, args.checkpoint)
    config = read_config(args.config, args.cfg_options)
    path = Path(args.config).resolve()
    if not path.is_relative_to(zoo.ROOT / 'configs'):
        raise SystemExit(f'{args.config} does not ship with the package: put it into {zoo.ROOT / "configs"}')
    config_path = path.relative_to(zoo.ROOT).as_posix()
    checkpoint = load_checkpoint_file(args.checkpoint, 'cpu')
    state = {name: value.contiguous() for name, value in state_of(checkpoint, args.checkpoint).items()}
    single, half = tested(config, [state, halved(state)])
    change = max(abs(single[name] - half[name]) for name in single)
    keep = change <= LARGEST_CHANGE
    figures, state = (half, halved(state)) if keep else (single, state)
    print(f'half precision changes a figure by at most {change:.3f}: {"kept" if keep else "not kept"}')

    (few,) = tested(config, [state], HANDFUL)
    state = part_of(state, args.part)
    meta = {key: checkpoint['meta'][key] for key in ('dataset_meta',) if key in checkpoint.get('meta', {})}
    out = Path(args.out)
    weights = out / f'{args.name}.pth'
    with writing(weights) as file:
        torch.save({'state_dict': state, 'meta': meta}, file)
    facts = {
        'Name': args.name,
        'In Collection': 'PAIF',
        **({} if args.part else {'Config': config_path}),
        'Metadata': {
            'Title': args.title,
            'Part of': f'{config_path}, {args.part}' if args.part else None,
            'Training Data': args.data,
            'Licence of the data': args.licence,
            'Iterations': checkpoint.get('meta', {}).get('iter'),
            'Seed': config.get('randomness', {}).get('seed'),
            'Commit': commit(),
            'Parameters (M)': round(sum(value.numel() for value in state.values()) / 1e6, 3),
            'Precision': 'fp16' if keep else 'fp32',
            'SHA256': file_hash(weights),
        },
        'Results': [
            {
                'Task': 'Object Detection' if 'bbox_head' in config.model else 'Semantic Segmentation',
                'Dataset': ', '.join(one.type for one in inner_datasets(config.test_dataloader.dataset)),
                'Metrics': {**figures, **further(args.figures)},
            }
        ],
        'Checks': {'Eight pairs of the test set': few, 'A made-up pair': answer(config, str(weights), args.part)},
        'Weights': f'{zoo.SCHEME}{args.name}',
    }
    facts['Metadata'] = {key: value for key, value in facts['Metadata'].items() if value is not None}
    add_to_index(out, args.name, facts)
    total = sum(path.stat().st_size for path in out.glob('*.pth'))
    print(f'{weights}: {weights.stat().st_size / 1e6:.2f} MB; all models {total / 1e6:.2f} MB')
    if total > LARGEST_ZOO:
        raise SystemExit(f'the zoo holds {total / 1e6:.1f} MB, more than {LARGEST_ZOO / 1e6:.0f}: take a model out')


def halved(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights in half precision; counters stay what they are."""
    return {name: value.half() if value.dtype == torch.float32 else value for name, value in state.items()}


def tested(config: Config, states: list[dict[str, Tensor]], limit: int | None = None) -> list[dict[str, float]]:
    """Figures of the config's test with each of several weights, but for those of single classes.

    ``limit``: on so many pairs, evenly spaced. Default: on all.
    """
    with TemporaryDirectory() as folder:
        config = copy.deepcopy(config)
        if limit:
            init_default_scope(config.default_scope)
            count = len(DATASETS.build(config.test_dataloader.dataset))
            config.test_dataloader.dataset.indices = evenly(count, limit)
        config.update(work_dir=folder, launcher='none', load_from=None, resume=False)
        config.visualizer.vis_backends = []  # one visualizer serves all runners, and would write where the first did
        runner = QuietRunner.from_cfg(config)
        found = []
        for state in states:
            load_weights(runner.model, state, 'the checkpoint')
            metrics = runner.test()
            found.append({name: round(float(value), 2) for name, value in metrics.items() if counts(name)})
    return found


def answer(config: Config, weights: str, part: str = '') -> dict[str, list[float]]:
    """A model on a made-up pair: mean and spread of the fused image; mean probabilities or best scores in percent."""
    scene, _, _ = render_scene(np.random.default_rng(0), (240, 320), night=False)
    pair = np.ascontiguousarray(scene[..., :3]), np.ascontiguousarray(scene[..., 3])
    if part:
        fuser = FusionInferencer(config.model.data_preprocessor.fusion, weights, 'cpu')
        (image,) = fuser(pair, colour=False)['fused']
        return {'fused': rounded(image.mean(), image.std())}
    found = PairInferencer(config, weights, 'cpu', show_progress=False)(pair, return_datasamples=True)
    (sample,), (image,) = found['predictions'], found['fused']
    if 'seg_logits' in sample:
        says = sample.seg_logits.data.softmax(0).mean((1, 2))
    else:
        says = sample.pred_instances.scores[:5]
    return {'fused': rounded(image.mean(), image.std()), 'predicted': rounded(*100 * says)}


def rounded(*values: float) -> list[float]:
    return [round(float(value), 2) for value in values]


def counts(figure: str) -> bool:
    """Whether a figure stands for the whole: 'mIoU' or 'coco/bbox_mAP', not 'IoU/car'."""
    return '/' not in figure or 'bbox' in figure


def part_of(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights below a name, without it.

    Raises:
        SystemExit: there are none.
    """
    start = f'{prefix}.' if prefix else ''
    found = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    if not found:
        raise SystemExit(f'--part {prefix}: no weight is called {prefix}...')
    return found


def further(paths: list[str]) -> dict[str, float]:
    """Figures under attack: 'mIoU, pgd5_eps4' of a results.json, 'mIoU, worst case at 4/255' of a report.json."""
    found = {}
    for path in paths:
        content = json.loads(Path(path).read_text(encoding='utf-8'))
        for name, row in content.get('results', {}).items():  # of tools/test.py
            if name != 'clean':
                found |= {
                    f'{metric}, {name}': round(value, 2) for metric, value in row['metrics'].items() if counts(metric)
                }
        for row in content.get('rows', []):
            if row['kind'] == 'worst':
                found[f'{content["score"]}, {row["key"]}'] = round(row['figures']['all'][content['score']]['value'], 2)
    return found


def commit() -> str | None:
    told = subprocess.run(['git', 'rev-parse', 'HEAD'], cwd=zoo.ROOT, capture_output=True, text=True)
    return told.stdout.strip() or None


def add_to_index(out: Path, name: str, facts: dict) -> None:
    """Write a model's metafile, and its line in the index unless it is there."""
    mmengine.dump({'Models': [facts]}, out / f'{name}.yml', sort_keys=False, allow_unicode=True)
    index = out / 'model-index.yml'
    metafiles = mmengine.load(index)['Import'] if index.is_file() else []
    if f'{name}.yml' not in metafiles:
        mmengine.dump({'Import': [*metafiles, f'{name}.yml']}, index, sort_keys=False)


if __name__ == '__main__':
    main()
