# Normal training of a plain encoder-rule-decoder network (the paper's Fig. 3a) and SegFormer.
# Others: --cfg-options model.data_preprocessor.fusion.operation=3-DC model.data_preprocessor.fusion.rule=AA
_base_ = '../paif/segformer_general_mfnet.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-RB', rule='CC', depth=3, channels=32)
