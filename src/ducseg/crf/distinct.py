"""Number the distinct ones of many 64-bit keys in ascending order, on all cores."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ducseg.crf.simd import compiled, inner
from ducseg.crf.workers import Workers

__all__ = ["Distinct", "distinct"]

DENSE = 4  # a table with a place for every possible key is used up to this many places per key
SAMPLE = 4096  # entries by which the keys are cut into ranges of about equal numbers of entries


@dataclass(frozen=True)
class Distinct:
    """keys (M,) int64 ascending, and for each entry the index of its key: numbers (E,) int32."""

    keys: npt.NDArray[np.int64]
    numbers: npt.NDArray[np.int32]


def distinct(entries: npt.NDArray[np.int64], stride: int, span: int, workers: Workers) -> Distinct:
    """What np.unique(entries, return_inverse=True) gives, for (E,) int64 keys from 0 to `span`.

    Entries `stride` apart are often equal. Where keys are few, every possible key has a place in a table; else each
    thread takes the keys of a range, finds the distinct ones with a hash table and sorts them.
    """
    numbers = np.empty(len(entries), np.int32)
    if span <= DENSE * len(entries):
        seen = np.zeros(span, np.bool_)
        workers.ranges(_mark, len(entries), entries, seen)
        places = np.cumsum(seen, dtype=np.int32) - np.int32(1)
        workers.ranges(_look_up, len(entries), entries, places, numbers)
        return Distinct(np.flatnonzero(seen), numbers)

    sample = np.sort(entries[:: max(1, len(entries) // SAMPLE)])
    inner_cuts = [int(sample[len(sample) * i // workers.threads]) for i in range(1, workers.threads)]
    cuts = np.array([0, *inner_cuts, span + 1], np.int64)

    def number(share: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        found = _intern(cuts[share], cuts[share + 1], entries, stride, workers.threads, numbers)
        order = np.argsort(found)
        places = np.empty(len(found), np.int32)
        places[order] = np.arange(len(found), dtype=np.int32)
        return found[order], places

    keys, places = (np.concatenate(parts) for parts in zip(*workers.each(number, workers.threads)))
    workers.ranges(_renumber, len(entries), entries, cuts, np.searchsorted(keys, cuts), places, numbers)
    return Distinct(keys, numbers)


@compiled
def _mark(first: int, last: int, entries: Any, seen: Any) -> None:
    for entry in range(first, last):
        seen[entries[entry]] = True


@compiled
def _look_up(first: int, last: int, entries: Any, places: Any, numbers: Any) -> None:
    for entry in range(first, last):
        numbers[entry] = places[entries[entry]]


@compiled
def _renumber(first: int, last: int, entries: Any, cuts: Any, begins: Any, places: Any, numbers: Any) -> None:
    """Turn each entry's number within its share into its number among all."""
    share = 0
    for entry in range(first, last):
        key = entries[entry]
        while key < cuts[share]:
            share -= 1
        while key >= cuts[share + 1]:
            share += 1
        numbers[entry] = begins[share] + places[begins[share] + numbers[entry]]


@inner
def _spread(key: int) -> np.uint64:
    """Spread a key over 64 bits (Fibonacci hashing); the top bits are the good ones."""
    return np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)


@compiled
def _intern(low: int, high: int, entries: Any, stride: int, shares: int, numbers: Any) -> Any:
    """Number the distinct keys from `low` to below `high` from 0, write each entry's number, return the keys in order.

    The hash table holds numbers (-1: empty) and is at most half full; keys are looked up by number, for those seen last
    lie side by side.
    """
    bits, used = 12, 0
    while (8 * shares) << bits < len(entries):  # an eighth of the entries are distinct, or more: spares growing
        bits += 1
    table, found = _empty_table(bits), np.empty(1 << (bits - 1), np.int64)
    for entry in range(len(entries)):
        key = entries[entry]
        if key < low or key >= high:
            continue
        if entry >= stride and entries[entry - stride] == key:
            numbers[entry] = numbers[entry - stride]
            continue
        spread = _spread(key)
        slot = np.int64(spread >> np.uint64(64 - bits))
        while table[slot] >= 0 and found[table[slot]] != key:
            slot = (slot + 1) & (len(table) - 1)
        if table[slot] >= 0:
            numbers[entry] = table[slot]
            continue
        if used == len(found):
            bits += 1
            table, found = _grown(found, bits)
            slot = np.int64(spread >> np.uint64(64 - bits))
            while table[slot] >= 0:
                slot = (slot + 1) & (len(table) - 1)
        table[slot], found[used], numbers[entry] = used, key, used
        used += 1
    return found[:used].copy()


@inner
def _empty_table(bits: int) -> Any:
    table = np.empty(1 << bits, np.int32)
    for slot in range(len(table)):
        table[slot] = -1
    return table


@inner
def _grown(keys: Any, bits: int) -> Any:
    """A table with 2**bits slots of these keys, numbered in order, and room for as many keys more."""
    table, room = _empty_table(bits), np.empty(1 << (bits - 1), np.int64)
    for number in range(len(keys)):
        room[number] = keys[number]
        slot = np.int64(_spread(keys[number]) >> np.uint64(64 - bits))
        while table[slot] >= 0:
            slot = (slot + 1) & (len(table) - 1)
        table[slot] = number
    return table, room
