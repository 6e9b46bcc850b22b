import type { Channel, ConfirmChannel, ChannelModel } from 'amqplib'
import type { Logger } from '../../telemetry/log.ts'
import { describe } from './reconnect.ts'

export type Topology = { queue: string; deadExchange: string; deadQueue: string }

export const nameTopology = (queue: string): Topology => ({
  queue,
  deadExchange: `${queue}.dlx`,
  deadQueue: `${queue}.dead`,
})

/**
 * Makes the queue, the exchange of its dead letters and their queue, where they are not there yet. A queue that
 * somebody declared otherwise is used as it is: its arguments can't be changed, and to refuse it would help nobody.
 */
export async function declareTopology(
  model: ChannelModel,
  topology: Topology,
  deliveriesMax: number,
  log: Logger,
): Promise<void> {
  const { queue, deadExchange, deadQueue } = topology
  const steps: [string, (channel: Channel) => Promise<unknown>][] = [
    [deadExchange, (channel) => channel.assertExchange(deadExchange, 'fanout', { durable: true })],
    [deadQueue, (channel) => channel.assertQueue(deadQueue, { durable: true, arguments: { 'x-queue-type': 'quorum' } })],
    [deadQueue, (channel) => channel.bindQueue(deadQueue, deadExchange, '')],
    [queue, (channel) => channel.assertQueue(queue, { durable: true, arguments: queueArguments(deadExchange, deliveriesMax) })],
  ] // prettier-ignore
  for (const [name, declare] of steps) {
    // A refusal closes the channel, so each has one of its own.
    await withChannel(model, declare).catch((error: unknown) => {
      if ((error as { code?: number }).code !== preconditionFailed) throw error
      log.warn({ queue: name, reason: describe(error) }, 'declared otherwise before; it is used as it is')
    })
  }
}

const preconditionFailed = 406

/** At least once: a message that is dead-lettered stays until the other queue has it. That needs reject-publish. */
const queueArguments = (deadExchange: string, deliveriesMax: number) => ({
  'x-queue-type': 'quorum',
  'x-delivery-limit': deliveriesMax,
  'x-dead-letter-exchange': deadExchange,
  'x-dead-letter-strategy': 'at-least-once',
  'x-overflow': 'reject-publish',
})

async function withChannel(model: ChannelModel, run: (channel: Channel) => Promise<unknown>): Promise<void> {
  const channel = await model.createChannel()
  // The same error rejects the promise of the call.
  channel.on('error', () => {})
  await run(channel)
  await channel.close()
}

/** Publishes and waits for the broker's word that it has the message. */
export function publishConfirmed(
  channel: ConfirmChannel,
  exchange: string,
  content: Buffer,
  options: Parameters<ConfirmChannel['publish']>[3],
): Promise<void> {
  return new Promise((resolve, reject) => {
    const onConfirm = (error: unknown) => {
      if (error === null || error === undefined) resolve()
      else reject(error instanceof Error ? error : new Error('the broker refused it'))
    }
    channel.publish(exchange, '', content, options, onConfirm)
  })
}
