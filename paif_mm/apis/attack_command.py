"""What ``paif attack`` does: an attacked pair as files, a strip of it, and numbers."""

import sys

from paif_mm.arguments import linf_radius, output_folder, seed
from paif_mm.engine.launch import model_files, read_attack
from paif_mm.mistakes import reports_mistakes

from .attacking import attack_pairs, with_radius
from .command import inputs_of, parser_of, range_of
from .inferencer import PairInferencer


@reports_mistakes
def attack(words: list[str] | None = None) -> int:
    """Exit code 1 where a pair could not be read; the others are attacked all the same."""
    parser = parser_of(
        'attack',
        'Attack pairs without labels: away from what the model says of them untouched. Writes OUT/NAME.png (RGBA: the '
        'visible image, infrared as fourth channel) and OUT/strip/NAME.png, and prints what changed.',
        '--attack pgd40x3_eps4',
    )
    named = "name of configs/_base_/attacks, or a config (default: pgd5_eps8, the paper's)"
    parser.add_argument('--attack', default='pgd5_eps8', help=named)
    parser.add_argument('--eps', type=linf_radius, help='radius in its place, e.g. 4/255; steps grow with it')
    parser.add_argument('--modality', choices=['both', 'ir', 'vis'], help='what it may change, by --eps')
    parser.add_argument('--seed', type=seed, default=0, help='of its random start (default: 0)')
    args = parser.parse_args(words)
    settings = read_attack(args.attack)
    if args.eps is not None:
        settings = with_radius(settings, args.eps, args.modality or 'both')
    elif args.modality:
        raise SystemExit('--modality needs --eps, the radius of what is attacked')
    inferencer = PairInferencer(*model_files(args.config, args.checkpoint), args.device, show_progress=False)
    output_folder(args.out, '--out')
    inputs, range_ = inputs_of(args.visible, args.infrared), range_of(args.ir_range)
    for made in attack_pairs(inferencer, inputs, settings, args.seed, range_, args.align, args.out):
        print(f'{made.name}: {made.effect}\n  {made.audit}')
    print(f'attacked pairs and strips are in {args.out}')
    if inferencer.failures:
        print(f'{len(inferencer.failures)} left out:', *inferencer.failures, sep='\n  ', file=sys.stderr)
    return int(bool(inferencer.failures))
