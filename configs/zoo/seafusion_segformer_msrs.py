# SeAFusion from scratch, by its own loss and that of the task, in front of the zoo's T, on MSRS at half resolution
# (320x240). The folder is $PAIF_MM_DATA/msrs_half, or data/msrs_half. Other networks: docs/compared_networks.md
_base_ = '../msrs_half/segformer_general_msrs.py'

_base_.model.data_preprocessor.fusion = dict(type='SeAFusion')
_base_.custom_hooks[0].loss = dict(type='SeAFusionLoss')
load_from = 'paif_mm://segformer_mobilenet-v2_msrs'
