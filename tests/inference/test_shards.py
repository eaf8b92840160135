import pytest
from hypothesis import given
from hypothesis import strategies as st

from ducseg.errors import UserError
from ducseg.inference.shards import Shard, parse_shard, shard_from


@given(st.lists(st.integers(), unique=True), st.integers(1, 9))
def test_shards_are_each_item_once_and_differ_by_one_at_most(items: list[int], count: int) -> None:
    parts = [Shard(index, count).of(items) for index in range(count)]
    assert sorted(item for part in parts for item in part) == sorted(items)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("text", ["", "1", "4/4", "5/4", "-1/4", "1/0", "0/0", "a/b", "1/2/3", "1.0/2", "0/4 x", "²/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--shard: .*I from 0 to N - 1"):
        parse_shard(text)


def test_the_first_and_the_last() -> None:
    assert parse_shard("0/4") == Shard(0, 4)
    assert parse_shard(" 3 / 4 ") == Shard(3, 4)
    assert str(Shard(3, 4)) == "3/4"


SLURM = {"SLURM_PROCID": "1", "SLURM_NTASKS": "4"}
TORCHRUN = {"RANK": "2", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (SLURM, (1, 4, None)),
        (SLURM | {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "1"}, (1, 4, 1)),
        (SLURM | {"SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}, None),  # the batch script itself runs once
        (TORCHRUN, (2, 3, 0)),
        (SLURM | TORCHRUN, (2, 3, 0)),  # torchrun below srun, one a machine
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"} | SLURM, (1, 4, None)),
        ({"SLURM_NTASKS": "4"}, None),  # a shell of salloc
    ],
)
def test_what_started_several_processes_says_which_this_is(
    environment: dict[str, str], expected: tuple[int, int, int | None] | None
) -> None:
    found = shard_from(environment)
    assert (found and (found.index, found.count, found.local)) == expected


@pytest.mark.parametrize("wrong", [("4", "4"), ("x", "4"), ("0", "many"), ("-1", "4")])
def test_variables_that_are_no_part(wrong: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=r"SLURM_PROCID and SLURM_NTASKS: .*--shard I/N"):
        shard_from(dict(zip(SLURM, wrong)))
