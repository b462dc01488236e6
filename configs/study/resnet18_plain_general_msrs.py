# Normal training of a plain encoder-rule-decoder network (the paper's Fig. 3a) and the pretrained T.
# Others: --cfg-options model.data_preprocessor.fusion.operation=3-DC model.data_preprocessor.fusion.rule=AA
_base_ = './resnet18_general_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-RB', rule='CC', depth=1, channels=8)
