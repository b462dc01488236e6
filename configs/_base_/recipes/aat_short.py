# As aat.py from scratch and in few iterations, which asks for larger steps than the paper's.
_base_ = './aat.py'

_base_.meta_initialisation.update(iters=60, inner_steps=3, inner_lr=1e-2, optimizer=dict(type='Adam', lr=2e-3))
_base_.meta_initialisation.update(warm_start_iters=40, warm_start_optimizer=dict(type='Adam', lr=5e-4), num_workers=1)
