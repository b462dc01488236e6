# Standard adversarial training of the network that segformer_hds_msrs.py found.
# Another genotype: --cfg-options model.data_preprocessor.fusion.genotype=PATH (or paif, all-3-DC, all-CA, ...)
_base_ = './segformer_sat_msrs.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/segformer_hds_msrs/genotype.json')))
