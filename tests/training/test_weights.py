"""Weights on disk are those of the network, and no others are taken for them."""

import pytest
import torch

from mmagn.training.weights import load_weights, save_weights


def test_a_network_with_loaded_weights_answers_as_the_saved_one_did(tmp_path, make_network, make_rows):
    network, other = make_network(), make_network()
    batch = {"features": make_rows(8, 1).features}
    save_weights(network.state_dict(), tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    assert not other.training
    assert torch.equal(network.eval()(batch), other(batch))
    assert [path.name for path in tmp_path.iterdir()] == ["weights.safetensors"]


def test_weights_of_another_network_a_cut_file_and_none_are_refused(tmp_path, make_network):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match="there are no such weights"):
        load_weights(make_network(), path)
    save_weights(make_network(10).state_dict(), path)
    with pytest.raises(ValueError, match=r"holds another network .*layers\.0\.weight has shape \(8, 10\), wanted"):
        load_weights(make_network(), path)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        load_weights(make_network(), path)
