import torch

from mmagn.lines import LINES
from mmagn.spectroscopy.profiles import AMPLITUDES, SEGMENTS, line_patches, segment_rows


def patches_at(velocity: float, log_sigma: float, lsf_sigma: float = 0.8, phase: float = 0.3) -> torch.Tensor:
    kinematics = torch.tensor([[[velocity, log_sigma], [velocity, log_sigma]]], dtype=torch.float64)
    lsf = torch.full((1, len(LINES)), lsf_sigma, dtype=torch.float64)
    return line_patches(kinematics, torch.tensor([phase], dtype=torch.float64), lsf)


def test_a_line_keeps_its_flux_however_narrow_and_wherever_in_its_pixel():
    for lsf_sigma in (0.2, 0.5, 1.0, 2.0):
        for phase in (-0.5, -0.1, 0.37):
            total = patches_at(0.4, 2.1, lsf_sigma, phase)[:, :, 0].sum(-1)
            torch.testing.assert_close(total, torch.ones_like(total), atol=1e-9, rtol=0)


def test_derivatives_are_those_of_the_profile():
    step = 1e-5
    patches = patches_at(1.2, 5.0)
    by_velocity = (patches_at(1.2 + step, 5.0) - patches_at(1.2 - step, 5.0))[:, :, 0] / (2 * step)
    by_width = (patches_at(1.2, 5.0 + step) - patches_at(1.2, 5.0 - step))[:, :, 0] / (2 * step)
    torch.testing.assert_close(patches[:, :, 1], by_velocity, atol=1e-9, rtol=1e-6)
    torch.testing.assert_close(patches[:, :, 2], by_width, atol=1e-9, rtol=1e-6)


def test_tied_lines_share_the_row_of_their_owner_with_their_ratio():
    rows = {}
    for segment in SEGMENTS:
        for position, amplitude in enumerate(segment.amplitudes):
            rows[AMPLITUDES[amplitude]] = float(segment_rows(patches_at(0.0, 4.5), segment)[0, 3 * position].sum())
    for name, total in rows.items():
        expected = 1 + sum(line.tied_ratio for line in LINES if line.tied_to == name)
        assert abs(total - expected) < 1e-9
    assert set(rows) == set(AMPLITUDES)
