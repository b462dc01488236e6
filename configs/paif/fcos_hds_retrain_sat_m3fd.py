# Standard adversarial training of the network that fcos_hds_m3fd.py found.
_base_ = './fcos_sat_m3fd.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/fcos_hds_m3fd/genotype.json')))
