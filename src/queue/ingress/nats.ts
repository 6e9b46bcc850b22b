import {
  jetstream,
  jetstreamManager,
  type Consumer,
  type ConsumerMessages,
  type JetStreamClient,
  type JsMsg,
} from '@nats-io/jetstream'
import { connect, headers as makeHeaders, Match, type NatsConnection } from '@nats-io/transport-node'
import { fail, type ApiError } from '../../core/errors.ts'
import type { Logger } from '../../telemetry/log.ts'
import type { SessionParts } from './broker-source.ts'
import type { Delivery, Intake } from './intake.ts'
import type { Incoming } from './message.ts'
import { declareStreams, type StreamNames } from './nats-topology.ts'
import { describe, type Session } from './reconnect.ts'

const connectTimeoutMs = 10_000
/** Two that stay without an answer end the connection: a half-open one is found within 30 s. */
const pingIntervalMs = 10_000
const fetchMs = 5_000
const closeMs = 5_000
const reasonCharsMax = 500

/** Takes tasks from a subject of NATS that a stream of JetStream keeps. */
export async function openNats(parts: SessionParts): Promise<Session> {
  const { protocol, host, port, user, password } = parts.address
  const bracketed = host.includes(':') ? `[${host}]` : host
  const connection = await connect({
    servers: `${bracketed}:${port ?? 4222}`,
    name: 'open-autoglm',
    timeout: connectTimeoutMs,
    // What is lost with a connection is delivered again; one way of coming back is enough.
    reconnect: false,
    pingInterval: pingIntervalMs,
    maxPingOut: 2,
    ...(user !== '' && password !== '' ? { user, pass: password } : {}),
    // NATS's own convention: a name without a password is a token.
    ...((user === '') !== (password === '') ? { token: user + password } : {}),
    ...(protocol === 'tls' ? { tls: {} } : {}),
  })
  try {
    return await consume(connection, parts)
  } catch (error) {
    await connection.close().catch(() => {})
    throw error
  }
}

async function consume(connection: NatsConnection, parts: SessionParts): Promise<Session> {
  const { intake, clock, log } = parts
  const { queue, prefetch, deliveriesMax } = parts.config
  const manager = await jetstreamManager(connection)
  const names = await declareStreams(manager, queue, prefetch)
  const client = jetstream(connection)
  const consumer = await client.consumers.get(names.stream, names.consumer)
  const puller = new Puller(
    consumer,
    intake,
    prefetch,
    (message) => new NatsDelivery({ client, message, names, deliveriesMax, log }),
  )
  // What waits here for the queue is not to be delivered to another process meanwhile.
  const endKeeping = clock.every(names.ackWaitMs / 3, () => {
    for (const delivery of intake.deliveries) (delivery as NatsDelivery).keep()
  })
  const closed = connection.closed().then((error) => (error ? describe(error) : 'the connection was closed'))
  const close = async () => {
    endKeeping()
    puller.stop()
    const settled = intake.close().then(() => connection.flush())
    await Promise.race([settled.catch(() => {}), closed, clock.sleep(closeMs)])
    await connection.close().catch(() => {})
  }
  let closing: Promise<void> | null = null
  return { ended: Promise.race([closed, puller.run()]), close: () => (closing ??= close()) }
}

/** Asks for as many messages as there is room for, again and again. */
class Puller {
  readonly #consumer: Consumer
  readonly #intake: Intake
  readonly #prefetch: number
  readonly #toDelivery: (message: JsMsg) => NatsDelivery
  #messages: ConsumerMessages | null = null
  #stopped = false

  constructor(
    consumer: Consumer,
    intake: Intake,
    prefetch: number,
    toDelivery: (message: JsMsg) => NatsDelivery,
  ) {
    this.#consumer = consumer
    this.#intake = intake
    this.#prefetch = prefetch
    this.#toDelivery = toDelivery
  }

  /** Resolves with the reason why no more can be asked for; never rejects. */
  async run(): Promise<string> {
    try {
      while (!this.#stopped) {
        const room = this.#prefetch - this.#intake.size
        if (room <= 0) await this.#intake.left()
        else await this.#pull(room)
      }
      return 'stopped'
    } catch (error) {
      return describe(error)
    }
  }

  stop(): void {
    this.#stopped = true
    this.#messages?.stop()
  }

  async #pull(room: number): Promise<void> {
    this.#messages = await this.#consumer.fetch({ max_messages: room, expires: fetchMs })
    for await (const message of this.#messages) {
      if (this.#stopped) return
      const delivery = this.#toDelivery(message)
      if (delivery.isSpent) void delivery.bury(fail('internal', { message: 'Delivered too often.' }))
      else this.#intake.take(delivery)
    }
  }
}

type NatsDeliveryParts = {
  client: JetStreamClient
  message: JsMsg
  names: StreamNames
  deliveriesMax: number
  log: Logger
}

class NatsDelivery implements Delivery {
  readonly incoming: Incoming
  readonly isLast: boolean
  /** Delivered more often than is allowed: whoever had it before did not live to say what is wrong with it. */
  readonly isSpent: boolean
  readonly #parts: NatsDeliveryParts

  constructor(parts: NatsDeliveryParts) {
    this.#parts = parts
    this.incoming = readEnvelope(parts.message, parts.names.stream)
    const { deliveryCount } = parts.message.info
    this.isLast = deliveryCount >= parts.deliveriesMax
    this.isSpent = deliveryCount > parts.deliveriesMax
  }

  accept(): void {
    this.#parts.message.ack()
  }

  /** A copy with the reason goes to the subject of the dead letters; then the message is ended. */
  async bury(error: ApiError): Promise<void> {
    const { client, message, names, log } = this.#parts
    const headers = makeHeaders()
    for (const [key, values] of message.headers ?? []) {
      // The server's own headers would be orders: a message id that is known makes the copy vanish.
      if (/^nats-/i.test(key)) continue
      for (const value of values) headers.append(key, value)
    }
    headers.set('x-error-code', error.code)
    headers.set('x-error', toLine(error.message))
    if (error.param !== null) headers.set('x-error-param', toLine(error.param))
    try {
      await client.publish(names.deadSubject, message.data, {
        headers,
        msgID: `${names.stream}:${toIdentity(message)}`,
      })
      message.term()
    } catch (failure) {
      log.warn(
        { reason: describe(failure) },
        'a refused message is kept: its dead letter could not be written',
      )
    }
  }

  giveBack(): void {
    this.#parts.message.nak()
  }

  keep(): void {
    this.#parts.message.working()
  }
}

/** Headers are lines. */
const toLine = (text: string): string => text.replaceAll(/[\r\n]+/g, ' ').slice(0, reasonCharsMax)

/** One message of a stream for ever: a stream that is made anew counts from 1 again, but at another time. */
const toIdentity = (message: Pick<JsMsg, 'seq' | 'timestampNanos'>): string =>
  `${message.seq}:${message.timestampNanos}`

/** What of a message matters. One without a `Nats-Msg-Id` is known by its place in the stream. */
export function readEnvelope(
  message: Pick<JsMsg, 'data' | 'headers' | 'seq' | 'timestampNanos'>,
  stream: string,
): Incoming {
  const header = (name: string) => message.headers?.get(name, Match.IgnoreCase) || undefined
  return {
    body: message.data,
    tenant: header('x-tenant'),
    priority: header('x-priority'),
    idempotencyKey: `nats:${stream}:${header('Nats-Msg-Id') ?? toIdentity(message)}`,
  }
}
