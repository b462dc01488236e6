# DAG (Xie et al., ICCV 2017), segmentation only, L-inf, a baseline of alma500_share99; steps of the paper's length.
attack = dict(type='DAG', share=0.99, steps=200, step_size=0.5 / 255)
