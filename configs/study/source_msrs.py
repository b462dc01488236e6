# The source of the transferred attacks. Then:
# python tools/craft_attacks.py configs/study/source_msrs.py work_dirs/source_msrs/iter_800.pth data/banks/study_msrs
_base_ = './sat_msrs.py'

model = dict(
    data_preprocessor=dict(
        fusion=dict(_delete_=True, type='FusionBaseline', operation='3-DB', rule='CC', depth=3, channels=8)
    )
)
