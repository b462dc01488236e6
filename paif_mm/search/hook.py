"""What a search leaves behind: its genotype, its history and pictures of both."""

import hashlib
import json
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import Hook

from paif_mm.fusion import find_supernet, save_genotype
from paif_mm.registry import HOOKS

from .pictures import draw_genotype, draw_history

#: Settings that do not make two searches different.
_INCIDENTAL = ('work_dir', 'resume', 'launcher', 'log_level', 'visualizer', 'vis_backends')


@HOOKS.register_module()
class ArchitectureHook(Hook):
    """Reports the architecture during a search, and writes it with every checkpoint and at the end.

    In the work dir: ``genotype.json`` (what ``FusionNet(genotype=...)`` reads, with the alphas, their entropies, the
    iteration and the hash of the config as notes), ``genotype.png``, ``architecture.jsonl`` (one line per report) and
    ``architecture.png`` (the same over time). A resumed search continues them. The softmax weights and entropies also
    go to the visualizer's backends (TensorBoard and the like).

    Args:
        interval (int): iterations between reports. Default: 50.
    """

    priority = 'BELOW_NORMAL'

    def __init__(self, interval: int = 50):
        self.interval = interval

    def before_train(self, runner) -> None:
        self.supernet = find_supernet(runner.model)
        self.folder = Path(runner.work_dir)
        self.config_hash = config_hash(runner.cfg)
        self._keep_history(until=runner.iter)
        if runner.iter == 0:
            self._report(runner, 0)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        if self.every_n_train_iters(runner, self.interval) or self.is_last_train_iter(runner):
            self._report(runner, runner.iter + 1)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        self._write(checkpoint['meta']['iter'])

    def after_train(self, runner) -> None:
        self._write(runner.iter)
        runner.logger.info(f'genotype written to {self.folder / "genotype.json"}: {self.supernet.genotype()}')

    @master_only
    def _report(self, runner, iteration: int) -> None:
        probabilities, entropies = self.supernet.probabilities(), self.supernet.entropies()
        line = {'iter': iteration, 'probabilities': probabilities, 'entropies': entropies}
        with open(self.history, 'a', encoding='utf-8') as file:
            file.write(json.dumps(line) + '\n')
        scalars = {f'alpha/{place}/{name}': p for place, row in probabilities.items() for name, p in row.items()}
        scalars.update({f'entropy/{place}': value for place, value in entropies.items()})
        runner.visualizer.add_scalars(scalars, step=iteration)
        runner.logger.info(describe(probabilities, entropies))

    @master_only
    def _write(self, iteration: int) -> None:
        probabilities = self.supernet.probabilities()
        save_genotype(
            self.supernet.genotype(),
            self.folder / 'genotype.json',
            candidates=list(self.supernet.candidates),
            channels=self.supernet.channels,
            alphas={name: place.alpha.tolist() for name, place in self.supernet.places().items()},
            probabilities=probabilities,
            entropies=self.supernet.entropies(),
            iteration=iteration,
            config_hash=self.config_hash,
        )
        draw_genotype(self.supernet.genotype(), self.folder / 'genotype.png', probabilities)
        draw_history(self._lines(), self.folder / 'architecture.png')

    @property
    def history(self) -> Path:
        return self.folder / 'architecture.jsonl'

    def _lines(self) -> list[dict]:
        if not self.history.is_file():
            return []
        return [json.loads(line) for line in self.history.read_text(encoding='utf-8').splitlines()]

    @master_only
    def _keep_history(self, until: int) -> None:
        """Drop what a killed run reported after its last checkpoint, or all of an earlier search."""
        kept = []
        if until > 0 and self.history.is_file():
            for line in self.history.read_text(encoding='utf-8').splitlines():
                try:
                    kept += [line] if json.loads(line)['iter'] <= until else []
                except ValueError:  # the line that was being written when the run was killed
                    continue
        self.history.write_text(''.join(line + '\n' for line in kept), encoding='utf-8')


def describe(probabilities: dict, entropies: dict) -> str:
    """One line: the leading operation of each place with its weight, and the mean entropy."""
    leaders = []
    for place, row in probabilities.items():
        name = max(row, key=row.get)
        leaders.append(f'{place} {name} {row[name]:.3f}')
    mean = sum(entropies.values()) / len(entropies)
    each = ' '.join(f'{value:.3f}' for value in entropies.values())
    return f'architecture: {", ".join(leaders)}; entropy {mean:.3f} ({each})'


def config_hash(config: Config) -> str:
    """Digest of a config without the settings that change nothing in what is searched."""
    content = {key: value for key, value in config.to_dict().items() if key not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
