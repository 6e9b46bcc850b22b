import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { keepTotals, mergeMetrics } from '../../src/telemetry/merge-metrics.ts'
import { Counter, Gauge, Histogram, MetricsRegistry } from '../../src/telemetry/metrics.ts'

/** What one process shows. */
function makeProcess(requests: number, seconds: readonly number[], levels: { own: number; shared: number }) {
  const metrics = new MetricsRegistry()
  const family = (name: string) => ({ name, help: `${name}.`, labelNames: ['model'] })
  new Counter(metrics, family('requests_total')).cell('m').value = requests
  const durations = new Histogram(metrics, { ...family('seconds'), bounds: [1, 10] })
  for (const value of seconds) durations.cell('m').observe(value)
  new Gauge(metrics, family('own')).cell('m').value = levels.own
  new Gauge(metrics, { ...family('shared'), together: 'first' }).cell('m').value = levels.shared
  new Gauge(metrics, { ...family('worst'), together: 'max' }).cell('m').value = levels.own
  return metrics
}

test('counters, histograms and gauges of several processes are shown by their own rules', async () => {
  const one = makeProcess(3, [0.5, 5], { own: 2, shared: 7 })
  const other = makeProcess(4, [20], { own: 5, shared: 6 })
  const text = await mergeMetrics([await one.read(), await other.read()]).metrics()
  const lines = text.split('\n')
  for (const line of [
    'requests_total{model="m"} 7',
    'seconds_bucket{le="1",model="m"} 1',
    'seconds_bucket{le="10",model="m"} 2',
    'seconds_bucket{le="+Inf",model="m"} 3',
    'seconds_sum{model="m"} 25.5',
    'seconds_count{model="m"} 3',
    'own{model="m"} 7',
    'shared{model="m"} 7',
    'worst{model="m"} 5',
  ]) {
    const [name = '', value] = line.split(/ (?=[\d.]+$)/)
    const sorted = (text: string) => text.split(/[{},]/).sort().join()
    const found = lines.some((candidate) => {
      const [series = '', shown] = candidate.split(/ (?=[\d.]+$)/)
      return sorted(series) === sorted(name) && shown === value
    })
    assert.ok(found, `${line} is not in\n${text}`)
  }
  assert.equal(lines.filter((line) => line.startsWith('# TYPE requests_total')).length, 1)
})

test('of a process that is gone, what was counted stays and what was measured goes', async () => {
  const gone = keepTotals(await makeProcess(3, [0.5], { own: 2, shared: 7 }).read())
  assert.deepEqual(gone.map(({ name }) => name).sort(), ['requests_total', 'seconds'])
})

test('what merging gives can be merged again', async () => {
  const snapshot = await makeProcess(3, [0.5], { own: 2, shared: 7 }).read()
  const twice = await mergeMetrics([snapshot, snapshot]).read()
  const text = await mergeMetrics([twice, snapshot]).metrics()
  assert.match(text, /requests_total\{model="m"\} 9\n/)
})
