import {
  AckPolicy,
  DeliverPolicy,
  JetStreamApiCodes,
  JetStreamApiError,
  RetentionPolicy,
  StorageType,
  type JetStreamManager,
} from '@nats-io/jetstream'
import { millis, nanos } from '@nats-io/transport-node'

/** A message that is not settled and not said to be in work for this long is delivered again. */
const ackWaitMs = 30_000
const durableName = 'autoglm'
/** Of all processes that share the consumer. */
const ackPendingMin = 1_000

export type StreamNames = {
  stream: string
  consumer: string
  deadSubject: string
  /** Of the consumer as it is, for somebody may have made it otherwise. */
  ackWaitMs: number
}

/**
 * Makes the stream of a subject and its consumer, and the stream of the dead letters, where they are not there yet.
 * A stream that takes the subject already is used as it is. The number of deliveries is counted here and not by the
 * server, which would keep a message of too many deliveries where no one finds it.
 */
export async function declareStreams(
  manager: JetStreamManager,
  subject: string,
  prefetch: number,
): Promise<StreamNames> {
  const deadSubject = `${subject}.dead`
  const stream = await findOrAdd(manager, subject, RetentionPolicy.Workqueue)
  await findOrAdd(manager, deadSubject, RetentionPolicy.Limits)
  const consumer = `${durableName}_${toStreamName(subject)}`
  const { config } = await manager.consumers.info(stream, consumer).catch((error: unknown) => {
    if (!isCode(error, JetStreamApiCodes.ConsumerNotFound)) throw error
    return manager.consumers.add(stream, {
      durable_name: consumer,
      ack_policy: AckPolicy.Explicit,
      ack_wait: nanos(ackWaitMs),
      deliver_policy: DeliverPolicy.All,
      filter_subject: subject,
      max_deliver: -1,
      max_ack_pending: Math.max(ackPendingMin, prefetch * 16),
    })
  })
  return { stream, consumer, deadSubject, ackWaitMs: millis(config.ack_wait ?? nanos(ackWaitMs)) }
}

async function findOrAdd(
  manager: JetStreamManager,
  subject: string,
  retention: RetentionPolicy,
): Promise<string> {
  try {
    return await manager.streams.find(subject)
  } catch {
    const name = toStreamName(subject)
    const config = { name, subjects: [subject], retention, storage: StorageType.File }
    await manager.streams.add(config).catch(async (error: unknown) => {
      // Another process was faster; any other reason is told by the first error.
      await manager.streams.find(subject).catch(() => {
        throw error
      })
    })
    return name
  }
}

/** Names of streams hold no dots: `autoglm.tasks` -> `autoglm_tasks`. */
const toStreamName = (subject: string): string => subject.replaceAll('.', '_')

const isCode = (error: unknown, code: number): boolean =>
  error instanceof JetStreamApiError && error.code === code
