import { connect, type ChannelModel, type ConfirmChannel, type ConsumeMessage } from 'amqplib'
import type { ApiError } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { SessionParts } from './broker-source.ts'
import type { Delivery } from './intake.ts'
import type { Incoming } from './message.ts'
import { declareTopology, nameTopology, publishConfirmed, type Topology } from './rabbitmq-topology.ts'
import { describe, type Session } from './reconnect.ts'

const connectTimeoutMs = 10_000
/** Two in a row that stay away end the connection: a half-open one is found within 30 s. */
const heartbeatSeconds = 10
const closeMs = 5_000
const reasonCharsMax = 500

/** Takes tasks from a queue of RabbitMQ. */
export async function openRabbit(parts: SessionParts): Promise<Session> {
  const { protocol, host, port, user, password, path } = parts.address
  const place = {
    protocol,
    hostname: host,
    ...(port === null ? {} : { port }),
    ...(path === '' ? {} : { vhost: path }),
  }
  const who = user === '' && password === '' ? {} : { username: user, password }
  const model = await connect(
    { ...place, ...who, heartbeat: heartbeatSeconds },
    { timeout: connectTimeoutMs, noDelay: true, clientProperties: { connection_name: 'open-autoglm' } },
  )
  // Without a listener an error of the connection would end the process.
  const ended = Promise.withResolvers<string>()
  model.on('error', (error) => ended.resolve(describe(error)))
  model.on('close', (error) => ended.resolve(error ? describe(error) : 'the broker closed the connection'))
  try {
    return await consume(model, ended, parts)
  } catch (error) {
    await model.close().catch(() => {})
    throw error
  }
}

async function consume(
  model: ChannelModel,
  ended: PromiseWithResolvers<string>,
  { config, intake, clock, log }: SessionParts,
): Promise<Session> {
  const { queue, prefetch, deliveriesMax } = config
  const topology = nameTopology(queue)
  await declareTopology(model, topology, deliveriesMax, log)
  const channel = await model.createConfirmChannel()
  channel.on('error', (error) => ended.resolve(describe(error)))
  channel.on('close', () => ended.resolve('the broker closed the channel'))
  await channel.prefetch(prefetch)
  const { consumerTag } = await channel.consume(queue, (message) => {
    if (message) intake.take(new RabbitDelivery({ channel, message, topology, deliveriesMax, log }))
    else ended.resolve('the queue was removed')
  })
  const disconnect = async () => {
    await channel.cancel(consumerTag).catch(() => {})
    await intake.close()
    // Sends what was acknowledged; what was not goes back to the queue.
    await channel.close().catch(() => {})
    await model.close().catch(() => {})
  }
  const close = async () => {
    // A broker that has gone silent, or takes nothing for want of memory, must not hold up the end.
    await Promise.race([disconnect(), clock.sleep(closeMs)])
    // With an error, or the client would not notice and go on beating its heart.
    const { stream } = model.connection as { stream?: { destroy(error: Error): void } }
    stream?.destroy(new Error('closed'))
  }
  let closing: Promise<void> | null = null
  return { ended: ended.promise, close: () => (closing ??= close()) }
}

type RabbitDeliveryParts = {
  channel: ConfirmChannel
  message: ConsumeMessage
  topology: Topology
  deliveriesMax: number
  log: Logger
}

class RabbitDelivery implements Delivery {
  readonly incoming: Incoming
  readonly isLast: boolean
  readonly #channel: ConfirmChannel
  readonly #message: ConsumeMessage
  readonly #topology: Topology
  readonly #log: Logger

  constructor({ channel, message, topology, deliveriesMax, log }: RabbitDeliveryParts) {
    this.#channel = channel
    this.#message = message
    this.#topology = topology
    this.#log = log
    this.incoming = readEnvelope(message, topology.queue)
    // Quorum queues say how often it came back before this delivery.
    this.isLast = Number(message.properties.headers?.['x-delivery-count'] ?? 0) + 1 >= deliveriesMax
  }

  accept(): void {
    this.#try(() => this.#channel.ack(this.#message))
  }

  /**
   * A copy with the reason goes to the exchange of the dead letters, and the message is acknowledged when the broker
   * has the copy. Where that fails, the broker moves it by itself, without the reason.
   */
  async bury(error: ApiError): Promise<void> {
    const { content, properties } = this.#message
    try {
      await publishConfirmed(
        this.#channel,
        this.#topology.deadExchange,
        content,
        copyProperties(properties, error),
      )
      this.#try(() => this.#channel.ack(this.#message))
    } catch (failure) {
      this.#log.warn({ reason: describe(failure) }, 'a refused message has no reason on it')
      this.#try(() => this.#channel.nack(this.#message, false, false))
    }
  }

  giveBack(): void {
    this.#try(() => this.#channel.nack(this.#message, false, true))
  }

  /** On a channel that is gone every message is given back by the broker. */
  #try(run: () => void): void {
    try {
      run()
    } catch (error) {
      this.#log.debug({ reason: describe(error) }, 'the channel is gone')
    }
  }
}

/** What of a message matters. Without a message id two deliveries of one message can't be told from two messages. */
export function readEnvelope(
  message: Pick<ConsumeMessage, 'content' | 'properties'>,
  queue: string,
): Incoming {
  const { headers, messageId, priority } = message.properties
  const tenant: unknown = headers?.['x-tenant']
  const named: unknown = headers?.['x-priority']
  const hasId = typeof messageId === 'string' && messageId !== ''
  return {
    body: message.content,
    tenant: tenant === undefined ? undefined : String(tenant),
    priority: typeof named === 'string' || typeof named === 'number' ? named : toBandOf(priority),
    idempotencyKey: hasId ? `amqp:${queue}:${messageId}` : null,
  }
}

/** AMQP's priorities go from 0 to 9, the most urgent last; bands go from 0, the most urgent, to 100. */
function toBandOf(priority: unknown): number | undefined {
  return typeof priority === 'number' ? Math.round(((9 - Math.min(9, priority)) / 9) * 100) : undefined
}

/** As it was, but for what would keep the copy from its place: its expiry, further recipients, another user's name. */
function copyProperties(properties: ConsumeMessage['properties'], error: ApiError): object {
  const {
    expiration: _expiry,
    userId: _user,
    clusterId: _cluster,
    deliveryMode: _mode,
    headers,
    ...rest
  } = properties
  const { CC: _cc, BCC: _bcc, ...own } = headers ?? {}
  const reason = {
    'x-error-code': error.code,
    'x-error': error.message.slice(0, reasonCharsMax),
    'x-error-param': error.param ?? '',
  }
  const given = Object.entries(rest).filter(([, value]) => value !== undefined)
  return { ...Object.fromEntries(given), headers: { ...own, ...reason }, persistent: true }
}
