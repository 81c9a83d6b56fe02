"""Samples of a generative model: from demands of states to the layout of a Dataset."""
