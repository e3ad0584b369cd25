"""Training within a stated number of bytes, in NumPy: dense networks, buffers made once, rows read as they are needed.

All but `trainer` and `planner` import NumPy alone: a training process of its own (`process`) holds little else.
"""
