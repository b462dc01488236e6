# Normal training of a narrow fusion network and the pretrained T, on MSRS at half resolution (320x240).
# The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half. Before: segformer_pretrain_msrs.py
_base_ = ['./segformer_pretrain_msrs.py', '../_base_/recipes/general.py']

_base_.model.data_preprocessor.fusion = dict(type='FusionNet', channels=8)
_base_.model.backbone.init_cfg = None
_base_.optim_wrapper.optimizer.lr = 5e-4
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 50
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 600
load_from = 'work_dirs/segformer_pretrain_msrs/iter_3300.pth'
