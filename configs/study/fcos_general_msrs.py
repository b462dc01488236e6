# Normal training of the searched network and the pretrained FCOS, loaded in the main process.
_base_ = '../msrs_half/fcos_general_msrs.py'

train_dataloader = val_dataloader = test_dataloader = dict(num_workers=0, persistent_workers=False)
_base_.optim_wrapper.optimizer.lr = 3e-4
_base_.param_scheduler[0].end = _base_.param_scheduler[1].begin = 50
_base_.param_scheduler[1].end = _base_.train_cfg.max_iters = _base_.train_cfg.val_interval = 300
load_from = 'work_dirs/fcos_pretrain_msrs/iter_1500.pth'
