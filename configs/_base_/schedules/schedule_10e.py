# 10 epochs of AdamW 1e-3, for small classifiers.
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=10)
val_cfg = dict()
test_cfg = dict()
auto_scale_lr = dict(enable=False, base_batch_size=8)  # of --auto-scale-lr: the batch of all processes
