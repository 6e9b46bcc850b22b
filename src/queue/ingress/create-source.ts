import { NatsSource } from './nats.ts'
import { RabbitSource } from './rabbitmq.ts'
import type { IngressConfig, SourceParts, TaskSource } from './source.ts'

/** The source that the URL of an entry asks for. Throws SetupError. */
export function createSource(config: IngressConfig, parts: SourceParts): TaskSource {
  return /^amqps?:/.test(config.url) ? new RabbitSource(config, parts) : new NatsSource(config, parts)
}
