# Standard adversarial training of the network that fcos_hds_msrs.py found.
_base_ = './fcos_sat_msrs.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/fcos_hds_msrs/genotype.json')))
