# The source of the transferred attacks: a plain network of 3-DB with concatenation, adversarially trained.
# Then: python tools/craft_attacks.py configs/quickstart/fcos_source_synthetic.py CHECKPOINT data/banks/synthetic_boxes
_base_ = './fcos_sat_synthetic.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=8)
