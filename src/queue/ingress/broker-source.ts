import type { Clock } from '../../core/clock.ts'
import type { Logger } from '../../telemetry/log.ts'
import { Intake } from './intake.ts'
import { keepOpen, type Session } from './reconnect.ts'
import {
  readAddress,
  type BrokerAddress,
  type IngressConfig,
  type SourceParts,
  type TaskSource,
} from './source.ts'

export type SessionParts = {
  config: IngressConfig
  address: BrokerAddress
  /** Takes the messages of this session, and is closed with it. */
  intake: Intake
  clock: Clock
  log: Logger
}

/** Connects to one kind of broker and takes messages from it. Rejects when that can't be done now. */
type OpenSession = (parts: SessionParts) => Promise<Session>

/** Takes tasks from a broker from start to stop, one session after another. */
export class BrokerSource implements TaskSource {
  readonly name: string
  connected = false
  readonly #config: IngressConfig
  readonly #parts: SourceParts
  readonly #open: OpenSession
  readonly #address: BrokerAddress
  readonly #log: Logger
  #stopping: AbortController | null = null
  #running: Promise<void> = Promise.resolve()

  /** Throws SetupError. */
  constructor(config: IngressConfig, parts: SourceParts, open: OpenSession) {
    this.name = `ingress ${config.name}`
    this.#config = config
    this.#parts = parts
    this.#open = open
    this.#address = readAddress(config, parts.env)
    this.#log = parts.log.child({ source: config.name, broker: this.#address.host })
  }

  start(): Promise<void> {
    if (this.#stopping) return Promise.resolve()
    this.#stopping = new AbortController()
    const { clock, random = Math.random } = this.#parts
    const onChange = (connected: boolean) => (this.connected = connected)
    const open = () => this.#openSession()
    this.#running = keepOpen({ open, clock, log: this.#log, random, onChange }, this.#stopping.signal)
    return Promise.resolve()
  }

  async stop(): Promise<void> {
    this.#stopping?.abort()
    await this.#running
    this.#stopping = null
  }

  #openSession(): Promise<Session> {
    const { queue, clock, rules, count } = this.#parts
    const { name } = this.#config
    const log = this.#log
    const intake = new Intake({ queue, clock, log, rules, count: (kind) => count?.(name, kind) })
    return this.#open({ config: this.#config, address: this.#address, intake, clock, log })
  }
}
