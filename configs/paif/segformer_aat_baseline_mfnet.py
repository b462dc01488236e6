# AAT asks nothing of the fusion network: here it trains a plain one of residual blocks with summed features.
_base_ = './segformer_aat_mfnet.py'

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionBaseline', operation='3-RB', rule='SUM', depth=3, channels=32)
    )
)
