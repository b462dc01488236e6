# PGD-5 at 8/255 on the infrared image alone; the visible one stays as it is, bit for bit.
attack = dict(type='PGD', eps=dict(ir=8 / 255, vis=0), steps=5)
