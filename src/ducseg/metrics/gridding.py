"""A score of gridding: how much of score maps repeats with the period of a dilation rate (paper section 3.2, Figure 5).

A layer of rate r leaves r * r grids of places that know nothing of each other. What it does to one of them it does not
do to its neighbours, so its output has a lattice of period r: energy at the frequencies (i, j) / r, whatever the
picture shows. Spectra of pictures, noise and edges are smooth there, or have a ridge that also passes beside it.

So maps are cut into windows of at least four periods, half over one another, each tapered (Hann) and transformed
(Welch's method: a lattice may shift its phase from one part of a map to another). The spectrum is flattened by the
power of frequency that fits it best beside the lattice. Then the energy at each frequency of the lattice is divided by
that beside it, halfway to the next or nearer: the largest, over four directions, of the geometric mean of two opposite
sides. A peak stands above its sides in every direction; a ridge in none. The score is the mean of these ratios, in dB:
over the lattice's lowest frequencies, where a smooth lattice shows, or over all, where dots do, whichever is more.
White noise of a thousandth of the maps' variance is added to all, so that what nobody would see has no score.

Legend: C maps of (h, w) places, P the period in places, W the side of a window in places, m = W / P.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ducseg.errors import explain

__all__ = ["FEWEST", "GRIDS", "Lattice", "PeriodScore"]

GRIDS = 3.0
"""dB above the lattice's neighbours in frequency, and above the pictures', from which on a network is said to grid.
LOG.md has what it follows from."""

FEWEST = 16
"""Windows, from which on a period is judged: of fewer the score is uncertain by more than `GRIDS`."""

_PERIODS = 4
_NARROWEST = 16  # places
_BESIDE = 2  # frequencies of a window: where a Hann window's peak has ended
_UNSEEN = 1e-3  # of the variance


class Lattice:
    """Energy of maps on the lattice of one period and beside it; maps of many pictures add up.

    Args:
        period: P, at least 2.

    Attributes:
        window: W; smaller maps say nothing and are left out.
        windows: how many were counted.
    """

    def __init__(self, period: int) -> None:
        if period < 2:
            raise explain("period", found=period, needed="at least 2 places", fix="A rate of 1 leaves no lattice.")
        self.period, self.windows = period, 0
        self._step = max(_PERIODS, 2 * math.ceil(_NARROWEST / (2 * period)))  # m, even
        self.window = self._step * period
        taper = np.hanning(self.window + 1)[:-1]
        self._taper = np.outer(taper, taper)
        self._energy = np.zeros((self.window, self.window // 2 + 1))

    def add(self, maps: NDArray[np.floating]) -> None:
        """Count maps (C, h, w) of one picture; their sizes are weighed against each other as they are."""
        for window in _windows(maps, self.window):
            tapered = window - (window * self._taper).sum((1, 2), keepdims=True) / self._taper.sum()
            self._energy += (np.abs(np.fft.rfft2(tapered * self._taper)) ** 2).sum(0)
            self.windows += 1

    @property
    def score(self) -> float | None:
        """In dB: 0 where the lattice has as much as its neighbours in frequency; None without a window or energy."""
        ratios = self._ratios()
        if not ratios:
            return None
        lowest = [ratio for (i, j), ratio in ratios.items() if max(abs(i), abs(j)) == 1]
        return 10 * math.log10(max(float(np.mean(lowest)), float(np.mean(list(ratios.values())))))

    @property
    def share(self) -> float | None:
        """How much of the maps' variance within windows the lattice makes up beyond its neighbours, 0 to 1."""
        ratios = self._ratios()
        if not ratios:
            return None
        beyond = 0.0
        for (i, j), ratio in ratios.items():
            mirrored = 1 if 2 * i % self.period == 0 == 2 * j % self.period else 2  # a frequency and its negative
            beyond += mirrored * self._at(self._energy, i, j) * max(0.0, 1 - 1 / ratio)
        return min(1.0, 2.25 * beyond / self._total())  # a peak's energy in a Hann window is 1.5 x 1.5 times its top

    def _total(self) -> float:
        return float(2 * self._energy.sum() - self._energy[:, 0].sum() - self._energy[:, -1].sum())

    def _ratios(self) -> dict[tuple[int, int], float]:
        """Energy at each frequency (i, j) / P of a half plane over that of its neighbours."""
        if not self.windows or not self._energy.any():
            return {}
        flat, found = self._flattened(), {}
        side = _BESIDE / self._step
        for i, j in _half_plane(self.period):
            beside = (
                math.sqrt(self._at(flat, i - di, j - dj) * self._at(flat, i + di, j + dj))
                for di, dj in ((side, 0), (0, side), (side, side), (side, -side))
            )
            found[i, j] = self._at(flat, i, j) / max(beside)
        return found

    def _flattened(self) -> NDArray[np.float64]:
        """The spectrum, with unseen noise, without the power of frequency that fits it beside the lattice."""
        energy = self._energy + _UNSEEN * self._total() / self.window**2
        rows, columns = np.fft.fftfreq(self.window)[:, None], np.fft.rfftfreq(self.window)[None]
        frequency = np.hypot(np.sin(np.pi * rows), np.sin(np.pi * columns))  # level at Nyquist's, as sampled maps are
        frequency[0, 0] = 1
        off_lattice = [abs(f * self.period - np.rint(f * self.period)) > 1.5 / self._step for f in (rows, columns)]
        beside = off_lattice[0] | off_lattice[1]
        power, _ = np.polyfit(np.log(frequency[beside]), np.log(energy[beside]), 1)
        return np.asarray(energy / frequency**power)

    def _at(self, spectrum: NDArray[np.float64], row: float, column: float) -> float:
        """Energy at the frequency (row, column) / P."""
        rows, columns = round(row * self._step), round(column * self._step) % self.window
        if columns > self.window // 2:  # the spectrum of real maps is even
            rows, columns = -rows, self.window - columns
        return float(spectrum[rows % self.window, columns])


def _half_plane(period: int) -> Iterator[tuple[int, int]]:
    """The frequencies (i, j) / P up to Nyquist's, one of each and its negative."""
    for row in range(-((period - 1) // 2), period // 2 + 1):
        for column in range(-((period - 1) // 2), period // 2 + 1):
            mirrored = tuple((-n if -2 * n != -period else n) for n in (row, column))
            if (row, column) != (0, 0) and (row, column) >= mirrored:
                yield row, column


def _windows(maps: NDArray[np.floating], side: int) -> Iterator[NDArray[np.floating]]:
    """(C, side, side), about half over one another, over all of the maps."""
    rows, columns = (_starts(length, side) for length in maps.shape[1:])
    for top in rows:
        for left in columns:
            yield maps[:, top : top + side, left : left + side]


def _starts(length: int, side: int) -> list[int]:
    if length < side:
        return []
    count = 1 + math.ceil(2 * (length - side) / side)
    return [round(place) for place in np.linspace(0, length - side, count)]


@dataclass(frozen=True, kw_only=True)
class PeriodScore:
    """The lattice of one period.

    Attributes:
        pixels: the period.
        rates: of the convolutions that have it, each with the stride of its grid.
        trained: the network's score in dB; None: the pictures are smaller than four periods, or the period is none of
            the scores' grid.
        fresh: of the same architecture with random weights.
        pictures: of the pictures, averaged over the grid's cells.
        share: of the score maps' variance that the lattice makes up beyond its neighbours.
        windows: how many of four periods were looked at.
    """

    pixels: int
    rates: tuple[tuple[int, int], ...]
    trained: float | None
    fresh: float | None
    pictures: float | None
    share: float | None
    windows: int

    @property
    def excess(self) -> float | None:
        """dB above the neighbours in frequency and above the pictures."""
        return None if self.trained is None else self.trained - max(0.0, self.pictures or 0.0)

    @property
    def judged(self) -> bool:
        """Whether there were windows enough to say."""
        return self.trained is not None and self.windows >= FEWEST

    @property
    def grids(self) -> bool:
        """Whether that is `GRIDS` or more, in windows enough."""
        return self.judged and self.excess is not None and self.excess >= GRIDS
