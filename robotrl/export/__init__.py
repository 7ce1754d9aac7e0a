"""From a trained network to one policy file: graph, contract, verification, card."""
