# Standard adversarial training of the network that segformer_hds_msrs.py found, at the size of that search.
# Another genotype: --cfg-options model.data_preprocessor.fusion.genotype=PATH (or paif, all-3-DC, all-CA, ...)
_base_ = './segformer_sat_msrs.py'

crop_size = (128, 160)
_base_.model.data_preprocessor.fusion.genotype = 'work_dirs/segformer_hds_msrs/genotype.json'
_base_.model.data_preprocessor.task.size = _base_.train_pipeline[3].crop_size = crop_size
train_dataloader = dict(dataset=dict(pipeline=_base_.train_pipeline))
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 600
