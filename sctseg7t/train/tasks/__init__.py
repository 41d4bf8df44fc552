"""One file a training task, see :mod:`sctseg7t.train.task`."""
