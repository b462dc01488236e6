# The source of the transferred attacks (Sec. 2.3): a plain network of 3-DB with concatenation, adversarially trained.
# Then: python tools/craft_attacks.py configs/paif/segformer_source_mfnet.py CHECKPOINT data/banks/mfnet
_base_ = './segformer_sat_mfnet.py'

_base_.model.data_preprocessor.fusion = dict(type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=32)
