"""Samples that an evaluation by several processes sees twice."""

from mmengine.dist import get_dist_info


def unrepeated(dataloader, seen: int, count: int) -> list[int]:
    """Places of a process's next ``count`` samples that no process has had before.

    mmengine's sampler gives every process as many samples, the first ones again where the processes do not divide the
    data set. Its metrics leave repetitions out, and so does whatever else adds up over an evaluation.

    Args:
        dataloader: of the evaluation, not shuffled; processes take its samples in turns.
        seen: how many samples this process has had.
        count: of the next batch.
    """
    rank, world = get_dist_info()
    if world == 1:
        return list(range(count))
    return [i for i in range(count) if (seen + i) * world + rank < len(dataloader.dataset)]
