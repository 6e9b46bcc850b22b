import type { Clock } from '../core/clock.ts'
import type { TaskStore } from '../storage/task-store.ts'
import { Counter, Gauge, Histogram, type MetricsRegistry } from '../telemetry/metrics.ts'

const secondsBounds = [0.01, 0.05, 0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400]
/** The depths are read from the store this often, and not at each scrape: it is the store that must not be asked often. */
const depthsMs = 5_000

/** What there is to be seen of tasks. */
export class QueueMetrics {
  readonly #claimed: Counter
  readonly #settled: Counter
  readonly #waitSeconds: Histogram
  readonly #runSeconds: Histogram
  readonly #lost: Counter
  readonly #moved: Counter
  #depths: Awaited<ReturnType<TaskStore['depths']>> = []
  #runningHere: () => number = () => 0
  #tasksMax: () => Iterable<readonly [model: string, tasks: number]> = () => []

  constructor(registry: MetricsRegistry) {
    const family = (name: string, help: string, ...labelNames: string[]) => ({ name, help, labelNames })
    new Gauge(
      registry,
      family(
        'autoglm_tasks',
        'Tasks of all tenants by model and status, as of some seconds ago.',
        'model',
        'status',
      ),
      (gauge) => {
        for (const { model, status, tasks } of this.#depths) gauge.cell(model, status).value = tasks
      },
    )
    new Gauge(registry, family('autoglm_tasks_running_here', 'Tasks that this process runs.'), (gauge) => {
      gauge.cell().value = this.#runningHere()
    })
    new Gauge(
      registry,
      family(
        'autoglm_tasks_allowed',
        'Tasks that may run beside live requests, by pool of instances.',
        'pool',
      ),
      (gauge) => {
        for (const [pool, tasks] of this.#tasksMax()) gauge.cell(pool).value = tasks
      },
    )
    this.#claimed = new Counter(registry, family('autoglm_task_claims_total', 'Tasks claimed here.', 'model'))
    this.#settled = new Counter(
      registry,
      family('autoglm_task_settles_total', 'Attempts ended here, by outcome.', 'outcome'),
    )
    this.#lost = new Counter(
      registry,
      family('autoglm_task_leases_lost_total', 'Attempts given to somebody else before they had ended here.'),
    )
    this.#moved = new Counter(
      registry,
      family(
        'autoglm_task_moves_total',
        'Tasks moved on by time: promoted, expired, rescued, pruned.',
        'move',
      ),
    )
    this.#waitSeconds = new Histogram(registry, {
      ...family(
        'autoglm_task_wait_seconds',
        'From the submission, or the time set for it, to the first claim.',
      ),
      bounds: secondsBounds,
    })
    this.#runSeconds = new Histogram(registry, {
      ...family('autoglm_task_run_seconds', 'Length of one attempt, by outcome.', 'outcome'),
      bounds: secondsBounds,
    })
  }

  watchDispatcher(parts: {
    runningHere: () => number
    tasksMax: () => Iterable<readonly [model: string, tasks: number]>
  }): void {
    this.#runningHere = parts.runningHere
    this.#tasksMax = parts.tasksMax
  }

  claimed(model: string, tasks: number): void {
    this.#claimed.cell(model).value += tasks
  }

  waited(ms: number): void {
    this.#waitSeconds.cell().observe(Math.max(0, ms) / 1000)
  }

  settled(outcome: string, ranMs: number): void {
    this.#settled.cell(outcome).value += 1
    this.#runSeconds.cell(outcome).observe(ranMs / 1000)
  }

  lost(): void {
    this.#lost.cell().value += 1
  }

  moved(move: 'promoted' | 'expired' | 'rescued' | 'pruned', tasks: number): void {
    this.#moved.cell(move).value += tasks
  }

  /** Reads the depths every few seconds until the returned function is called. */
  watchDepths(tasks: Pick<TaskStore, 'depths'>, clock: Clock): () => void {
    let asking = false
    const read = () => {
      if (asking) return
      asking = true
      tasks.depths().then(
        (depths) => {
          this.#depths = depths
          asking = false
        },
        // Shown as they were: whoever needs the store will say that it is away.
        () => (asking = false),
      )
    }
    read()
    return clock.every(depthsMs, read)
  }
}
