import { setTimeout as sleep } from 'node:timers/promises'
import { Pool, type Dispatcher } from 'undici'
import { announce, answer } from './child.ts'
import type { LoadOrder, LoadReport } from './load-client.ts'
import { clientHeaders } from './payloads.ts'
import { quantile } from './statistics.ts'

/**
 * The clients, in a process of their own so that their work is nobody else's CPU time: a fixed number of requests
 * by a fixed number of clients, each of which asks again as soon as it has its answer. Every answer is checked.
 */

const pools = new Map<string, Pool>()

function findPool(origin: string): Pool {
  const pool =
    pools.get(origin) ??
    new Pool(origin, { connections: 8192, keepAliveTimeout: 3_000, headersTimeout: 120_000 })
  pools.set(origin, pool)
  return pool
}

type Target = { pool: Pool; path: string; headers: Record<string, string> }

type Tally = LoadReport & { firstByteTimesMs: number[]; open: number }

const LF = 0x0a

/** Events end with an empty line; one may be cut between two reads. */
function countEvents(chunk: Buffer, state: { endedWithLf: boolean }): number {
  let events = 0
  let previous = state.endedWithLf
  for (const byte of chunk) {
    const lf = byte === LF
    if (lf && previous) events += 1
    previous = lf && !previous
  }
  state.endedWithLf = previous
  return events
}

function describeMistake(
  order: LoadOrder,
  got: { status: number; bytes: number; events: number },
): string | null {
  if (got.status !== (order.expect.status ?? 200)) return `status ${got.status}`
  if (order.expect.bytes !== undefined && got.bytes !== order.expect.bytes) return `${got.bytes} bytes`
  if (order.expect.events !== undefined && got.events !== order.expect.events) return `${got.events} events`
  return null
}

function send(target: Target, order: LoadOrder, number: number, tally: Tally): Promise<void> {
  const { pool, path, headers } = target
  const body = order.bodies[number % order.bodies.length] as string
  const request: Dispatcher.DispatchOptions = {
    method: 'POST',
    path,
    headers,
    body,
  }
  const startedAtMs = performance.now()
  const got = { status: 0, bytes: 0, events: 0 }
  const lines = { endedWithLf: false }
  const tail: Buffer[] = []
  return new Promise((resolve) => {
    const finish = (mistake: string | null) => {
      if (got.bytes > 0) tally.open -= 1
      tally.completed += mistake === null ? 1 : 0
      if (mistake !== null) {
        tally.failed += 1
        tally.firstFailure ??= mistake
      }
      resolve()
    }
    pool.dispatch(request, {
      onRequestStart() {},
      onResponseStart(_controller, status) {
        got.status = status
      },
      onResponseData(_controller, chunk) {
        if (got.bytes === 0) {
          tally.firstByteTimesMs.push(performance.now() - startedAtMs)
          tally.open += 1
          tally.openPeak = Math.max(tally.openPeak, tally.open)
        }
        got.bytes += chunk.length
        tally.reads += 1
        if (order.expect.events !== undefined) got.events += countEvents(chunk, lines)
        if (order.countTokens) tail.push(chunk)
      },
      onResponseEnd() {
        tally.events += got.events
        if (order.countTokens) tally.tokens += readTokens(Buffer.concat(tail).toString())
        finish(describeMistake(order, got))
      },
      onResponseError(_controller, error) {
        finish(error.message)
      },
    })
  })
}

function readTokens(text: string): number {
  return Number(/"completion_tokens":\s*(\d+)/.exec(text)?.[1] ?? 0)
}

async function run(order: LoadOrder): Promise<LoadReport> {
  const { origin, pathname } = new URL(order.url)
  const headers = { ...clientHeaders, ...order.headers }
  const target: Target = { pool: findPool(origin), path: pathname, headers }
  const tally: Tally = {
    completed: 0, failed: 0, firstFailure: null, wallMs: 0, reads: 0, events: 0, tokens: 0, openPeak: 0, open: 0,
    firstByteMs: { p50: 0, p99: 0 }, firstByteTimesMs: [],
  } // prettier-ignore
  const startedAtMs = performance.now()
  let started = 0
  const client = async (number: number) => {
    // Spread out, or all clients would ask in the same instant, again and again.
    if (order.staggerMs) await sleep((order.staggerMs * number) / order.clients)
    while (started < order.requests) {
      started += 1
      await send(target, order, started, tally)
      // Clients that one hitch of the machine has brought into step would stay in step.
      if (order.pauseMsMax) await sleep(order.pauseMsMax * Math.random())
    }
  }
  await Promise.all(Array.from({ length: order.clients }, (_, number) => client(number)))
  tally.wallMs = performance.now() - startedAtMs
  const { firstByteTimesMs, open: _open, ...report } = tally
  return {
    ...report,
    firstByteMs: { p50: quantile(firstByteTimesMs, 0.5), p99: quantile(firstByteTimesMs, 0.99) },
  }
}

answer((order) => run(order as LoadOrder))
announce()
