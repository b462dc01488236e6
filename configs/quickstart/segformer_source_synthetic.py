# The source of the transferred attacks: a plain network of 3-DB with concatenation, adversarially trained (make aat).
_base_ = './segformer_sat_synthetic.py'

max_iters = 200

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionBaseline', operation='3-DB', rule='CC', depth=1, channels=8)
    )
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', eta_min=0.0, power=1.0, begin=50, end=max_iters, by_epoch=False),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
