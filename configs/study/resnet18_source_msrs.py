# The source of the transferred attacks. Then: python tools/craft_attacks.py configs/study/resnet18_source_msrs.py \
#     work_dirs/resnet18_source_msrs/iter_800.pth data/banks/study_msrs
_base_ = './resnet18_sat_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=8)
