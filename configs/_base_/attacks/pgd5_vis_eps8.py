# PGD-5 at 8/255 on the visible image alone; the infrared one stays as it is, bit for bit.
attack = dict(type='PGD', eps=dict(ir=0, vis=8 / 255), steps=5)
