# Standard adversarial training of the network that segformer_hds_synthetic.py found.
_base_ = './segformer_sat_synthetic.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/segformer_hds_synthetic/genotype.json')))
