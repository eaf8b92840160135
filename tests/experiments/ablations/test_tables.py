"""Every row of every table is a configuration: the paper's at full scale, the same question at small scale."""

import dataclasses
from pathlib import Path

import pytest

from ducseg.data.synthetic.cityscapes import write_cityscapes
from ducseg.errors import UserError
from ducseg.experiments import EXPERIMENTS
from ducseg.experiments.ablations.jobs import make_jobs
from ducseg.experiments.ablations.paper import PAPER_TABLES
from ducseg.experiments.ablations.rows import Row, Table, changed
from ducseg.experiments.ablations.small import Setting, configure
from ducseg.experiments.ablations.tables import TABLES
from ducseg.models.architecture import Architecture
from ducseg.train.config import Config

CITYSCAPES_LIKE = ("cityscapes", "camvid", "cityscapes256", "folder", "synthetic")


def small(table: Table, row: Row, data: str) -> Config | str:
    return configure(table, row, Setting(data=data, root=None if data == "synthetic" else "somewhere", small=True))


def architecture(config: Config, num_classes: int = 11) -> Architecture:
    known = {field.name for field in dataclasses.fields(Architecture)}
    values = {name: value for name, value in dataclasses.asdict(config.model).items() if name in known}
    return Architecture(num_classes=num_classes, **values)


def test_the_names_are_those_of_the_design() -> None:
    assert {"table1", "table2", "table3", "deconv", "crf", "table4", "table5", "table6"} <= TABLES.keys()
    assert {"heads", "dilation", "aspp", "cell", "augmentation"} <= TABLES.keys()


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_rows_are_named_apart_and_are_networks_that_can_be_built(table: Table) -> None:
    assert len({row.name for row in table.rows}) == len(table.rows)
    for row in table.rows:
        full = configure(table, row, Setting(data=table.data, root="somewhere", small=False))
        names = CITYSCAPES_LIKE if table.data == "cityscapes" else (table.data, "synthetic")
        shrunk = [small(table, row, data) for data in names]
        for config in (full, *shrunk):
            if isinstance(config, str):
                assert row.config is None or row.only_small or "no coarse" in config or "stem" in config
                continue
            config = dataclasses.replace(config, data=dataclasses.replace(config.data, root="somewhere"))
            if config.data.dataset == "synthetic":
                config = dataclasses.replace(config, data=dataclasses.replace(config.data, root=None))
            config.check()
            assert architecture(config).conflicts() == []
        sides = [(side, one.model) for one in shrunk if isinstance(one, Config) for side in one.augment.crop_size]
        assert not [side for side, model in sides if side % model.output_stride]


def test_full_scale_is_the_published_experiment() -> None:
    for table in PAPER_TABLES:
        for row in table.rows:
            if row.config is None or row.only_small:
                continue
            for one in (*row.before, row.config):
                stage = configure(
                    table, dataclasses.replace(row, config=one), Setting(data=table.data, root=None, small=False)
                )
                assert stage == EXPERIMENTS[one().name]() and not row.change


@pytest.mark.parametrize(
    ("table", "row", "base", "expected"),
    [
        ("table1", "duc", "baseline", {"model.head"}),
        ("table1", "duc-ds4", "duc", {"model.output_stride"}),
        ("table1", "duc-aspp6-cell2", "duc-aspp6", {"model.cell"}),
        (
            "table1",
            "duc-no-augmentation",
            "duc",
            {"augment.scale", "augment.mirror", "augment.colour_jitter"},
        ),
        ("table1", "duc-bigger-patch", "duc-aspp6-cell2", {"augment.crop_size"}),
        ("table2", "hdc-bigger", "hdc-none", {"model.dilation"}),
        ("table3", "resnet152", "resnet101", {"model.encoder"}),
        ("deconv", "deconv2", "duc", {"model.head"}),
        ("heads", "duc-16", "duc-8", {"model.output_stride"}),
        ("heads", "duc-8", "bilinear-8", {"model.head", "model.cell"}),
        ("dilation", "rf-patch", "rf", {"augment.crop_size"}),
        ("augmentation", "no-mirror", "all", {"augment.mirror"}),
    ],
)
def test_small_keeps_what_is_studied_and_changes_nothing_else(
    table: str, row: str, base: str, expected: set[str]
) -> None:
    rows = {one.name: one for one in TABLES[table].rows}
    ours, theirs = (small(TABLES[table], rows[name], "camvid") for name in (row, base))
    assert isinstance(ours, Config) and isinstance(theirs, Config)
    ours, theirs = (dataclasses.asdict(one) for one in (ours, theirs))
    found = {
        f"{section}.{name}"
        for section in ("model", "data", "augment", "optimizer", "loss", "run")
        for name in ours[section]
        if ours[section][name] != theirs[section][name]
    }
    assert found == expected


def test_cityscapes_keeps_its_patches_and_coarse_frames_at_small_scale() -> None:
    rows = {row.name: row for row in (*TABLES["table1"].rows, *TABLES["table3"].rows)}
    made = {name: small(TABLES["table1"], row, "cityscapes") for name, row in rows.items()}
    kept = {name: (one.data.patches, one.data.coarse) for name, one in made.items() if isinstance(one, Config)}
    assert kept["duc"] == ("12-fold", False) and kept["duc-no-augmentation"] == (None, False)
    assert kept["duc-bigger-patch"] == ("7-fold", False) and kept["resnet101-coarse"] == ("7-fold", True)


@pytest.mark.parametrize(
    ("table", "data", "full"),
    [
        ("table1", "kitti-road", False),
        ("table5", "camvid", False),
        ("table1", "camvid", True),
        ("table5", "synthetic", True),
    ],
)
def test_other_data_than_the_tables_is_refused(table: str, data: str, full: bool) -> None:
    chosen = TABLES[table]
    with pytest.raises(UserError, match=f"--data {data}: .*{chosen.data}"):
        configure(chosen, chosen.rows[0], Setting(data=data, root="somewhere", small=not full))


def test_no_unverified_number_is_printed_as_the_papers() -> None:
    """PROTOCOL's [?] numbers: 72.9 and 75.4 of Table 2; tags are those of its table."""
    rows = {f"{table.name} {row.name}": row.paper for table in PAPER_TABLES for row in table.rows}
    assert rows["table2 hdc-none"] is rows["table2 hdc-rf"] is rows["table5 duc"] is None
    assert {str(one) for one in rows.values()}.isdisjoint({"72.9 [P]", "75.4 [P]", "72.9 [2]", "75.4 [2]"})
    assert str(rows["table1 baseline"]) == "72.3 [P]" and str(rows["table1 duc-aspp6"]) == "74.5 [D]"
    assert str(rows["table4 better-network-scales"]) == "80.1 [P]" and str(rows["table6 duc"]) == "83.1 [P]"


def test_stages_start_from_one_another_at_full_scale_and_have_one_budget_at_small(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_train=2, num_val=1, height=48, width=64)
    (row,) = (row for row in TABLES["table4"].rows if row.name == "fcn8s")
    made = []
    for scale in (False, True):
        setting = Setting(data="cityscapes", root=str(tmp_path), small=scale)
        (job,) = make_jobs(TABLES["table4"], [row], setting, (3,), lambda config: config, tmp_path / "runs")[0]
        made.append(job)
    last, small = made
    assert last.first is not None and last.first.first is not None and last.first.first.first is None
    assert [job.config.model.head for job in (last.first.first, last.first, last)] == ["fcn32s", "fcn16s", "fcn8s"]
    assert last.config.model.weights == str(tmp_path / "runs" / last.first.folder / "last")
    assert last.made_by["start"] == last.first.key and last.first.config.run.seed == 3
    assert small.first is None and small.config.model.weights is None


def test_fields_are_changed_by_dotted_name() -> None:
    base = EXPERIMENTS["synthetic-duc"]()
    assert changed(base, {"model.head": "bilinear", "run.seed": 3}) == dataclasses.replace(
        base,
        model=dataclasses.replace(base.model, head="bilinear"),
        run=dataclasses.replace(base.run, seed=3),
    )
