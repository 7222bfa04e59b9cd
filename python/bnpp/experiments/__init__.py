"""Experiments of the batch-normalization paper in plain NumPy: readable examples, no public interface.

Start with ``layers.Normalize``: it shows how `bnpp.batch_norm` and `bnpp.batch_norm_backward` are used in
a network of one's own. ``models`` puts layers together, ``training`` trains them, ``population`` and
``folding`` turn a trained network into one for inference, and the studies (``figure1``, ``table``,
``averages``) are what ``bnpp demo`` runs. Names may change with any version.
"""
