# SegFormer MiT-B0 to be trained from scratch on a CPU, behind a narrow fusion network.
_base_ = './segformer_mit-b0.py'

model = dict(
    data_preprocessor=dict(fusion=dict(channels=8)),
    backbone=dict(drop_path_rate=0.0),
    decode_head=dict(channels=128, dropout_ratio=0.0),
)
