// What dilation rates cover, in the browser: the numbers of ducseg.ops.check, and the picture of `ducseg hdc --figure`.
(() => {
  "use strict";
  const LARGEST_FIELD = 4001, LARGEST_KERNEL = 15;

  const sum = (numbers) => numbers.reduce((total, one) => total + one, 0);
  const gcd = (a, b) => (b ? gcd(b, a % b) : a);

  /** Equation 2: [M_1, ..., M_n]; the goal is M_2 <= K. */
  function maxGaps(rates) {
    const gaps = [rates.at(-1)];
    for (const rate of rates.slice(0, -1).reverse()) gaps.unshift(Math.max(gaps[0] - 2 * rate, 2 * rate - gaps[0], rate));
    return gaps;
  }

  /** Paths from each offset to the centre along one dimension; two are the product of one with itself. */
  function paths(rates, kernel) {
    let found = [1];
    for (const rate of rates) {
      const wider = new Array(found.length + (kernel - 1) * rate).fill(0);
      for (let tap = 0; tap < kernel; tap++) found.forEach((count, place) => (wider[place + tap * rate] += count));
      found = wider;
    }
    return found;
  }

  function check(rates, kernel = 3) {
    const reached = paths(rates, kernel), side = reached.length, covered = reached.filter(Boolean).length;
    const gaps = maxGaps(rates), ok = covered === side;
    return {
      ok, gaps, equation_2: gaps[Math.min(1, gaps.length - 1)] <= kernel, gcd: rates.reduce(gcd),
      covered_fraction: covered ** 2 / side ** 2, holes: side ** 2 - covered ** 2, receptive_field: side,
    };
  }

  /** Non-decreasing rates of `layers` layers that cover and sum to `total`: r_k is at most 1 + (K - 1) (r_1 + ... + r_{k-1}). */
  function* schedules(layers, step, total, rates = []) {
    const sofar = sum(rates), left = layers - rates.length;
    if (left === 0) { if (sofar === total) yield rates; return; }
    for (let rate = rates.at(-1) ?? 1; rate <= 1 + step * sofar; rate++) {
      if (total - sofar < left * rate) return;
      let farthest = sofar + rate;
      for (let layer = 1; layer < left; layer++) farthest += 1 + step * farthest;
      if (farthest >= total) yield* schedules(layers, step, total, [...rates, rate]);
    }
  }

  /** The evenest schedule without holes that has as many layers and at least this field, or the farthest that they reach. */
  function wayOut(rates, kernel = 3) {
    const step = kernel - 1, side = 1 + step * sum(rates), layers = rates.length;
    const total = Math.max(layers, Math.min(Math.ceil((side - 1) / step), (kernel ** layers - 1) / step));
    let best = null, seen = 0;
    for (const found of schedules(layers, step, total)) {
      if (best === null || found.at(-1) < best.at(-1)) best = found;
      if (++seen === 10000) break;
    }
    return { rates: best, receptive_field: 1 + step * total };
  }

  function draw(canvas, rates, kernel) {
    const counts = paths(rates, kernel).map((count) => Math.log1p(count)), side = counts.length, most = Math.max(...counts) || 1;
    canvas.width = canvas.height = side;
    const context = canvas.getContext("2d"), picture = context.createImageData(side, side);
    for (let place = 0; place < side * side; place++) {
      const here = (counts[Math.floor(place / side)] * counts[place % side]) / most ** 2;
      picture.data.set(here ? [255 - 215 * here, 240 - 150 * here, 255 - 75 * here, 255] : [226, 75, 40, 255], 4 * place);
    }
    context.putImageData(picture, 0, 0);
  }

  function show(page) {
    const rates = page.querySelector("[name=rates]").value.trim().split(/[\s,]+/).map(Number);
    const kernel = Number(page.querySelector("[name=kernel]").value), told = page.querySelector("output");
    const whole = (number) => Number.isInteger(number) && number >= 1;
    if (!rates.every(whole) || !whole(kernel) || kernel < 2 || kernel > LARGEST_KERNEL || 1 + (kernel - 1) * sum(rates) > LARGEST_FIELD) {
      told.textContent = `Whole rates of at least 1, a kernel of 2 to ${LARGEST_KERNEL}, a field of at most ${LARGEST_FIELD} pixels; such as 1 2 5 9.`;
      return;
    }
    const found = check(rates, kernel), out = found.ok ? null : wayOut(rates, kernel);
    told.textContent = [
      found.ok ? "Covers its receptive field: no gridding." : "Leaves holes: gridding.",
      `Receptive field ${found.receptive_field} x ${found.receptive_field}; covered ${(100 * found.covered_fraction).toFixed(1)} % (${found.holes} holes).`,
      `Equation 2: ${found.gaps.map((gap, index) => `M_${index + 1} = ${gap}`).join(", ")}; the goal M_2 <= ${kernel} is ${found.equation_2 ? "met" : "missed"}.`,
      `Common factor: ${found.gcd > 1 ? found.gcd : "none"}.`,
      ...(out ? [`Without holes, ${rates.length} layers: ${out.rates.join(" ")} (receptive field ${out.receptive_field}).`] : []),
    ].join("\n");
    draw(page.querySelector("canvas"), rates, kernel);
  }

  globalThis.ducsegCoverage = { check, wayOut, maxGaps };
  if (typeof document === "undefined") return;
  const page = document.getElementById("designer");
  if (page === null) return;
  page.addEventListener("input", () => show(page));
  page.addEventListener("submit", (event) => event.preventDefault());
  show(page);
})();
