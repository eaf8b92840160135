"""Files that are called as vectors and are something else."""

from pathlib import Path

import pytest

from ducseg.data.convert.vector_files import read_vectors
from ducseg.errors import UserError


@pytest.mark.parametrize("suffix", [".gpkg", ".shp"])
def test_a_list_of_other_files_is_no_vectors(suffix: str, tmp_path: Path) -> None:
    """GDAL would open what it names."""
    pytest.importorskip("pyogrio")
    line = '{"type": "LineString", "coordinates": [[0, 0], [1, 1]]}'
    feature = f'{{"type": "Feature", "properties": {{"class": "road"}}, "geometry": {line}}}'
    other = tmp_path / "other.geojson"
    other.write_text(f'{{"type": "FeatureCollection", "features": [{feature}]}}')
    named = f'<OGRVRTLayer name="other"><SrcDataSource>{other}</SrcDataSource></OGRVRTLayer>'
    file = tmp_path / f"vectors{suffix}"
    file.write_text(f"<OGRVRTDataSource>{named}</OGRVRTDataSource>")
    assert read_vectors([other]).names == ("road",)
    with pytest.raises(UserError, match="by its first bytes"):
        read_vectors([file])
