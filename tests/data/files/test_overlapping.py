"""Reading on several threads at once: no warning comes through, and the process is afterwards as it was."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
from PIL import Image

from ducseg.data.files.channels import read_channels
from ducseg.data.files.overlapping import Overlapping, quiet, unbounded


@pytest.mark.parametrize("first_to_leave", [0, 1])
@pytest.mark.parametrize("state", [quiet, unbounded])
def test_the_first_to_leave_does_not_end_it_and_the_last_does(state: Overlapping, first_to_leave: int) -> None:
    filters, limit = list(warnings.filters), Image.MAX_IMAGE_PIXELS
    both_in, one_out = Barrier(2), Barrier(2)

    def work(index: int) -> bool:
        with state:
            both_in.wait()
            if index != first_to_leave:
                one_out.wait()
                return warnings.filters[0][0] == "ignore" or Image.MAX_IMAGE_PIXELS is None
        one_out.wait()
        return True

    with ThreadPoolExecutor(2) as threads:
        assert all(threads.map(work, range(2)))
    assert list(warnings.filters) == filters and limit == Image.MAX_IMAGE_PIXELS


def test_rasters_without_coordinates_on_many_threads(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with quiet, rasterio.open(tmp_path / "a.tif", "w", "GTiff", height=8, width=8, count=5, dtype="uint16") as raster:
        raster.write(np.ones((5, 8, 8), np.uint16))
    with ThreadPoolExecutor(8) as threads:  # warnings are errors here
        read = list(threads.map(read_channels, [tmp_path / "a.tif"] * 400))
    assert all((one == 1).all() and one.shape == (8, 8, 5) for one in read)
