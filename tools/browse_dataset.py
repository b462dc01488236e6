"""Look at a data set: ``python tools/browse_dataset.py CONFIG [--output-dir DIR]`` writes a strip per pair.

A strip shows infrared | visible | labels over the visible image, or boxes on it | the classes' colours.
"""

import argparse

import cv2
import numpy as np
from mmengine.fileio import join_path, put
from mmengine.registry import DATASETS, init_default_scope
from mmengine.utils import track_iter_progress

import paif_mm  # noqa: F401
from paif_mm.arguments import Parser, output_folder, positive
from paif_mm.engine.launch import inner_datasets, needed, read_config
from paif_mm.engine.names import names_of
from paif_mm.engine.strips import draw_legend, draw_strip, modality_panels, paint_boxes, paint_labels
from paif_mm.mistakes import reports_mistakes


def parse_args() -> argparse.Namespace:
    parser = Parser(description='Draw the pairs and labels of a data set')
    parser.add_argument('config', help='config file with the dataloaders')
    parser.add_argument('--output-dir', default='work_dirs/browse', help='folder for the strips')
    parser.add_argument('--phase', choices=['train', 'val', 'test'], default='train')
    parser.add_argument('--mode', choices=['original', 'transformed'], default='original', help='augmented or not')
    parser.add_argument('--show-number', type=positive, help='how many pairs (default: all)')
    parser.add_config_options()
    return parser.parse_args()


@reports_mistakes
def main() -> None:
    args = parse_args()
    config = read_config(args.config, args.cfg_options)
    output_folder(args.output_dir, '--output-dir')
    init_default_scope(config.get('default_scope', 'mmseg'))
    dataset = build_dataset(needed(config, f'{args.phase}_dataloader', '--phase').dataset, args.mode)
    count = min(args.show_number or len(dataset), len(dataset))
    names = names_of(dataset)
    for i in track_iter_progress(range(count)):
        results = dataset[i]
        picture = draw_item(results, dataset.metainfo)
        name = names[results['img_path']]
        put(cv2.imencode('.png', picture)[1].tobytes(), join_path(args.output_dir, f'{name}.png'))
    print(f'\n{count} strips written to {args.output_dir}')


def build_dataset(config, mode: str):
    """The data set with a pipeline that ends before packing, or after loading for the original images."""
    for dataset in inner_datasets(config):
        is_loading = [step.type.split('.')[-1].startswith('Load') for step in dataset.pipeline]
        is_packing = [step.type.split('.')[-1].startswith('Pack') for step in dataset.pipeline]
        keep = is_loading if mode == 'original' else [not packing for packing in is_packing]
        dataset.pipeline = [step for step, kept in zip(dataset.pipeline, keep, strict=True) if kept]
    return DATASETS.build(config)


def draw_item(results: dict, meta: dict) -> np.ndarray:
    panels = modality_panels(results['img'])
    visible, labels, boxes = panels[-1][1], results.get('gt_seg_map'), results.get('gt_bboxes')
    if labels is not None:
        colours = paint_labels(labels, meta['palette'])
        shown = ((labels > 0) & (labels < len(meta['classes'])))[..., None]
        panels.append(('labels', np.where(shown, 0.4 * visible + 0.6 * colours, visible)))
    if boxes is not None:
        boxes = np.asarray(getattr(boxes, 'tensor', boxes))
        classes = results['gt_bboxes_labels']
        panels.append(('boxes', paint_boxes(visible, boxes, classes, meta['palette'], meta['classes'])))
    strip = draw_strip(panels)
    if labels is None and boxes is None:
        return strip
    return np.concatenate([strip, draw_legend(meta['classes'], meta['palette'], len(strip))], axis=1)


if __name__ == '__main__':
    main()
