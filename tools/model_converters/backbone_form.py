"""A trained model's weights, renamed for its form with a FusionBackbone: ``python .../backbone_form.py SRC DST``.

For export, FLOPs counting and whatever else calls a model without its preprocessor.
"""

from pathlib import Path

import torch

import paif_mm  # noqa: F401 (before any OpenMMLab model library)
from paif_mm.arguments import Parser, output_folder
from paif_mm.compat import load_checkpoint_file
from paif_mm.mistakes import reports_mistakes
from paif_mm.perception import to_backbone_form
from paif_mm.weights import state_of


@reports_mistakes
def main() -> None:
    parser = Parser(description='Rename the weights of a preprocessor form to those of a backbone form')
    parser.add_argument('src', help='checkpoint of a model with a FusionDataPreprocessor')
    parser.add_argument('dst', help='checkpoint to write')
    args = parser.parse_args()
    output_folder(Path(args.dst).parent, 'DST')
    state = to_backbone_form(state_of(load_checkpoint_file(args.src, map_location='cpu'), args.src))
    torch.save({'state_dict': state}, args.dst)
    print(f'{len(state)} tensors written to {args.dst}')


if __name__ == '__main__':
    main()
