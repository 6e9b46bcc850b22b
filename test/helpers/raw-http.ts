import { connect } from 'node:net'

/** What came back over a connection, and whether the server was the one who closed it. */
export type RawAnswer = { text: string; statuses: number[]; hasReset: boolean }

/**
 * Sends bytes as they are and returns all that comes back until the server closes: say `connection: close` in the last
 * request. Each piece goes in a packet of its own.
 */
export function sendRaw(url: string, ...pieces: readonly (string | Buffer)[]): Promise<RawAnswer> {
  const { port } = new URL(url)
  return new Promise((resolve) => {
    const socket = connect({ port: Number(port), host: '127.0.0.1', noDelay: true })
    let text = ''
    let hasReset = false
    socket.on('data', (data) => (text += data.toString('latin1')))
    // A server that refuses what is still being sent resets the connection.
    socket.on('error', () => (hasReset = true))
    socket.on('close', () => resolve({ text, statuses: readStatuses(text), hasReset }))
    const send = ([piece, ...rest]: readonly (string | Buffer)[]): void => {
      if (piece !== undefined) socket.write(piece, () => setImmediate(send, rest))
    }
    socket.on('connect', () => send(pieces))
  })
}

/** The status of each answer on a connection, in order. */
export const readStatuses = (text: string): number[] =>
  [...text.matchAll(/HTTP\/1\.1 (\d{3}) /g)].map(([, status]) => Number(status))

/** A request in text; lines of `head` as they are given. */
export const raw = (line: string, head: readonly string[], body = ''): string =>
  `${[`${line} HTTP/1.1`, ...head].join('\r\n')}\r\n\r\n${body}`
