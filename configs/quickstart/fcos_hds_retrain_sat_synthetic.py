# Standard adversarial training of the network that fcos_hds_synthetic.py found.
_base_ = './fcos_sat_synthetic.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/fcos_hds_synthetic/genotype.json')))
