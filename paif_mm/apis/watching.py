"""An attack watched while it runs: what the model is asked, what it loses, and what it says, step by step."""

import time
from collections.abc import Callable, Iterator
from queue import Empty, Queue
from threading import Event, Thread
from typing import NamedTuple

import numpy as np
from torch import Tensor

from paif_mm.attacks import Attack
from paif_mm.attacks.bank import round_into_ball
from paif_mm.attacks.functional import complete
from paif_mm.randomness import kept_draws

from .attacking import Attacked, attack_pair, predict_pair
from .inferencer import PairInferencer


class Look(NamedTuple):
    """One moment of an attack.

    Attributes:
        losses: what it maximises, at each image that the model was asked about so far.
        pair: the last one, uint8 HxWx4 (B,G,R,IR), rounded within the radius.
        sample: what the model says of it.
        fused: HxWx3 (B,G,R) in [0, 255].
    """

    losses: list[float]
    pair: np.ndarray
    sample: object
    fused: np.ndarray


def watch_attack(
    inferencer: PairInferencer, attack: Attack, name: str, data: dict, seed: int = 0, pause: float = 0.0
) -> Iterator[Look | Attacked]:
    """:func:`~.attacking.attack_pair`, whose result comes last, after looks.

    The attack is the same as unwatched. It ends where the iterator is closed.

    Args:
        pause: seconds between two looks, at least; the last image that the model is asked about is always looked at.
    """

    def run(give: Callable[[Look | Attacked], None]) -> None:
        clean, device = data['inputs'].round().byte().cpu(), next(inferencer.model.parameters()).device
        losses, image, looked = [], None, -np.inf

        def look() -> None:
            nonlocal image, looked
            rounded = round_into_ball(image, clean, attack.budgets(4), attack.norm)
            with kept_draws(device):
                found = predict_pair(inferencer, rounded, data['data_samples'])
            give(Look([*losses], rounded.permute(1, 2, 0).numpy(), *found))
            image, looked = None, time.monotonic()

        def tell(asked: Tensor, loss: float) -> None:
            nonlocal image
            image = asked
            losses.append(loss)
            if time.monotonic() - looked >= pause:
                look()

        result = attack_pair(inferencer, _WatchedAttack(attack, tell), name, data, seed)
        if image is not None:
            look()
        give(result)

    return _given(run)


class _Watched:
    """Tells somebody of its calls; else it is what it watches."""

    def __init__(self, watched, tell: Callable[[Tensor, float], None]):
        self._watched, self._tell = watched, tell

    def __getattr__(self, name: str):
        return getattr(self._watched, name)


class _WatchedAttack(_Watched):
    """An attack that tells the first image of each question to the model, and its loss."""

    def __call__(self, *args, **kwargs):
        attack, objective = self._watched, self._watched.objective
        attack.objective = _WatchedObjective(objective, self._tell)
        try:
            return attack(*args, **kwargs)
        finally:
            attack.objective = objective


class _WatchedObjective(_Watched):
    def __call__(self, model, inputs: list[Tensor], *args):
        losses = self._watched(model, inputs, *args)
        self._tell(inputs[0].detach(), complete(losses).loss[0].item())
        return losses


class _Closed(Exception):
    """Nobody takes what is given any more."""


def _given(run: Callable[[Callable], None]) -> Iterator:
    """What ``run`` gives to its argument, in a thread that waits until each thing is taken."""
    given, closed, end = Queue(1), Event(), object()

    def give(thing) -> None:
        if closed.is_set():
            raise _Closed
        given.put(thing)

    def work() -> None:
        try:
            run(give)
            give(end)
        except _Closed:
            pass
        except BaseException as error:
            given.put(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while (thing := given.get()) is not end:
            if isinstance(thing, BaseException):
                raise thing
            yield thing
    finally:
        closed.set()
        while thread.is_alive():
            try:
                given.get(timeout=0.05)
            except Empty:
                continue
        thread.join()
