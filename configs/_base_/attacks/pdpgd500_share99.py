# PDPGD (Matyasko and Chau, 2021), segmentation only, a baseline of alma500_share99.
attack = dict(type='PDPGD', share=0.99, norm='linf', steps=500)
