import errno
import random

import pytest
import torch

from mmagn.storage.run_folder import RunFolder
from mmagn.training.checkpoints import WholeCheckpointIO, load_module, read_checkpoint


def test_both_checkpoints_hold_nothing_but_tensors_and_plain_values(undisturbed):
    _, run = undisturbed
    for path in (run.best, run.last):
        assert "state_dict" in torch.load(path, weights_only=True)


def test_nothing_half_written_remains_in_the_run_folder(undisturbed):
    _, run = undisturbed
    assert {path.name for path in run.path.iterdir()} == {
        "run.json",
        "figures",
        "tensorboard",
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
        "weights.safetensors",
    }


def test_a_loaded_module_answers_as_the_trained_one_did(trained, config, run, data, make_module, make_network):
    module = make_module(config)
    trained(module=module)
    loaded = load_module(run.best, make_network(), config)
    batch = {"features": data.validation.features}
    with torch.inference_mode():
        assert torch.equal(loaded(batch), module.eval()(batch))
    assert loaded.pos_weight.item() == 4.0
    assert not loaded.training


def test_a_checkpoint_of_another_network_says_what_differs(undisturbed, config, make_network):
    _, run = undisturbed
    with pytest.raises(
        ValueError, match=r"best\.ckpt holds another network .*layers\.0\.weight has shape \(8, 12\), wanted"
    ):
        load_module(run.best, make_network(10), config)


def test_a_file_that_could_run_code_is_refused(tmp_path):
    path = tmp_path / "foreign.ckpt"
    WholeCheckpointIO().save_checkpoint({"state_dict": {}, "folder": RunFolder}, path)
    with pytest.raises(ValueError, match=r"foreign\.ckpt is not a readable checkpoint"):
        read_checkpoint(path)


def test_a_file_of_weights_alone_is_no_checkpoint_of_a_run(tmp_path):
    path = tmp_path / "weights.ckpt"
    WholeCheckpointIO().save_checkpoint({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="it has no state_dict"):
        read_checkpoint(path)


def test_a_full_disk_is_said_and_the_last_good_checkpoint_kept(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    WholeCheckpointIO().save_checkpoint({"state_dict": {}}, path)

    def full(checkpoint, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"no space to write .*last\.ckpt; the last good checkpoint is kept"):
        WholeCheckpointIO().save_checkpoint({"state_dict": {}}, path)
    assert read_checkpoint(path) == {"state_dict": {}}
    assert list(tmp_path.iterdir()) == [path]


def test_a_flipped_bit_anywhere_in_a_checkpoint_is_refused(undisturbed, tmp_path):
    sound, path = undisturbed[1].last.read_bytes(), tmp_path / "last.ckpt"
    rng = random.Random(0)
    for place in [*(rng.randrange(len(sound)) for _ in range(200)), *range(len(sound) - 100, len(sound))]:
        content = bytearray(sound)
        content[place] ^= 1 << rng.randrange(8)
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"last\.ckpt is not a readable checkpoint .*sha256 differs"):
            read_checkpoint(path)


def test_a_checkpoint_without_a_checksum_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="sha256 differs"):
        read_checkpoint(path)
