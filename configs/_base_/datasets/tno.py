# TNO (Toet, 2014), pairs without labels: data/tno/{vi,ir}/ID.png, as many projects share it (the archive itself has a
# folder of its own for every scene). To fuse and to predict; trained and validated on MFNet.
_base_ = './roadscene.py'

folders = dict(img_path='vi', ir_path='ir', seg_map_path=None)
test_dataloader = dict(dataset=dict(data_root='data/tno', data_prefix=folders))
