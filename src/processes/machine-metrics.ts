import type { Clock } from '../core/clock.ts'
import { keepTotals, mergeMetrics, type MetricsSnapshot } from '../telemetry/merge-metrics.ts'
import { Counter, Gauge, type MetricsRegistry } from '../telemetry/metrics.ts'
import type { GatewayProcess, GatewayProcesses } from './gateway-processes.ts'

/** A process that does not answer by then is shown as it was when it last did. */
const answerMs = 1_000
/** Processes that are gone: beyond so many, their totals are added up. */
const goneMax = 8

/** What says something of each process by itself, where a sum would hide it: our name, and the family it is read from. */
const perProcess = [
  ['autoglm_process_requests', 'Requests that a gateway process has ended since it began.', 'http_requests_total'],
  ['autoglm_process_cpu_seconds', 'CPU time of a gateway process since it began.', 'process_cpu_seconds_total'],
  ['autoglm_process_resident_bytes', 'Resident memory of a gateway process.', 'process_resident_memory_bytes'],
  ['autoglm_process_eventloop_lag_seconds', 'How far the event loop of a gateway process is behind.', 'nodejs_eventloop_lag_seconds'],
] as const // prettier-ignore

/** /metrics of several processes as of one server, whichever of them is asked. */
export class MachineMetrics {
  readonly #metrics: MetricsRegistry
  readonly #processes: Pick<GatewayProcesses, 'serving' | 'restarts'>
  readonly #clock: Clock
  readonly #last = new Map<GatewayProcess, MetricsSnapshot>()
  #gone: MetricsSnapshot[] = []
  #isAdding = false
  #asking: Promise<string> | null = null

  constructor(parts: {
    metrics: MetricsRegistry
    processes: Pick<GatewayProcesses, 'serving' | 'restarts'>
    clock: Clock
  }) {
    this.#metrics = parts.metrics
    this.#processes = parts.processes
    this.#clock = parts.clock
    this.#exposeProcesses()
  }

  /** The text of all. Who asks while others wait gets the same. */
  expose(): Promise<string> {
    this.#asking ??= this.#ask().finally(() => (this.#asking = null))
    return this.#asking
  }

  /** One that served is gone; what it has counted stays counted, as far as it was shown. */
  forget(process: GatewayProcess): void {
    const last = this.#last.get(process)
    this.#last.delete(process)
    if (!last) return
    this.#gone.push(keepTotals(last))
    void this.#addUp()
  }

  async #ask(): Promise<string> {
    await Promise.all(this.#processes.serving.map((process) => this.#read(process)))
    const own = await this.#metrics.read()
    return mergeMetrics([own, ...this.#last.values(), ...this.#gone]).metrics()
  }

  async #read(process: GatewayProcess): Promise<void> {
    const late = Promise.withResolvers<null>()
    const cancel = this.#clock.after(answerMs, () => late.resolve(null))
    const asked = process.wire.ask<MetricsSnapshot>('read-metrics', null).catch(() => null)
    const snapshot = await Promise.race([asked, late.promise])
    cancel()
    // It may be gone by now.
    if (snapshot && this.#processes.serving.includes(process)) this.#last.set(process, snapshot)
  }

  async #addUp(): Promise<void> {
    // One at a time: a second one would not know the total that the first is about to put in the place of its parts.
    if (this.#isAdding) return
    this.#isAdding = true
    while (this.#gone.length > goneMax) {
      const taken = [...this.#gone]
      const total = await mergeMetrics(taken).read()
      this.#gone = [total, ...this.#gone.slice(taken.length)]
    }
    this.#isAdding = false
  }

  #exposeProcesses(): void {
    const family = (name: string, help: string, ...labelNames: string[]) => ({ name, help, labelNames })
    const metrics = this.#metrics
    new Gauge(metrics, family('autoglm_gateway_processes', 'Gateway processes that serve.'), (gauge) => {
      gauge.cell().value = this.#processes.serving.length
    })
    const restarts = family(
      'autoglm_gateway_process_restarts_total',
      'Gateway processes that took the place of another.',
    )
    new Counter(metrics, restarts, (counter) => {
      counter.cell().value = this.#processes.restarts
    })
    for (const [name, help, source] of perProcess) {
      new Gauge(metrics, family(name, help, 'process'), (gauge) => {
        for (const [{ number }, snapshot] of this.#last) {
          gauge.cell(String(number)).value = sum(snapshot, source)
        }
      })
    }
  }
}

function sum(snapshot: MetricsSnapshot, name: string): number {
  const values = snapshot.find((family) => family.name === name)?.values ?? []
  return values.reduce((total, { value }) => total + value, 0)
}
