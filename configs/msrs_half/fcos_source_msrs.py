# The source of the transferred attacks: a plain network of 3-DB with concatenation, adversarially trained.
# Then: python tools/craft_attacks.py configs/msrs_half/fcos_source_msrs.py CHECKPOINT data/banks/msrs_boxes
_base_ = './fcos_sat_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=8)
