# Auto-PGD (Croce and Hein, ICML 2020) at 4/255 on the pixels that are still right, segmentation only.
attack = dict(type='APGD', eps=4 / 255, steps=100, objective=dict(type='PixelLoss', name='masked_cross_entropy'))
