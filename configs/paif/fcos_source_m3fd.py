# The source of the transferred attacks for detection: a plain network of 3-DB with concatenation, under SAT.
# Then: python tools/craft_attacks.py configs/paif/fcos_source_m3fd.py CHECKPOINT data/banks/m3fd
_base_ = './fcos_sat_m3fd.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=3)
