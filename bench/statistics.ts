/** The value that a share `p` (0 to 1) of the values lies below, interpolated. NaN for no values. */
export function quantile(values: readonly number[], p: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  const at = (sorted.length - 1) * p
  const below = sorted[Math.floor(at)] ?? Number.NaN
  const above = sorted[Math.ceil(at)] ?? Number.NaN
  return below + (above - below) * (at - Math.floor(at))
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5)
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** The median of the quotients of each pair: what both met in the same moment cancels out. */
export function medianRatio(values: readonly number[], references: readonly number[]): number {
  return median(values.map((value, i) => value / (references[i] ?? Number.NaN)))
}

/** The slope of the line of least squares through `(x, y)`. */
export function slope(points: readonly { x: number; y: number }[]): number {
  const x0 = mean(points.map(({ x }) => x))
  const y0 = mean(points.map(({ y }) => y))
  const covariance = points.reduce((sum, { x, y }) => sum + (x - x0) * (y - y0), 0)
  const variance = points.reduce((sum, { x }) => sum + (x - x0) ** 2, 0)
  return covariance / variance
}
