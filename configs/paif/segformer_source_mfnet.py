# The source of the transferred attacks (Sec. 2.3): a plain network of 3-DB with concatenation, adversarially trained.
# Then: python tools/craft_attacks.py configs/paif/segformer_source_mfnet.py CHECKPOINT data/banks/mfnet
_base_ = './segformer_sat_mfnet.py'

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=32)
    )
)
