"""What works on which model family: ``python tools/compatibility.py --out docs/compatibility.md``.

Takes one config of every family that the installed mmseg, mmdet and mmpretrain ship, makes it small, puts a fusion
network in front, and tries on one synthetic pair: a training step with the fusion loss, the same after an attack, an
attacked test, and the robustness suite ``paper``. Writes a table of what works, and why the rest does not. A killed
call is continued by the same command.
"""

import argparse
import json
import multiprocessing.connection
import os
import platform
import re
import resource
import tempfile
import time
import traceback
import warnings
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import nn

import paif_mm
from paif_mm.arguments import Parser, positive, radius
from paif_mm.attacks.frozen import fingerprint
from paif_mm.checks import class_count
from paif_mm.files import append_json_lines, read_json_lines, write_bytes, write_json
from paif_mm.losses import FusionLossHook
from paif_mm.mistakes import reports_mistakes
from paif_mm.registry import HOOKS, build
from paif_mm.robustness.cases import make_suite
from paif_mm.robustness.evaluate import Bench, evaluate
from paif_mm.robustness.records import Records

LIBRARIES = ('mmseg', 'mmdet', 'mmpretrain')
STAGES = ('train', 'attacked train', 'attacked test', 'robustness')
SIZES = {
    'mmseg': (64, 128, 400),
    'mmdet': (128, 256),
    'mmpretrain': (64, 224, 256),
}  # the first at which a family trains
TRIES = 6  # configs of a family, until one trains
LARGEST = 450e6  # parameters
EPS = 8 / 255
PASSED, NOTHING = 'yes', 'not applicable'
GIGABYTE = 2**30


class NotApplicableError(Exception):
    """There is nothing to try; the message says why."""


def parse_args(args: list[str] | None = None) -> argparse.Namespace:
    parser = Parser(description='Try every model family of mmseg, mmdet and mmpretrain')
    parser.add_argument(
        '--families', nargs='+', metavar='LIBRARY[/FAMILY]', default=list(LIBRARIES), help='which (default: all)'
    )
    parser.add_argument('--out', default='docs/compatibility.md', help='the page; the JSON goes beside it')
    parser.add_argument('--jobs', type=positive, default=1, help='families at once (default: 1)')
    parser.add_argument('--limit', type=radius, default=180, help='seconds per family (default: 180)')
    parser.add_argument('--memory', type=radius, default=12, help='GiB per family (default: 12)')
    parser.add_argument('--again', action='store_true', help='try families anew that the JSON knows already')
    parser.add_argument('--log', help='file for the tracebacks of what fails')
    return parser.parse_args(args)


@reports_mistakes
def main(args: list[str] | None = None) -> None:
    args = parse_args(args)
    wanted = [family for name in args.families for family in named_families(name)]
    out = Path(args.out)
    progress = out.with_suffix('.jsonl')
    known = {}
    if out.with_suffix('.json').is_file():
        known = json.loads(out.with_suffix('.json').read_text(encoding='utf-8'))['families']
    known.update({line['family']: line for line in read_json_lines(progress)})
    if args.again:
        known = {family: line for family, line in known.items() if family not in wanted}
    todo = [family for family in wanted if family not in known]
    for library in {family.split('/')[0] for family in todo}:
        import_module(f'{library}.models')  # once, for all forks
    out.parent.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with append_json_lines(progress) as file:
        for done, line in enumerate(in_processes(todo, args.jobs, args.limit, args.memory, args.log), 1):
            known[line['family']] = line
            file.write(json.dumps(line) + '\n')
            file.flush()
            left = (time.monotonic() - start) / done * (len(todo) - done)
            print(f'{done}/{len(todo)}, {left / 60:.0f} min left: {summary(line)}', flush=True)
    write_json(out.with_suffix('.json'), {'made': made_with(), 'families': dict(sorted(known.items()))})
    write_bytes(out, page(known).encode())
    progress.unlink()
    print(f'wrote {out} and {out.with_suffix(".json")}')


# ----------------------------------------------------------------------------------------------------- families


def named_families(name: str) -> list[str]:
    """``mmdet`` or ``mmdet/dino`` to a list of families.

    Raises:
        SystemExit: there is no such library or family.
    """
    library, _, family = name.partition('/')
    if library not in LIBRARIES:
        raise SystemExit(f'--families knows the libraries {", ".join(LIBRARIES)}, not {library}')
    found = sorted(f'{library}/{f.name}' for f in configs_of(library).iterdir() if f.name != '_base_' and candidates(f))
    if family and name not in found:
        raise SystemExit(f'{library} has no family {family}; it has {", ".join(f.split("/")[1] for f in found)}')
    return [name] if family else found


def configs_of(library: str) -> Path:
    return Path(find_spec(library).submodule_search_locations[0]) / '.mim' / 'configs'


_SMALL = re.compile(
    r'(^|[-_/])(r18|r34|tiny|nano|atto|pico|mini|small|t|s|n|xs|xxs|xxt|b0|a0|m0|s0|s12|vit-s|0\.?5x?)(?=[-_.])'
)
_LARGE = re.compile(r'(^|[-_])(r101|x101|r152|large|huge|giant|base|l|x|xl|h|b[4-9])(?=[-_.])')


def candidates(folder: Path) -> list[Path]:
    """Configs of a family, those with small names first."""
    if not folder.is_dir():
        return []
    paths = [p for p in folder.rglob('*.py') if '_base_' not in p.parts and 'tta' not in p.stem.split('_')]

    def rank(path: Path):
        name = f'{path.stem}.'
        return bool(_LARGE.search(name)) - bool(_SMALL.search(name)), len(path.parts), len(name), str(path)

    return sorted(paths, key=rank)


# ---------------------------------------------------------------------------------------------------- processes


def in_processes(families: list[str], jobs: int, limit: float, memory: float, log: str | None):
    """Yields each family's result, from a process of its own that may take so many seconds and GiB."""
    context, waiting, running = multiprocessing.get_context('fork'), list(families), {}
    while waiting or running:
        while waiting and len(running) < jobs:
            family = waiting.pop(0)
            ours, theirs = context.Pipe(duplex=False)
            process = context.Process(target=_child, args=(family, memory, log, theirs), daemon=True)
            process.start()
            theirs.close()
            running[family] = (process, ours, time.monotonic())
        multiprocessing.connection.wait([pipe for _, pipe, _ in running.values()], timeout=1)
        for family, (process, pipe, start) in list(running.items()):
            seconds = time.monotonic() - start
            result = _received(pipe) if pipe.poll() else None
            if result is None and process.is_alive() and seconds < limit:
                continue
            process.kill()
            process.join()
            result = result or _received(pipe)
            del running[family]
            if result is None:
                why = f'took more than {limit:.0f} s' if seconds >= limit else 'the process was killed: memory'
                result = {'config': None, 'stages': {'train': why}}
            yield {'family': family, **result, 'seconds': round(seconds, 1)}


def _received(pipe) -> dict | None:
    result = None
    try:
        while pipe.poll():
            result = pipe.recv()
    except EOFError:
        pass
    return result


def _child(family: str, memory: float, log: str | None, pipe) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (int(memory * GIGABYTE),) * 2)
    os.environ['HF_HUB_OFFLINE'] = '1'
    torch.set_num_threads(1)
    warnings.simplefilter('ignore')
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    pipe.send(try_family(family, log))


# ------------------------------------------------------------------------------------------------------- trials


def try_family(family: str, log: str | None = None) -> dict:
    """Of the first config that trains, or else of the first one: stage -> ``'yes'``, or why not; with figures."""
    library, name = family.split('/')
    folder, found = configs_of(library) / name, []
    for path in candidates(folder):
        result = try_config(library, path, str(path.relative_to(folder)), log)
        if result['stages']['train'] == PASSED:
            return result
        if not result['stages']['train'].startswith(NOTHING):
            found.append(result)
        if len(found) == TRIES:
            break
    return found[0] if found else {**result, 'config': None}


def try_config(library: str, path: Path, name: str, log: str | None) -> dict:
    """The same of one config, at the first size of images at which it trains."""
    result, before = {'config': name, 'stages': {}, 'figures': {}}, None
    for size in SIZES[library]:
        result['size'] = size
        try:
            config = Config.fromfile(path)
            require_applicable(library, config)
            trial = Trial(library, small_model(library, config, size), size)
        except NotApplicableError as error:
            return {**result, 'stages': {'train': f'{NOTHING}: {error}'}}
        except Exception as error:
            return {**result, 'stages': {'train': _note(log, f'{library} {name} {size}', error)}}
        for stage in STAGES:
            try:
                result['figures'][stage] = getattr(trial, stage.replace(' ', '_'))()
                result['stages'][stage] = PASSED
            except NotApplicableError as error:
                result['stages'][stage] = f'{NOTHING}: {error}'
            except Exception as error:
                result['stages'][stage] = _note(log, f'{library} {name} {size} {stage}', error)
                if stage == 'train':
                    break
        if result['stages']['train'] in (PASSED, before):
            break
        before = result['stages']['train']
    return result


def _note(log: str | None, where: str, error: Exception) -> str:
    """One line of an error; all of it goes to the log."""
    if log:
        with open(log, 'a', encoding='utf-8') as file:
            file.write(f'==== {where}\n{"".join(traceback.format_exception(error))}\n')
    text = ' '.join(str(error).split())
    if operator := re.search(r'mmcv operator "(\w+)" is compiled', text):
        return f'needs the compiled operator {operator[1]}'
    return f'{type(error).__name__}: {text}'[:200]


def require_applicable(library: str, config: Config) -> None:
    """Raises NotApplicableError where a config holds no model of single labelled images."""
    model = config.get('model')
    if model is None:
        raise NotApplicableError('no model in the config')
    kind = (model.get('data_preprocessor') or config.get('data_preprocessor') or {}).get('type') or ''
    kind = kind if isinstance(kind, str) else kind.__name__
    if 'Track' in kind:
        raise NotApplicableError('a tracker: its inputs are videos')
    if 'MultiBranch' in kind:
        raise NotApplicableError('semi-supervised: its batches hold several data sets')
    if 'SelfSup' in kind or 'TwoNorm' in kind or 'VideoDataPreprocessor' in kind:
        raise NotApplicableError('pre-training without labels')
    if len((model.get('data_preprocessor') or config.get('data_preprocessor') or {}).get('mean') or 'BGR') != 3:
        raise NotApplicableError('its inputs are no images of three channels')
    if library == 'mmpretrain' and model.get('head') is None and 'backbone' in model:
        raise NotApplicableError('a backbone without a head')
    model_type = model.type if isinstance(model.type, str) else model.type.__name__
    if library == 'mmpretrain' and model_type not in ('ImageClassifier', 'TimmClassifier', 'HuggingFaceClassifier'):
        raise NotApplicableError(f'{model_type} is no classifier of labelled images')


def small_model(library: str, config: Config, size: int) -> nn.Module:
    """The model of a config behind a fusion network of 4 channels, for images of ``size`` pixels, without weights."""
    config = ConfigDict(config.to_dict())
    model = config.model
    task = model.get('data_preprocessor') or config.get('data_preprocessor') or {}
    task = ConfigDict(task)
    task.setdefault('type', {'mmpretrain': 'ClsDataPreprocessor', 'mmdet': 'DetDataPreprocessor'}.get(library))
    shrink(model, size)
    shrink(task, size)
    if 'num_queries' in model:  # of DETR and its kin
        model.num_queries = min(model.num_queries, 50)
    model.data_preprocessor = {
        'type': 'paif_mm.FusionDataPreprocessor',
        'fusion': {'type': 'FusionNet', 'channels': 4},
        'task': task,
    }
    DefaultScope.get_instance(f'{library}{time.time_ns()}', scope_name=library)
    torch.manual_seed(0)
    built = MODELS.build(model)
    parameters = sum(p.numel() for p in built.parameters())
    if parameters > LARGEST:
        raise NotApplicableError(f'too large for this test, {parameters / 1e6:.0f} M parameters')
    built.init_weights()
    for module in built.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0  # one step is all the training there is
    return built


_AT_MOST = {'num': 32, 'nms_pre': 100, 'max_per_img': 100, 'max_per_image': 100}


def shrink(node, size: int) -> None:
    """No pre-trained weights, synchronised batch norms or resizing, fewer boxes; ``size`` where an image's is asked."""
    if isinstance(node, (list, tuple)):
        for value in node:
            shrink(value, size)
    if not isinstance(node, dict):
        return
    for key, value in list(node.items()):
        if (key == 'init_cfg' and 'Pretrained' in repr(value)) or (key == 'pretrained' and isinstance(value, str)):
            node[key] = None
        elif key == 'type' and value in ('SyncBN', 'MMSyncBN'):
            node[key] = 'BN'
        elif key == 'batch_augments' and isinstance(value, (list, tuple)):
            node[key] = [v for v in value if v.get('type') != 'BatchSyncRandomResize']
        elif key in _AT_MOST and isinstance(value, int):
            node[key] = min(value, _AT_MOST[key])
        elif key == 'norm_eval':
            node[key] = False  # there are no pre-trained statistics
        elif key == 'frozen_stages':
            node[key] = 0 if node.get('type') == 'EfficientNet' else -1  # the least that each knows
        elif key == 'img_size':
            node[key] = size if isinstance(value, int) else (size, size)
        elif key == 'size' and isinstance(value, (list, tuple)) and min(value) >= size:
            node[key] = (size, size)
        elif key == 'test_cfg' and isinstance(value, dict) and value.get('mode') == 'slide':
            node[key] = {**value, 'crop_size': (size, size), 'stride': (size // 2, size // 2)}
        shrink(node[key], size)


class Trial:
    """The stages of one model; each returns figures, or raises."""

    def __init__(self, library: str, model: nn.Module, size: int):
        self.library, self.model, self.size = library, model, size
        self.data = {'mmseg': SegmentationData, 'mmdet': DetectionData, 'mmpretrain': ClassData}[library](model, size)
        self.optim = OptimWrapper(torch.optim.SGD(model.parameters(), 1e-3), clip_grad={'max_norm': 1.0})
        messages = MessageHub.get_current_instance()
        for name in ('iter', 'epoch', 'max_iters', 'max_epochs'):  # as a Runner does
            messages.update_info(name, 1)
        attack = {'type': 'PGD', 'eps': EPS, 'step_size': 0.5 / 255, 'steps': 2, 'random_start': False, 'keep': 'last'}
        self.hook = build(HOOKS, {'type': 'AdversarialAttackHook', 'attack': attack, 'phases': ('train',)})
        self.runner = SimpleNamespace(model=model, iter=1)
        FusionLossHook().before_train(self.runner)

    def train(self) -> dict:
        """A training step of two images moves the fusion network by both losses."""
        return self._step(self.data.train_batch())

    def attacked_train(self) -> dict:
        """The same where one of the two images is attacked."""
        batch = self.data.train_batch()
        self.model.train()
        with leaves_no_trace(self.model):
            self.hook.before_train_iter(self.runner, 0, batch)
        require_finite(self.hook.blind)
        change = max(self._changes(batch))
        require_attacked(change)
        return {'max_delta_255': change * 255, **self._step(batch)}

    def attacked_test(self) -> dict:
        """An image is attacked by the model's own loss, and predicted."""
        batch = self.data.test_batch()
        self.model.eval()
        with leaves_no_trace(self.model):
            result = self.hook.attack(self.model, batch)
            require_finite(0 if result.blind is None else result.blind.sum())
            before, after = (
                self.hook.attack.losses(self.model, images, result, batch).item()
                for images in (result.clean, result.images)
            )
        batch.update(inputs=result.images, clean_inputs=result.clean)
        (change,) = self._changes(batch)
        require_attacked(change)
        if not _finite(after):
            raise ArithmeticError(f'the loss is not finite: {before} -> {after}')
        if not self._predicted(batch):
            raise ValueError('no prediction')
        return {'max_delta_255': change * 255, 'loss_before': before, 'loss_after': after}

    def robustness(self) -> dict:
        """The suite ``paper`` on one image gives figures."""
        if self.library == 'mmpretrain':
            raise NotApplicableError('no score of classes')
        predicted = self._predicted(self.data.test_batch())
        if not {'pred_instances', 'pred_sem_seg'} & set(predicted):
            raise NotApplicableError(f'no score of {", ".join(predicted)}')
        try:
            class_count(self.model)
        except TypeError as error:  # SOLO: masks without boxes
            raise NotApplicableError(str(error)) from error
        bench = Bench(self.model, self.data, [0])
        cases = make_suite('paper', bench.score.name, (4 / 255,))
        with tempfile.TemporaryDirectory() as folder:
            records = Records(folder, None)
            evaluate(bench, cases, records, progress=False)
            records.close()
            return {case.key: records.of(case.key, list(bench.names.values()))[0]['loss'] for case in cases}

    def _step(self, batch: dict) -> dict:
        self.model.train()
        before = [p.detach().clone() for p in self.model.data_preprocessor.fusion.parameters()]
        losses = self.model.train_step(batch, self.optim)
        losses = {name: float(value) for name, value in losses.items() if 'loss' in name and value.numel() == 1}
        if not all(map(_finite, losses.values())):
            raise ArithmeticError(f'a loss is not finite: {losses}')
        if 'loss_fusion' not in losses:
            raise ArithmeticError('the fusion loss is missing')
        after = self.model.data_preprocessor.fusion.parameters()
        if all(torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            raise ArithmeticError('the fusion network did not move')
        return {'loss': losses['loss']}

    @torch.no_grad()
    def _predicted(self, batch: dict) -> list[str]:
        self.model.eval()
        (sample,) = self.model.test_step(batch)
        return [key for key in sample.keys() if key.startswith('pred')]  # noqa: SIM118 (not a dict)

    def _changes(self, batch: dict) -> list[float]:
        return [
            float((image.float() - clean.float()).abs().max()) / 255
            for image, clean in zip(batch['inputs'], batch['clean_inputs'], strict=True)
        ]


class leaves_no_trace:  # noqa: N801 (a context manager)
    """Raises ArithmeticError where a model's parameters, buffers or modes come out changed."""

    def __init__(self, model: nn.Module):
        self.model = model

    def __enter__(self):
        self.before = fingerprint(self.model)

    def __exit__(self, kind, *_):
        if kind is None and fingerprint(self.model) != self.before:
            raise ArithmeticError('the attack changed the model')


def require_attacked(change: float) -> None:
    """Raises ArithmeticError unless the largest change of an image is within the ball and not 0."""
    if not 0 < change <= EPS + 1e-6:
        raise ArithmeticError(
            f'the attack changed the image by {change * 255:.3f}/255, its radius is {EPS * 255:.0f}/255'
        )


def require_finite(blind) -> None:
    """Raises ArithmeticError where images were attacked by gradients that are not finite."""
    if int(blind):
        raise ArithmeticError('the gradient of its loss towards the image is not finite')


def _finite(value: float) -> bool:
    return abs(value) < float('inf')


# --------------------------------------------------------------------------------------------------------- data


class SyntheticData:
    """Two pairs with annotations, as a data set, and as batches."""

    metainfo = {'classes': None}

    def __init__(self, model: nn.Module, size: int):
        self.model, self.size = model, size
        generator = torch.Generator().manual_seed(0)
        coarse = torch.rand(2, 4, 8, 8, generator=generator) * 255
        self.images = nn.functional.interpolate(coarse, (size, size), mode='bilinear').round().to(torch.uint8)

    def __getitem__(self, index: int) -> dict:
        """A test image; of a detector whose preprocessor pads, no multiple of a stride."""
        return self._item(index, self.test_shape)

    def get_data_info(self, index: int) -> dict:
        return {'img_path': f'{index}.png'}

    def train_batch(self) -> dict:
        items = [self._item(i, (self.size, self.size)) for i in range(2)]
        return {key: [item[key] for item in items] for key in items[0]}

    def test_batch(self) -> dict:
        return {key: [value] for key, value in self[0].items()}

    @property
    def test_shape(self) -> tuple[int, int]:
        return (self.size, self.size)

    def _item(self, index: int, shape: tuple[int, int]) -> dict:
        sample = self._sample(index, *shape)
        shapes = dict.fromkeys(('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape'), shape)
        border = (0, shape[0], 0, shape[1])
        sample.set_metainfo({**shapes, 'scale_factor': (1.0, 1.0), 'border': border, 'flip': False})
        sample.set_metainfo({'img_id': index, 'img_path': f'{index}.png'})
        return {'inputs': self.images[index, :, : shape[0], : shape[1]].clone(), 'data_samples': sample}


class SegmentationData(SyntheticData):
    """For mmseg: labels, edges and depths."""

    def _sample(self, index: int, height: int, width: int):
        from mmseg.structures import SegDataSample

        head = self.model.decode_head
        classes = getattr(head[-1] if isinstance(head, nn.ModuleList) else head, 'num_classes', None) or 2
        label = torch.zeros(1, height, width, dtype=torch.int64)
        label[:, : height // 2, width // 2 :] = min(1, classes - 1)
        label[:, height // 2 :, : width // 2] = min(2, classes - 1)
        edge = torch.zeros_like(label)
        edge[:, height // 2 - 1 : height // 2 + 1] = 1
        return SegDataSample(
            gt_sem_seg=PixelData(data=label),
            gt_edge_map=PixelData(data=edge),
            gt_depth_map=PixelData(data=1 + label.float()),
        )


class DetectionData(SyntheticData):
    """For mmdet: two boxes with masks, stuff, and proposals."""

    def _sample(self, index: int, height: int, width: int):
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks

        boxes = torch.tensor([[0.1, 0.15, 0.55, 0.7], [0.4, 0.3, 0.95, 0.9]]) * torch.tensor([width, height] * 2)
        masks = torch.zeros(2, height, width, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        masks = BitmapMasks(masks.numpy(), height, width)
        truth = InstanceData(bboxes=boxes, labels=torch.tensor([0, 0]), masks=masks)
        ignored = InstanceData(bboxes=boxes[:0], labels=truth.labels[:0])
        proposals = InstanceData(bboxes=torch.cat([boxes + 2, boxes * 0.8]), scores=torch.full((4,), 0.9))
        sample = DetDataSample(gt_instances=truth, ignored_instances=ignored)
        if not getattr(self.model, 'with_rpn', True):  # Fast R-CNN: they come with the data
            sample.proposals = proposals
        if self._segments():
            stuff = torch.full((1, height, width), 255, dtype=torch.int64)
            stuff[:, : height // 4] = self._first_stuff()
            sample.gt_sem_seg = PixelData(sem_seg=stuff)
        return sample

    def _segments(self) -> bool:
        """Whether the model segments semantically, too."""
        return any(name.endswith(('semantic_head', 'panoptic_head')) for name, _ in self.model.named_modules())

    def _first_stuff(self) -> int:
        """The first class of stuff; 0 for models without panoptic output."""
        return getattr(getattr(self.model, 'panoptic_head', None), 'num_things_classes', 0)

    @property
    def test_shape(self) -> tuple[int, int]:
        preprocessor = self.model.data_preprocessor
        divisor = getattr(getattr(preprocessor, 'task', preprocessor), 'pad_size_divisor', 1)
        return (self.size - 6, self.size - 13) if divisor > 1 else (self.size, self.size)  # padded by its own pipeline


class ClassData(SyntheticData):
    """For mmpretrain: one class, or several."""

    def _sample(self, index: int, height: int, width: int):
        from mmpretrain.structures import DataSample

        head = self.model.head
        if 'MultiLabel' in type(head).__name__ or 'CSRA' in type(head).__name__:
            classes = (
                getattr(head, 'num_classes', None) or [m for m in head.modules() if hasattr(m, 'out_channels')][-1]
            )
            return DataSample(metainfo={'num_classes': getattr(classes, 'out_channels', classes)}).set_gt_label([0, 1])
        return DataSample().set_gt_label(index)


# --------------------------------------------------------------------------------------------------------- page


def summary(line: dict) -> str:
    stages = ', '.join(f'{name} {line["stages"][name]}' for name in STAGES if name in line['stages'])
    return f'{line["family"]} ({line["config"]}, {line["seconds"]:.0f} s): {stages}'


def made_with() -> dict:
    packages = ('torch', 'torchvision', 'mmengine', 'mmcv', *LIBRARIES)
    return {
        'paif_mm': paif_mm.__version__,
        **{name: import_module(name).__version__ for name in packages},
        'compiled operators': paif_mm.compat.has_compiled_ops(),
        'machine': f'{platform.machine()}, {"CUDA" if torch.cuda.is_available() else "CPU"}',
    }


def page(results: dict[str, dict]) -> str:
    """The results in Markdown."""
    made = ', '.join(f'{name} {value}' for name, value in made_with().items())
    lines = [
        '# Which model families work',
        '',
        f'Made by `python tools/compatibility.py` with {made}.',
        'One config of every family that the installed libraries ship (the first that trains, small ones first),',
        'without pre-trained weights, on synthetic pairs of the size given, behind a `FusionNet` of 4 channels:',
        '',
        '* **train**: `train_step` on two images with `FusionLossHook`; losses are finite, the fusion network moves.',
        '* **attacked train**: the same after `AdversarialAttackHook` attacked one of them (PGD, eps '
        f'{EPS * 255:.0f}/255, two short',
        '  steps, no random start): the image has changed within its ball; parameters, buffers and modes have not.',
        '* **attacked test**: the same attack on a test sample, of detectors that pad one whose sides are no multiple',
        '  of a stride; `test_step` predicts.',
        '* **robustness**: the suite `paper` at 4/255 on that image; classes have no score there.',
        '',
        'It says what works, not how well: weights are random. Figures are in the JSON file beside this page.',
        '',
        '| | tried | not applicable | train | attacked train | attacked test | robustness |',
        '|---|---|---|---|---|---|---|',
    ]
    for library in LIBRARIES:
        mine = [line for family, line in results.items() if family.startswith(f'{library}/')]
        applicable = [line for line in mine if not line['stages']['train'].startswith(NOTHING)]
        counts = [sum(line['stages'].get(stage) == PASSED for line in applicable) for stage in STAGES]
        lines.append(_row(library, len(mine), len(mine) - len(applicable), *counts))
    shipped = sum(len(named_families(library)) for library in LIBRARIES)
    if len(results) < shipped:
        lines += ['', f'{shipped - len(results)} of {shipped} families are not tried yet: the same command goes on.']
    attacked = [line.get('figures', {}).get('attacked test') for line in results.values()]
    rises = [figures['loss_after'] > figures['loss_before'] for figures in attacked if figures]
    lines += ['', f'Two short steps raised the loss of the test image in {sum(rises)} of {len(rises)} families.']
    for library in LIBRARIES:
        lines += ['', f'## {library}', '', _row('family', 'config', 'image', *STAGES), '|---' * 7 + '|']
        for family, line in sorted(results.items()):
            if family.startswith(f'{library}/'):
                cells = [_cell(line['stages'].get(stage, '')) for stage in STAGES]
                config = f'`{line["config"]}`' if line['config'] else ''
                lines.append(_row(family.partition('/')[2], config, line.get('size', ''), *cells))
    return '\n'.join(lines) + '\n'


def _row(*cells) -> str:
    return f'| {" | ".join(map(str, cells))} |'


def _cell(text: str) -> str:
    return text.replace('|', '\\|').replace('<', '&lt;')


if __name__ == '__main__':
    main()
