# ALMA prox (Rony et al., CVPR 2023), segmentation only: the least L-inf change that makes 99 % of the pixels wrong.
attack = dict(type='ALMAProx', share=0.99, norm='linf', steps=500)
