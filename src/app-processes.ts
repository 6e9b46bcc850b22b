import type { ApiSideParts, Front } from './app-api.ts'
import type { TaskSide } from './app-tasks.ts'
import type { Clock } from './core/clock.ts'
import type { Service } from './core/service.ts'
import { MirrorHost } from './fleet/mirror/mirror-host.ts'
import { hostLimits } from './gateway/limits/shared/wire-authority.ts'
import { MemoryAuthority } from './gateway/limits/shared/memory-authority.ts'
import { GatewayProcesses } from './processes/gateway-processes.ts'
import { MachineMetrics } from './processes/machine-metrics.ts'
import type { MachineState } from './processes/messages.ts'
import { hostNews } from './queue/news.ts'
import { hostSignals } from './queue/shared-signals.ts'
import { hostStore } from './storage/remote/store-host.ts'

/** How often the others are told of what changes slowly. */
const stateEveryMs = 500
/** By then a process that is well has taken over another configuration. */
const reloadMs = 5_000

/**
 * Gateway processes, and what this one does for them: it has the storage, the fleet, the tasks and the limits, and they
 * reach all of it over their wires. `app-gateway.ts` is their side of it.
 */
export function buildProcesses(parts: ApiSideParts & { tasks: TaskSide }): Front {
  const { config, store, registry, router, metrics, clock, log, writeLine, version, tasks } = parts
  const mirror = new MirrorHost({ registry, clock, models: router.health })
  const authority = new MemoryAuthority(clock)
  const news = {
    progress: (id: string, tell: (tokens: number | null) => void) => {
      const look = () => tell(tasks.progress.read(id))
      look()
      return tasks.progress.watch(id, look)
    },
    events: (id: string, tell: (value: null) => void) => tasks.responseEvents.watch(id, () => tell(null)),
  }
  const readState = (): MachineState => ({
    storageProblem: parts.storageProblem(),
    endsPerSecond: tasks.progress.endsPerSecond,
  })
  const processes = new GatewayProcesses({
    ...{ config, clock, log, writeLine, version },
    count: config().server.processes,
    state: readState,
    attach: (member) => {
      const { wire } = member
      hostStore(wire, store)
      hostLimits(wire, authority)
      hostSignals(wire, tasks.live)
      hostNews(wire, news, clock)
      mirror.attach(wire)
      wire.on('batch', () => tasks.wakeBatches())
      wire.on('metrics', () => machine.expose())
    },
    onLost: (member) => machine.forget(member),
  })
  const machine = new MachineMetrics({ metrics, processes, clock })
  const telling = repeat(clock, stateEveryMs, () => processes.broadcast('state', readState()))
  return {
    get url() {
      return processes.url
    },
    services: [mirror, telling, processes],
    drain: () => processes.stop(),
    cut: () => processes.kill(),
    async reload(next) {
      const asked = processes.wires.map((wire) => wire.ask('reload', next).catch(() => {}))
      await Promise.race([Promise.all(asked), clock.sleep(reloadMs)])
    },
  }
}

/** Does something again and again between its start and its stop. */
function repeat(clock: Clock, everyMs: number, run: () => void): Service {
  let end = () => {}
  return {
    name: 'machine state',
    start: () => Promise.resolve(void (end = clock.every(everyMs, run))),
    stop: () => Promise.resolve(end()),
  }
}
