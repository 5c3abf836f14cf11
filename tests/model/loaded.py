"""Whether weights arrived in a network."""

import torch


def assert_loaded(backbone, state):
    for key, value in backbone.state_dict().items():
        torch.testing.assert_close(value, state[key], msg=key)
