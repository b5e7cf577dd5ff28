"""A run on the CPU leaves the GPUs of its machine alone."""

import json

import pytest
import torch
from tiny_problem import tiny_data, tiny_module

from mmagn.storage import provenance
from mmagn.storage.run_folder import RunFolder
from mmagn.training.fit import RunRecord, fit


def test_a_run_on_the_cpu_of_a_machine_with_a_gpu_never_initialises_cuda(monkeypatch, tmp_path, config):
    def refused(*_):
        raise AssertionError("CUDA was initialised")

    for module in (torch.cuda, torch.cuda.random):
        monkeypatch.setattr(module, "_lazy_init", refused)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for check in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):
        monkeypatch.setattr(torch.optim.Optimizer, check, lambda _: None, raising=False)  # torch's own look at the GPU
    with pytest.raises(AssertionError, match="was initialised"):
        torch.cuda.get_rng_state()
    gpu = tmp_path / "gpus" / "0000:01:00.0" / "information"
    gpu.parent.mkdir(parents=True)
    gpu.write_text("Model: \t\t NVIDIA H100 80GB HBM3\nIRQ:   \t\t 100\n", encoding="utf-8")
    monkeypatch.setattr(provenance, "_GPUS", tmp_path / "gpus")
    run = RunFolder.create(tmp_path / "runs", "tiny")
    assert fit(tiny_module(config), tiny_data(), run, RunRecord()).complete
    recorded = json.loads(run.provenance.read_text(encoding="utf-8"))
    assert recorded["machine"]["cuda_devices"] == ["NVIDIA H100 80GB HBM3"]
