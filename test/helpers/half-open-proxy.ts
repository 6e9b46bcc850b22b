import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { once } from 'node:events'

/** A TCP proxy that can fall silent: connections stay open, and not a byte passes any more. */
export class HalfOpenProxy {
  readonly #server: Server
  readonly #pairs = new Set<[Socket, Socket]>()
  #silent = false

  private constructor(server: Server) {
    this.#server = server
  }

  static async start(target: { host: string; port: number }): Promise<HalfOpenProxy> {
    const server = createServer()
    const proxy = new HalfOpenProxy(server)
    server.on('connection', (near) => proxy.#join(near, connect(target)))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    return proxy
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  /** Connections that are there stay silent for good; new ones work again after `heal`. */
  silence(): void {
    this.#silent = true
    for (const pair of this.#pairs) for (const socket of pair) socket.removeAllListeners('data').pause()
  }

  heal(): void {
    this.#silent = false
  }

  async stop(): Promise<void> {
    this.#server.close()
    for (const pair of this.#pairs) for (const socket of pair) socket.destroy()
    await once(this.#server, 'close')
  }

  #join(near: Socket, far: Socket): void {
    const pair: [Socket, Socket] = [near, far]
    this.#pairs.add(pair)
    const isBorn = !this.#silent
    for (const [from, to] of [pair, [far, near] as const]) {
      if (isBorn) from.on('data', (chunk) => to.write(chunk))
      from.on('error', () => {})
      from.on('close', () => {
        this.#pairs.delete(pair)
        to.destroy()
      })
    }
  }
}
