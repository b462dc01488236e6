# Standard adversarial training of the network that segformer_hds_mfnet.py found ('HDS' in Table 5).
# Another genotype: --cfg-options model.data_preprocessor.fusion.genotype=PATH (or paif, all-3-DC, all-CA, ...)
_base_ = './segformer_sat_mfnet.py'

model = dict(data_preprocessor=dict(fusion=dict(genotype='work_dirs/segformer_hds_mfnet/genotype.json')))
