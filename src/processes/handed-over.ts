import type { Worker } from 'node:cluster'

type Handle = { close(): void }
type Send = (message: unknown, handle?: unknown, ...rest: unknown[]) => boolean

/**
 * Breaks the connections that were on their way to a process when it died. Node's cluster keeps such a connection open
 * here without ever reading from it, and its client would wait for an answer for as long as it likes.
 *
 * It looks at the messages in which cluster hands connections over and hears that they have arrived. Should they look
 * otherwise in another version of Node, nothing is broken here; test/e2e/processes.test.ts finds the clients that hang.
 */
export function breakHandedOver({ process: child }: Worker, ended: Promise<unknown>): void {
  const underWay = new Map<number, Handle>()
  const send = child.send.bind(child) as Send
  const watched: Send = (message, handle, ...rest) => {
    const { act, seq } = message as { act?: string; seq?: number }
    if (act === 'newconn' && seq !== undefined && handle) underWay.set(seq, handle as Handle)
    return send(message, handle, ...rest)
  }
  child.send = watched
  child.on('internalMessage', ({ ack }: { ack?: number }) => {
    if (ack !== undefined) underWay.delete(ack)
  })
  void ended.then(() => {
    for (const handle of underWay.values()) handle.close()
    underWay.clear()
  })
}
