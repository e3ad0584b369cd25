"""Every registered encoder of categories: each level has its own place, and so has what was never seen."""

from __future__ import annotations

import numpy as np
import pytest

from readings import fit, table
from vedette.data.encoders import ENCODERS
from vedette.data.scaling import Scaling

NAMES = sorted(ENCODERS)
LEVELS = ("alarm", "idle", "on", "ö")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("levels", [1, 2, 7])
class TestEveryEncoder:
    def test_makes_the_columns_it_names(self, name: str, levels: int) -> None:
        encoder, known = ENCODERS[name](), [f"level-{i}" for i in range(levels)]
        encoded = encoder.encode(np.arange(levels + 1), levels)
        assert encoded.shape == (levels + 1, encoder.width(levels))
        assert encoded.dtype == np.float32
        assert len(encoder.names("state", known)) == len(set(encoder.names("state", known))) == encoder.width(levels)
        assert all(column.startswith("state") for column in encoder.names("state", known))

    def test_tells_all_levels_apart_and_the_unseen_from_them(self, name: str, levels: int) -> None:
        encoded = ENCODERS[name]().encode(np.arange(levels + 1), levels)
        assert np.isfinite(encoded).all()
        assert len(np.unique(encoded, axis=0)) == levels + 1
        assert encoded[:-1].min() >= 0
        assert encoded[:-1].max() <= 1

    def test_looks_at_each_row_by_itself(self, name: str, levels: int) -> None:
        encoder, rows = ENCODERS[name](), np.random.default_rng(levels).integers(0, levels + 1, 50)
        one_by_one = np.concatenate([encoder.encode(rows[i : i + 1], levels) for i in range(50)])
        assert np.array_equal(encoder.encode(rows, levels), one_by_one)
        assert encoder.encode(rows[:0], levels).shape == (0, encoder.width(levels))


@pytest.mark.parametrize("name", NAMES)
def test_in_a_scaler_levels_of_all_nodes_have_their_place(name: str) -> None:
    scaling = Scaling(categories=name)
    scaler = fit(scaling, table([0, 1], ["on", "idle"]), table([2, 3], ["ö", "alarm"]))
    assert scaler.levels == {"state": LEVELS}
    scaled = scaler.transform(table([0] * 5, [*LEVELS, "never seen"]))[:, 2:]
    assert np.array_equal(scaled, ENCODERS[name]().encode(np.arange(5), 4))
    assert scaler.width == 2 + scaled.shape[1]
    # Text of another table, whose levels have other codes, stands for the same.
    assert np.array_equal(scaler.transform(table([0] * 2, ["ö", "aaa"]))[:, 2:], scaled[[3, 4]])


def test_every_registered_encoder_is_tried() -> None:
    assert set(ENCODERS) == set(NAMES)
