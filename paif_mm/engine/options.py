"""Settings of ``--cfg-options`` that nobody will read: misspelt ones, and variables that a config has used up."""

import importlib.util
import inspect
from collections.abc import Iterator, Mapping

import mmengine.registry
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from paif_mm.spelling import choices, known_arguments, meant

#: What mmengine's runner and the tools read at the top of a config beside the runner's own arguments.
BESIDES = ('runner_type', 'tta_model', 'tta_pipeline', 'custom_imports', 'model_wrapper_cfg', 'find_unused_parameters')
BESIDES += (
    'adaptive',
    'sync_bn',
    'compile',
    'efficient_conv_bn_eval',
    'activation_checkpointing',
    'strategy',
    'backend_args',
)
#: Keys that a section may have beside its class's arguments, by the section's name or its name's end.
SECTIONS = {
    '_dataloader': (*known_arguments(DataLoader)[0], 'num_batch_per_epoch'),
    'optim_wrapper': ('type', 'optimizer', 'constructor', 'paramwise_cfg', 'clip_grad', 'accumulative_counts')
    + ('loss_scale', 'dtype', 'use_fp16'),
    'train_cfg': ('type', 'by_epoch', 'max_epochs', 'max_iters', 'val_interval', 'val_begin', 'dynamic_intervals'),
    'randomness': ('seed', 'deterministic', 'diff_rank_seed'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'param_scheduler': ('convert_to_iter_based',),
}
LIKE = 0.75  # likeness of a key to a known one from which it counts as misspelt, where others may be right, too
SHOWN = 3  # settings of a name in a message


def unused_hooks(config: Mapping) -> list[str]:
    """A line for each hook that a recipe defines and no ``custom_hooks`` takes up: a training without it."""
    used = {hook.get('type') for hook in config.get('custom_hooks') or [] if isinstance(hook, dict)}
    return [
        f'{name} of the config, {hook["type"]}, is in no custom_hooks, and does nothing: add custom_hooks = '
        f'[*_base_.custom_hooks, _base_.{name}]'
        for name, hook in config.items()
        if isinstance(hook, dict) and str(hook.get('type', '')).endswith('Hook') and hook['type'] not in used
    ]


def unread_options(config, options: Mapping) -> list[str]:
    """A line for each setting that nobody will read, with the nearest that somebody does.

    Args:
        config (mmengine.Config): before the settings are merged into it.
        options: dotted key -> value.
    """
    lines = (_top_level(config, key) or _nested(config, key, options) for key in options)
    return [f'--cfg-options {key}: {line}' for key, line in zip(options, lines, strict=True) if line]


def _read_at_top() -> list[str]:
    return [*known_arguments(Runner)[0], *BESIDES]


def _top_level(config, key: str) -> str | None:
    """The line for a key whose first word is no section that anybody reads."""
    first, _, rest = key.partition('.')
    if first in _read_at_top():
        return None
    if first in config:
        what = f'{first} was used while {config.filename} was read, and now changes nothing'
    else:
        what = f'the config has no {first}, and nothing reads it'
    paths = list(_paths(config))
    named = [path for path in paths if path.rpartition('.')[2] == first]
    guess = meant(first, {path.rpartition('.')[2] for path in paths}, LIKE)
    section = meant(first, [name for name in _read_at_top() if name in config], LIKE)
    if rest:
        sections = sorted({path.rpartition('.')[0] for path in paths} - {''})
        copies = [path for path in sections if first in config and _at(config, path) == config[first]]
        inside = [path for path in paths if section and path.startswith(f'{section}.') and path.endswith(f'.{rest}')]
        meant_here = [f'{path}.{rest}' for path in copies] or sorted(inside, key=len)
        if meant_here:
            return f'{what}: did you mean {_some(meant_here)}?'
    found = named or [path for path in paths if guess and path.rpartition('.')[2] == guess] or (section and [section])
    return f'{what}: {f"did you mean {_some(found)}?" if found else "it may be misspelt"}'


def _nested(config, key: str, options: Mapping) -> str | None:
    """The line for a key that is new in a section which knows no such key."""
    node, scope = config, config.get('default_scope', 'mmengine')
    parts = key.split('.')
    for place, part in enumerate(parts):
        if isinstance(node, list | tuple):
            if not part.lstrip('-').isdigit() or not -len(node) <= int(part) < len(node):
                return None  # merging says so
            node = node[int(part)]
            continue
        if not isinstance(node, Mapping) and node is not config:
            return None
        scope = node.get('_scope_', scope)
        if part not in node:
            section = '.'.join(parts[:place])
            if not section or f'{section}.type' in options or '_delete_' in parts or part in ('type', '_scope_'):
                return None
            return _unknown(node, section, part, scope)
        node = node[part]
    return None


def _unknown(node: Mapping, section: str, part: str, scope: str) -> str | None:
    known, closed = [name for name in node if name != '_scope_'], False
    ends = section.split('.')
    name = next((end for end in reversed(ends) if not end.isdigit()), '')
    for ending, names in SECTIONS.items():
        if name == 'optim_wrapper' and 'optimizer' not in node:  # of a search, which has several
            closed = True
        elif name.endswith(ending) and ends[0] == name:
            known += names
            closed |= 'type' not in node and ending != 'param_scheduler'
    if ends[0] in ('custom_hooks', 'default_hooks') and len(ends) == 2:
        known.append('priority')  # read by the runner, of any hook
    kind = _class_of(node.get('type'), scope)
    if kind is not None:
        arguments, more = known_arguments(kind)
        known += arguments
        closed |= not more and not name.endswith('_cfg')  # keys of norm_cfg and its like are taken out by others
    if part in known or not (closed or meant(part, known, LIKE)):
        return None
    return f'{section} has no {part}: {choices(part, known)}'


def _class_of(kind, scope: str):
    """The class or function that a config calls ``type``, of whichever registry; None if it is not known."""
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    for library in {scope, kind.rpartition('.')[0].partition('.')[0]} - {'', 'mmengine', 'paif_mm'}:
        if importlib.util.find_spec(library) and importlib.util.find_spec(f'{library}.registry'):
            importlib.import_module(f'{library}.registry')
    registries = [value for value in vars(mmengine.registry).values() if isinstance(value, Registry)]
    for name in (f'{scope}.{kind}', kind):
        for registry in registries:
            found = registry.get(name)
            if found is not None and (inspect.isclass(found) or inspect.isfunction(found)):
                return found
    return _our_own(kind)


def _our_own(kind: str):
    """The class of one of our registries without a parent: attacks, objectives, operations."""
    from paif_mm import registry

    own = [value for value in vars(registry).values() if isinstance(value, Registry) and value.scope == registry.SCOPE]
    return next((found for one in own if (found := one.get(kind.rpartition('.')[2])) is not None), None)


def _paths(node, path: str = '') -> Iterator[str]:
    """Dotted keys of all settings that are read."""
    if isinstance(node, list | tuple):
        for place, item in enumerate(node):
            yield from _paths(item, f'{path}.{place}')
        return
    if not hasattr(node, 'items'):
        return
    for key, value in node.items():
        if path or key in _read_at_top():
            here = f'{path}.{key}' if path else key
            yield here
            yield from _paths(value, here)


def _at(config, path: str):
    for part in path.split('.'):
        config = config[int(part)] if isinstance(config, list | tuple) else config[part]
    return config


def _some(paths: list[str]) -> str:
    return ' or '.join(paths[:SHOWN]) + (f' (and {len(paths) - SHOWN} more)' if len(paths) > SHOWN else '')
