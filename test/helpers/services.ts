import { connect } from 'node:net'

/** The servers that the real tests of storage and ingress talk to. Each address can be set for another machine. */
const services = {
  postgresql: { env: 'AUTOGLM_TEST_POSTGRES', url: 'postgres://postgres@127.0.0.1:5432/postgres' },
  rabbitmq: { env: 'AUTOGLM_TEST_RABBITMQ', url: 'amqp://guest:guest@127.0.0.1:5672' },
  nats: { env: 'AUTOGLM_TEST_NATS', url: 'nats://127.0.0.1:4222' },
} as const

const defaultPorts: Record<string, number> = { 'postgres:': 5432, 'amqp:': 5672, 'nats:': 4222 }

export type ServiceName = keyof typeof services

/** Where the server of the tests is. */
export const serviceUrl = (name: ServiceName): string => process.env[services[name].env] ?? services[name].url

/** Whether anything listens there. */
export function probeService(name: ServiceName): Promise<boolean> {
  const url = new URL(serviceUrl(name))
  const port = Number(url.port) || defaultPorts[url.protocol] || 0
  return new Promise((resolve) => {
    const socket = connect({ host: url.hostname, port })
    const answer = (reachable: boolean) => {
      socket.destroy()
      resolve(reachable)
    }
    socket.setTimeout(1_000, () => answer(false))
    socket.once('connect', () => answer(true))
    socket.once('error', () => answer(false))
  })
}

/**
 * For `skip` of a suite: false when the server is there, else the reason. Where CI is 'true' a server that is away is
 * a failure: a suite that was never run must not look like one that passed.
 */
export async function serviceSkip(name: ServiceName): Promise<false | string> {
  if (await probeService(name)) return false
  const { host } = new URL(serviceUrl(name))
  const reason = `${name} is not reachable at ${host}; set ${services[name].env} to where it is`
  if (process.env['CI'] === 'true') throw new Error(reason)
  return reason
}

/** As `serviceSkip`, for use inside a test: throws in CI, else says whether the server is there and prints why not. */
export async function requireService(name: ServiceName): Promise<boolean> {
  const reason = await serviceSkip(name)
  if (reason !== false) console.log(`SKIPPED: ${reason}`)
  return reason === false
}
