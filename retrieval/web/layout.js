// Rows of equal height that fill a width, as pages of photographs are set. Sizes are CSS pixels.

const WIDEST = 3.2; // a panorama of 10:1 would be a row of its own, 100 pixels high
const TALLEST = 0.45;

export function ratio({ width, height }) {
  return Math.min(WIDEST, Math.max(TALLEST, width / height || 1));
}

/**
 * Rows of whole-pixel boxes in order: [{height, widths}, ...]. A row is closed where its height comes closest to
 * `target`; the last one stays at `target` where it cannot fill the width without growing past it.
 */
export function rows(ratios, { width, target, gap }) {
  const found = [];
  let row = [];
  let sum = 0;
  const filling = (total, count) => (width - gap * (count - 1)) / total;
  for (const one of ratios) {
    const before = row.length ? filling(sum, row.length) : Infinity;
    const after = filling(sum + one, row.length + 1);
    if (after < target && before - target < target - after) {
      found.push(filled(row, before, width, gap));
      [row, sum] = [[], 0];
    }
    row.push(one);
    sum += one;
  }
  if (!row.length) return found;
  const height = filling(sum, row.length);
  found.push(height <= target ? filled(row, height, width, gap) : sized(row, target));
  return found;
}

function sized(row, height) {
  return { height: Math.round(height), widths: row.map((one) => Math.max(1, Math.floor(one * height))) };
}

/** Rounding leaves some pixels, at most one a picture: the last one takes them, and the edge is straight. */
function filled(row, height, width, gap) {
  const set = sized(row, height);
  const used = set.widths.reduce((total, one) => total + one, gap * (row.length - 1));
  set.widths[row.length - 1] += Math.floor(width - used);
  return set;
}
