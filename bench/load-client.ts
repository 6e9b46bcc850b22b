import { ask, cores, launchOwn, type Core } from './processes.ts'

export type LoadOrder = {
  /** The whole address, such as `http://127.0.0.1:8080/v1/chat/completions`. */
  url: string
  /** Beside those that every client sends. */
  headers: Record<string, string>
  /** Sent in turn. */
  bodies: readonly string[]
  requests: number
  clients: number
  /** The clients begin spread over this time. */
  staggerMs?: number
  /** Before each further request a client waits a random time up to this. */
  pauseMsMax?: number
  /** What each answer must have; status 200 where none is named. */
  expect: { status?: number; bytes?: number; events?: number }
  /** Adds up `usage.completion_tokens` of the answers. */
  countTokens?: boolean
}

export type LoadReport = {
  completed: number
  failed: number
  firstFailure: string | null
  wallMs: number
  /** Pieces that the answers arrived in, and events in them. */
  reads: number
  events: number
  tokens: number
  /** Most answers that were under way at once: begun and not yet complete. */
  openPeak: number
  firstByteMs: { p50: number; p99: number }
}

export type Load = { run(order: LoadOrder): Promise<LoadReport> }

/** Starts the process that plays the clients. A failed request fails the benchmark: its figures would mean nothing. */
export async function startLoad(core: Core = cores.load): Promise<Load> {
  const { program } = await launchOwn({ name: 'load', file: 'load.ts', core })
  return {
    run: async (order) => {
      const report = (await ask(program, order)) as LoadReport
      if (report.failed === 0) return report
      throw new Error(
        `${report.failed} of ${order.requests} requests to ${order.url} failed: ${report.firstFailure}`,
      )
    },
  }
}
