import type { TestContext } from 'node:test'
import pino from 'pino'
import { WebhookSender, type SenderParts } from '../../../src/queue/webhooks/sender.ts'
import type { WebhookSettings } from '../../../src/queue/webhooks/settings.ts'
import { ManualClock } from '../../helpers/clock.ts'
import { FakeUpstream } from '../../helpers/upstream.ts'
import { FakeOutbox } from './fake-outbox.ts'

export const secret = Buffer.alloc(32, 7)
export const secretText = `whsec_${secret.toString('base64')}`
export const rules: WebhookSettings = {
  secrets: [secret],
  allowPrivate: true,
  timeoutMs: 10_000,
  attemptsMax: 3,
}

type Bench = { outbox: FakeOutbox; clock: ManualClock; sender: WebhookSender; lines: string[] }

/** A sender at work on a store in memory, stopped at the end of the test. */
export async function begin(t: TestContext, more: Partial<SenderParts> & { rules?: WebhookSettings; outbox?: FakeOutbox } = {}): Promise<Bench> {
  const { rules: own, outbox = new FakeOutbox(), ...parts } = more
  const clock = (more.clock as ManualClock | undefined) ?? new ManualClock()
  const lines: string[] = []
  const log = pino({ level: 'trace' }, { write: (line: string) => void lines.push(line) })
  const sender = new WebhookSender({ store: outbox.store, clock, settings: () => own ?? rules, log, random: () => 0.5, ...parts })
  await sender.start()
  t.after(() => sender.stop())
  return { outbox, clock, sender, lines }
} // prettier-ignore

/** A receiver whose statuses are given one after the other; the last one stays. */
export async function receive(t: TestContext, ...statuses: number[]): Promise<FakeUpstream> {
  const receiver = await FakeUpstream.start((_request, response) => {
    const status = statuses.length > 1 ? statuses.shift() : statuses[0]
    response.writeHead(status ?? 204, status === 302 ? { location: '/elsewhere' } : {}).end()
  })
  t.after(() => receiver.stop())
  return receiver
}

export const hook = (receiver: FakeUpstream, path = '/hook') => `http://127.0.0.1:${receiver.port}${path}`
