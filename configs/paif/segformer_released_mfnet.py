# Testing the authors' released weights, converted by tools/model_converters/paif_release.py.
_base_ = './segformer_general_mfnet.py'

model = dict(
    data_preprocessor=dict(stretch=True),  # min-max stretch per image, as those weights expect
    backbone=dict(init_cfg=None),
    decode_head=dict(type='paif_mm.ReleasedSegformerHead'),
)
