"""Fixtures of whole training runs."""

from pathlib import Path

import pytest
from tiny_run import make_tiny_config, write_tiny_camvid
from training_process import TrainingProcess

from ducseg.train.config import Config


@pytest.fixture(scope="session")
def tiny_camvid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_camvid(tmp_path_factory.mktemp("camvid"))


@pytest.fixture
def tiny_config(tiny_camvid: Path) -> Config:
    return make_tiny_config(tiny_camvid)


@pytest.fixture
def training_process(tiny_camvid: Path, tmp_path: Path) -> TrainingProcess:
    return TrainingProcess(tiny_camvid, tmp_path / "run")
