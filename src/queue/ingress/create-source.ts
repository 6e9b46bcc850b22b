import { BrokerSource } from './broker-source.ts'
import { openNats } from './nats.ts'
import { openRabbit } from './rabbitmq.ts'
import type { IngressConfig, SourceParts, TaskSource } from './source.ts'

/** The source that the URL of an entry asks for. Throws SetupError. */
export const createSource = (config: IngressConfig, parts: SourceParts): TaskSource =>
  new BrokerSource(config, parts, /^amqps?:/.test(config.url) ? openRabbit : openNats)
