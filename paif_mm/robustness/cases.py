"""What a model is tested against: cases, and the suites that put them together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch

from paif_mm.attacks import PGD
from paif_mm.attacks.adaptive import adapted
from paif_mm.attacks.transfer import open_bank, takes_plain_images
from paif_mm.corruptions import COMMON, CORRUPTIONS, OFF, SEVERITIES, TIME_OFFSET
from paif_mm.data.colour import VISIBLE
from paif_mm.registry import ATTACKS, build

from .balls import Ball

SUITES = ('paper', 'strong', 'full', 'trouble')
THREATS = ('both', 'ir', 'vis', 'split')
#: Shares of one budget that infrared gets in the threat 'split'; visible gets the rest.
SPLITS = (0.0, 0.25, 0.5, 0.75, 1.0)
STEPS = {'paper': 100, 'strong': 100, 'full': 300, 'trouble': 100}
DEFAULT_EPS = {'mIoU': (4 / 255, 8 / 255), 'AP50': (1 / 255, 4 / 255)}  # the paper's, by the score that is tested
CORRUPTION, TRANSFER, QUERY, MINIMUM = 'corruption', 'transfer', 'query', 'minimum'
#: Of attacks that do not follow the model's gradients within a radius.
KINDS = {'Corruption': CORRUPTION, 'Square': QUERY, **dict.fromkeys(('ALMAProx', 'PDPGD', 'DAG'), MINIMUM)}
KINDS |= dict.fromkeys(('TransferAttack', 'BankAttack', 'PatchAttack', 'UniversalPerturbation'), TRANSFER)
#: Attacks of the ensemble of SEA (Croce et al., ECCV 2024) and their losses of pixels.
SEA = {'apgd_js': 'jensen_shannon', 'apgd_mce': 'masked_cross_entropy', 'apgd_bmce': 'balanced_cross_entropy'}
#: What detectors of mmdet call their losses of classes and of boxes.
TERMS = {'cls': ('*cls*', '*heatmap*'), 'box': ('*bbox*', '*wh*', '*xy*', '*offset*')}


@dataclass(frozen=True)
class Case:
    """One column of a report.

    Attributes:
        name (str): of the attack, e.g. ``pgd5``.
        attack (dict | None): its config; None for clean images.
        eps (float | None): nominal radius in [0, 1] units.
        threat (str): what may be changed: ``both``, ``ir``, ``vis``, or shares of the budget as ``ir25+vis75``.
        norm (str): ``linf`` or ``l2``.
        kind (str): ``gradient`` (through the model), ``query``, ``transfer`` (found elsewhere), ``fusion`` (gradients
            of the fusion loss only), ``corruption`` or ``minimum`` (the least norm, whatever it is).
        passes (float): what it costs per image, in forward and backward passes.
        further (bool): it is no part of the suite, but was given beside it.
    """

    name: str
    attack: dict | None = None
    eps: float | None = None
    threat: str = 'both'
    norm: str = 'linf'
    kind: str = 'gradient'
    passes: float = 1.0
    further: bool = False

    @property
    def key(self) -> str:
        """Unique among the cases of a report, and fit for a folder's name."""
        parts = [self.name]
        if self.eps is not None:
            parts.append(f'{"l2_" if self.norm == "l2" else ""}{_radius(self.eps, self.norm)}')
        return '-'.join(parts if self.threat == 'both' else [*parts, self.threat])

    @property
    def group(self) -> tuple | None:
        """Cases of one group choose from the same perturbations: their worst case can be taken."""
        return None if self.eps is None or self.kind == CORRUPTION else (self.norm, self.eps, self.threat)

    def ball(self, channels: int) -> Ball | None:
        """What it may show in the place of images of so many channels; None where it promises nothing."""
        if self.attack is None:
            return Ball()
        attack = build(ATTACKS, self.attack)
        budgets = attack.budgets(channels)
        return Ball.of(attack.norm, budgets) if budgets else None

    def to_dict(self) -> dict:
        return {**asdict(self), 'key': self.key}


CLEAN = Case('clean', passes=0.0)


def make_suite(
    suite: str,
    score: str,
    eps: Sequence[float],
    threats: Sequence[str] = ('both',),
    fused: bool = True,
    pairs: bool = True,
    steps: int | None = None,
    l2_eps: Sequence[float] = (1.0,),
    queries: int = 1000,
    losses: Sequence[str] = ('loss_cls', 'loss_bbox'),
    class_weight: Sequence[float] | None = None,
    corruptions: Sequence[str] | None = None,
) -> list[Case]:
    """The cases of a suite, the clean one first.

    * ``paper``: PGD-5 with a step of eps / 4 and a random start (Sec. 2.1).
    * ``strong``: that, and Auto-PGD with the radius schedule 2 eps, 1.5 eps, eps on three losses. Segmentation:
      Jensen-Shannon, masked and balanced masked cross-entropy (the ensemble of SEA, Croce et al., ECCV 2024).
      Detection: all losses, the classification's and the boxes'.
    * ``full``: that with SEA's 300 steps, the attacks that the literature cites (SegPGD, CosPGD, DLR) and Square; all
      but Square in L2, too; for pairs, all again for either modality alone and for one budget split between both,
      every corruption at five severities and a missing modality; for fused models, attacks on the fusion itself:
      the fusion loss as the objective, which is the other published protocol (A2RNet, AAAI 2025), one modality chosen
      for each pair, a fused image that stays clean to the eye, and (segmentation) modalities that disagree, where
      both may be attacked.
    * ``trouble``: no adversary, but every corruption at five severities and a missing modality; of plain images those
      of the visible one.

    Args:
        suite: one of :data:`SUITES`.
        score: ``'mIoU'`` for segmentors, ``'AP50'`` for detectors.
        eps: L-inf radii in [0, 1] units.
        threats: of :data:`THREATS`; what the attacks of the suite may change.
        fused: whether the model fuses pairs.
        pairs: whether its inputs are pairs (4 channels).
        steps: of Auto-PGD. Default: :data:`STEPS`.
        l2_eps: L2 radii of the whole image in [0, 1] units, for ``full``.
        queries: of Square, for ``full``.
        corruptions: names of those that ``full`` and ``trouble`` hold, see :func:`corruption_names`.
        losses: names of a detector's losses; attacks on classes or boxes are left out where it has none.
        class_weight: what a pixel of each class weighs in the balanced loss, for the data set, as in SEA. Default:
            classes count alike in each image.
    """
    if suite not in SUITES:
        raise ValueError(f'suite must be one of {", ".join(SUITES)}, not {suite!r}')
    corruptions = corruption_names(pairs) if corruptions is None else corruptions
    if suite == 'trouble':
        return [CLEAN, *corruption_cases(corruptions)]
    steps = STEPS[suite] if steps is None else steps
    asked = named_threats(threats, pairs)
    attacks = [_PGD5]
    if suite != 'paper':
        attacks += _auto_pgd(score, steps, losses, class_weight)
    if suite == 'full':
        attacks += [*_cited(score, steps), _square(score, queries)]
    every = named_threats((*threats, 'ir', 'vis', 'split'), True) if suite == 'full' and pairs else asked
    cases = [CLEAN, *_against(attacks, eps, every)]
    if suite == 'full':
        cases += _against([attack for attack in attacks if attack[2] == 'gradient'], l2_eps, asked, 'l2')
        cases += _against(_on_fusion(score, steps), eps, ['both']) if fused and 'both' in asked else []
        cases += corruption_cases(corruptions)
    return cases


def _against(attacks: Sequence[tuple], eps: Sequence[float], threats: Sequence[str], norm: str = 'linf') -> list[Case]:
    """Every attack at every radius under every threat."""
    return [
        _case(name, attack, radius, threat, norm, kind, passes)
        for radius in eps
        for threat in threats
        for name, attack, kind, passes in attacks
    ]


def corruption_names(pairs: bool = True, video: bool = False, common: bool = False) -> list[str]:
    """Corruptions that can be tested.

    Args:
        pairs: whether the inputs are pairs; of plain images the visible ones.
        video: whether the data set is one, so that there are earlier frames.
        common: whether to take those of ImageNet-C, too, which need a package.
    """
    names = []
    for name, (family, channels, *_) in CORRUPTIONS.items():
        known = pairs or (channels == VISIBLE and family != OFF)
        if known and (video or name != TIME_OFFSET) and (common or family != COMMON):
            names.append(name)
    return names


def corruption_cases(names: Sequence[str]) -> list[Case]:
    """Every corruption at each of its severities; a sensor is off once."""
    cases = []
    for name in names:
        for severity in (None,) if CORRUPTIONS[name].family == OFF else SEVERITIES:
            attack = {'type': 'Corruption', 'name': name, **({'severity': severity} if severity else {})}
            title = f'{name}{severity or ""}'
            cases.append(Case(title, attack, kind=CORRUPTION, threat='both', passes=0.0))
    return cases


def degree_of(name: str, attack: Mapping) -> tuple[str, int | None] | None:
    """Corruption and severity of a case of :func:`corruption_cases`, by its name and attack; None of any other."""
    kind, severity = attack.get('name'), attack.get('severity')
    known = corruption_cases([kind]) if kind in CORRUPTIONS else []
    return (kind, severity) if any(case.name == name and case.attack == attack for case in known) else None


def transfer_cases(
    config: str, checkpoint: str, eps: Sequence[float], threats: Sequence[str] = ('both',), channels: int = 4
) -> list[Case]:
    """Momentum, input diversity and smoothed gradients through another model, under each threat that it can serve: one
    of plain images changes the visible ones alone.

    Raises:
        NoTransferError: the other model fuses pairs, and the images are plain.
    """
    attack = {'type': 'PGD', 'steps': 20, 'momentum': 1.0, 'input_diversity': 0.7, 'smoothing': 5, 'keep': 'last'}
    through = {'type': 'TransferAttack', 'config': config, 'checkpoint': checkpoint}
    threats = ['both'] if takes_plain_images(config, checkpoint) else named_threats(threats, channels == 4)
    return [
        config_case('transfer20', {**through, 'attack': {**attack, 'eps': budget(radius, threat)}}, channels)
        for radius in eps
        for threat in threats
    ]


def bank_cases(folder: str, channels: int = 4) -> list[Case]:
    """Every level of a bank that was attacked through another model."""
    cases = []
    for level, eps in open_bank(folder).levels.items():
        attack = {'type': 'BankAttack', 'bank': folder, 'level': level}
        cases.append(replace(config_case('', attack, channels), name=f'bank_{level}'))
        if not eps:
            cases[-1] = replace(cases[-1], eps=eps)
    return cases


def config_case(name: str, attack: dict, channels: int = 4) -> Case:
    """A case of anyone's attack config; radius and threat are read off what the attack itself says that it may do.

    Where these are no radius of one norm under a threat of :data:`THREATS`, the case has no group of its own, but
    counts in the worst case of every ball that contains its own.

    Raises:
        Exception: whatever an attack raises that can't be built.
    """
    built = build(ATTACKS, attack)
    kind = KINDS.get(attack['type'].rpartition('.')[2], 'gradient')
    through = attack.get('attack', attack)  # of a transferred attack, the one on its source
    passes = through.get('steps', through.get('queries', 0)) * through.get('restarts', 1)
    passes *= through.get('eot_samples', 1)
    ball = Ball.of(built.norm, built.budgets(channels))
    eps, threat = (None, built.modality) if kind == MINIMUM else _named(ball, channels)
    if eps is None and kind not in (CORRUPTION, MINIMUM):
        name = f'{name}-custom'
    return Case(name, attack, eps, threat, built.norm, kind, passes, further=True)


def has_auto_pgd(case: Case) -> bool:
    """Whether it is the suite's Auto-PGD: what leaves least of those with gradients, with no aim but harm."""
    return not case.further and (case.attack or {}).get('type') == 'APGD'


def suite_groups(cases: Sequence[Case]) -> set[tuple]:
    """Groups that the suite itself attacks: of a threat that single further attacks alone use, little is known."""
    return {case.group for case in cases if case.group and not case.further}


def adapted_case(case: Case, adaptive: Mapping) -> Case:
    """A case whose attack knows the defence, see :func:`~paif_mm.attacks.adaptive.adapted`."""
    if not case.attack:
        return case
    attack = adapted(case.attack, adaptive)
    times = attack.get('eot_samples', 1) / case.attack.get('eot_samples', 1)
    return replace(case, attack=attack, passes=case.passes * times)


def _named(ball: Ball, channels: int) -> tuple[float | None, str]:
    """Radius and threat of a ball; (None, 'both') where it is not of that kind."""
    for threat in dict.fromkeys(['both', *map(split_name, SPLITS)] if channels == 4 else ['both']):
        for eps in dict.fromkeys([radius for *_, radius in ball.parts] + [sum(radius for *_, radius in ball.parts)]):
            named = threat_ball(ball.norm, eps, threat, channels)
            if eps and named.contains(ball, 1) and ball.contains(named, 1):
                return eps, threat
    return None, 'both'


def nested(cases: Sequence[Case], channels: int, pixels: int) -> dict[tuple, list[str]]:
    """Group -> keys of all cases that its ball contains, whatever their own group; the clean one lies in each.

    Args:
        cases: of a suite.
        channels: of the images.
        pixels: of the largest image.
    """
    balls = {case.key: case.ball(channels) for case in cases}
    found = {}
    for group in dict.fromkeys(case.group for case in cases if case.group):
        outer = threat_ball(*group, channels)
        found[group] = [key for key, ball in balls.items() if ball is not None and outer.contains(ball, pixels)]
    return found


def threat_ball(norm: str, eps: float, threat: str, channels: int) -> Ball:
    """What all attacks of one norm, radius and threat may do."""
    return Ball.of(norm, PGD(budget(eps, threat), norm=norm).budgets(channels))


_PGD5 = ('pgd5', {'type': 'PGD', 'steps': 5}, 'gradient', 5.7)


def strongest(score: str) -> dict:
    """The objective that leaves least where only one is asked for: in few steps, and by queries."""
    return {'type': 'PixelLoss', 'name': 'jensen_shannon'} if score == 'mIoU' else {'type': 'TaskLoss'}


def _on_fusion(score: str, steps: int) -> list[tuple]:
    """Attacks that aim at what the fusion network does with the two modalities."""
    masked = {'type': 'PixelLoss', 'name': 'balanced_cross_entropy'} if score == 'mIoU' else strongest(score)
    hidden = {'type': 'PGD', 'steps': steps, 'random_start': False}
    hidden['objective'] = {'type': 'HiddenInFused', 'objective': masked}
    weakest = {'type': 'WeakestModality', 'steps': steps, 'large_radii': True, 'objective': strongest(score)}
    attacks = [
        ('fusion20', {'type': 'PGD', 'steps': 20, 'objective': {'type': 'FusionObjective'}}, 'fusion', 20),
        ('weakest', weakest, 'gradient', 2 * steps),
        ('hidden', hidden, 'gradient', steps),
    ]
    if score == 'mIoU':
        attacks.append(
            ('disagree20', {'type': 'PGD', 'steps': 20, 'objective': {'type': 'Disagreement'}}, 'gradient', 50)
        )
    return attacks


def _square(score: str, queries: int) -> tuple:
    return 'square', {'type': 'Square', 'queries': queries, 'objective': strongest(score)}, QUERY, queries / 3


def _auto_pgd(score: str, steps: int, losses: Sequence[str], class_weight: Sequence[float] | None) -> list[tuple]:
    base = {'type': 'APGD', 'steps': steps, 'large_radii': True}
    if score == 'mIoU':
        objectives = {attack: {'type': 'PixelLoss', 'name': name} for attack, name in SEA.items()}
        if class_weight is not None:
            objectives['apgd_bmce']['class_weight'] = list(class_weight)
    else:
        objectives = {'apgd_total': {'type': 'TaskLoss'}}
        for key, patterns in TERMS.items():
            if found := [pattern for pattern in patterns if any(fnmatch(name, pattern) for name in losses)]:
                objectives[f'apgd_{key}'] = {'type': 'TaskLoss', 'terms': found}
    return [(name, {**base, 'objective': it}, 'gradient', steps) for name, it in objectives.items()]


def _cited(score: str, steps: int) -> list[tuple]:
    if score != 'mIoU':
        return [('pgd40', {'type': 'PGD', 'steps': 40}, 'gradient', 40)]
    loss = {name: {'type': 'PixelLoss', 'name': name} for name in ('segpgd', 'cospgd', 'dlr')}
    twenty = [
        (f'{name}20', {'type': 'PGD', 'steps': 20, 'objective': loss[name]}, 'gradient', 20)
        for name in ('segpgd', 'cospgd')
    ]
    dlr = {'type': 'APGD', 'steps': steps, 'large_radii': True, 'objective': loss['dlr']}
    return [*twenty, ('apgd_dlr', dlr, 'gradient', steps)]


def named_threats(threats: Sequence[str], pairs: bool) -> list[str]:
    """Names of threats, 'split' written out."""
    named = []
    for threat in threats:
        if threat not in THREATS:
            raise ValueError(f'modality must be of {", ".join(THREATS)}, not {threat!r}')
        if threat != 'both' and not pairs:
            raise ValueError(f'modality {threat!r} needs pairs, but the inputs of this model are plain images')
        named += [split_name(share) for share in SPLITS] if threat == 'split' else [threat]
    return list(dict.fromkeys(named))


def split_name(share: float) -> str:
    return {0.0: 'vis', 1.0: 'ir'}.get(share, f'ir{share * 100:g}+vis{100 - share * 100:g}')


def _case(name, attack, eps, threat, norm='linf', kind='gradient', passes=1.0) -> Case:
    attack = {**attack, 'eps': budget(eps, threat)}
    if norm != 'linf':
        attack['norm'] = norm
    return Case(name, attack, eps, threat, norm, kind, passes)


def budget(eps: float, threat: str) -> float | dict:
    """The radius of an attack, or its radii, as :class:`~paif_mm.attacks.PGD` takes them."""
    if threat == 'both':
        return eps
    if threat in ('ir', 'vis'):
        return {threat: eps}
    share = next(share for share in SPLITS if split_name(share) == threat)
    return {'ir': share * eps, 'vis': (1 - share) * eps}


def _radius(eps: float, norm: str) -> str:
    """'4' for 4/255; L2 radii as they are."""
    return f'{eps * 255:.4g}' if norm == 'linf' else f'{eps:.4g}'
