# The source of the transferred attacks: a plain network of 3-DB with concatenation, adversarially trained (make aat).
_base_ = './segformer_sat_synthetic.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=1, channels=8)
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 200
