import { strict as assert } from 'node:assert'
import { test } from 'node:test'
import { Counter, Gauge, Histogram, MetricsRegistry } from '../../src/telemetry/metrics.ts'
import { formatPretty } from '../../src/telemetry/log.ts'

test('the exposition is what Prometheus reads: counters, gauges read live, cumulative buckets, escaped labels', async () => {
  const registry = new MetricsRegistry()
  const requests = new Counter(registry, { name: 'c_total', help: 'C.', labelNames: ['a', 'b'] })
  requests.cell('x', 'say "hi"\n').value += 2
  assert.equal(requests.cell('x', 'say "hi"\n').value, 2)
  let live = ['one', 'two']
  new Gauge(registry, { name: 'g', help: 'G.', labelNames: ['id'] }, (gauge) => {
    for (const id of live) gauge.cell(id).value = 1
  })
  const times = new Histogram(registry, { name: 'h', help: 'H.', labelNames: [], bounds: [1, 2] })
  for (const value of [0.5, 1, 1.5, 9]) times.cell().observe(value)
  const text = await registry.expose()
  assert.ok(text.includes('# TYPE c_total counter\nc_total{a="x",b="say \\"hi\\"\\n"} 2'), text)
  assert.ok(text.includes('g{id="one"} 1\ng{id="two"} 1'))
  assert.ok(
    text.includes('h_bucket{le="1"} 2\nh_bucket{le="2"} 3\nh_bucket{le="+Inf"} 4\nh_sum 12\nh_count 4'),
  )
  live = ['two']
  assert.ok(!(await registry.expose()).includes('g{id="one"}'), 'what is gone is still shown')
})

test('a pretty line shows its fields and leaves out what is empty', () => {
  const line = JSON.stringify({
    level: 40,
    time: '2026-01-02T03:04:05.678Z',
    msg: 'hm',
    a: 1,
    b: null,
    c: ['x'],
  })
  assert.equal(formatPretty(line), '03:04:05.678 WARN  hm a=1 c=["x"]\n')
})
