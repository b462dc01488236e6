"""mmdet's CocoMetric, made to count classes by their names where a data set does."""

from mmdet.evaluation import CocoMetric as MMDetCocoMetric
from mmdet.registry import METRICS as MMDET_METRICS

#: In a data set's meta information: ``classes[label]`` is the name of a label's category, whatever the file's order.
BY_NAME = 'labels_by_name'


@MMDET_METRICS.register_module(name='CocoMetric', force=True)
class CocoMetric(MMDetCocoMetric):
    """Takes the place of mmdet's under its name; for mmdet's own data sets it is the same.

    With ``ann_file``, mmdet's metric takes label i for the i-th chosen category in the order of the file, and names the
    classes of its table in that order, too, while their figures come by ascending id. Our data sets number the classes
    as ``metainfo['classes']`` does, so that either would be of another class wherever the orders differ.

    Raises:
        ValueError: ``ann_file`` lacks a class of the data set.
    """

    def results2json(self, results: list[dict], outfile_prefix: str) -> dict:
        if not self.dataset_meta.get(BY_NAME):
            return super().results2json(results, outfile_prefix)
        ids = {category['name']: category['id'] for category in self._coco_api.dataset['categories']}
        missing = [name for name in self.dataset_meta['classes'] if name not in ids]
        if missing:
            raise ValueError(
                f'the ann_file of CocoMetric has no category {", ".join(missing)}: it has {", ".join(ids)}'
            )
        self.cat_ids = [ids[name] for name in self.dataset_meta['classes']]
        files = super().results2json(results, outfile_prefix)
        self.cat_ids.sort()  # the order of COCOeval's figures
        return files
